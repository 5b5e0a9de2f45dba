"""Claim: MiniLM in int8 encodes at least 1.2x as fast as onnxruntime's int8, with every cosine to
the float32 vectors at least .99.

    python benchmarks/encoding_int8.py [--texts 1000] [--rounds 3]

Same weights, same texts, same process; turns, medians. The peer is what sentence-transformers'
documentation advises for processors: the model exported to ONNX, its matrices by onnxruntime's
dynamic quantisation (`quantize_dynamic`, QInt8, a scale a channel), batches of 32 sorted by length.
Needs: pip install 'hornbook[bench,bench-peers]'.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from claims import at_least
from corpus import stories
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers import AutoModel, AutoTokenizer

from hornbook.embeddings.encoder import TextEncoder
from hornbook.interop.catalogue import find_model

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CLAIM, COSINE = 1.2, 0.99


class Hidden(torch.nn.Module):
    """The model as a function of tensors, which is what ONNX knows."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.model(**dict(zip(INPUTS, inputs, strict=True))).last_hidden_state


def onnx_encoder(folder: str, scratch: Path) -> Callable[[list[str]], np.ndarray]:
    """The peer: texts -> unit vectors (N, 384)."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    example = tokenizer(["some words", "others"], padding=True, return_tensors="pt")
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            Hidden(model),
            tuple(example[name] for name in INPUTS),
            str(scratch / "model.onnx"),
            input_names=list(INPUTS),
            output_names=["hidden"],
            dynamic_axes={name: {0: "batch", 1: "tokens"} for name in (*INPUTS, "hidden")},
            opset_version=17,
            dynamo=False,
        )
    quantize_dynamic(
        scratch / "model.onnx", scratch / "int8.onnx", per_channel=True, weight_type=QuantType.QInt8
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(
        scratch / "int8.onnx", options, providers=["CPUExecutionProvider"]
    )

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        vectors = np.empty((len(texts), model.config.hidden_size), np.float32)
        for start in range(0, len(texts), 32):
            rows = order[start : start + 32]
            batch = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="np",
            )
            hidden = session.run(["hidden"], {name: batch[name] for name in INPUTS})[0]
            mask = batch["attention_mask"][:, :, None]
            mean = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    return encode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    what, texts = stories(arguments.texts)
    with tempfile.TemporaryDirectory() as scratch:
        contenders = {
            "onnxruntime, int8": onnx_encoder(str(find_model("minilm")), Path(scratch)),
            "hornbook, int8": TextEncoder.open("minilm", precision="int8").encode,
        }
        reference = TextEncoder.open("minilm", precision="float32").encode(texts)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        vectors: dict[str, np.ndarray] = {}
        for encode in contenders.values():  # the first call builds kernels
            encode(texts[:32])
        for _ in range(arguments.rounds):
            for name, encode in contenders.items():
                start = time.perf_counter()
                vectors[name] = encode(texts)
                seconds[name].append(time.perf_counter() - start)
    print(f"{what}; {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    print(f"{'':24}{'texts/s':>9}{'cosine, least':>15}{'mean':>9}")
    for name in contenders:
        cosine = (vectors[name] * reference).sum(1)
        speed = len(texts) / statistics.median(seconds[name])
        print(f"{name:24}{speed:9.1f}{cosine.min():15.5f}{cosine.mean():9.5f}")
    theirs, ours = (seconds[name] for name in contenders)
    ratio = statistics.median(t / o for t, o in zip(theirs, ours, strict=True))
    least = (vectors["hornbook, int8"] * reference).sum(1).min()
    at_least("MiniLM in 8 bits, times onnxruntime's", ratio, CLAIM)
    at_least("MiniLM in 8 bits, least cosine", float(least), COSINE, digits=4)


if __name__ == "__main__":
    main()
