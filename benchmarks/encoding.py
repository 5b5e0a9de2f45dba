"""Claim: our encoder is at least 4x sentence-transformers at its defaults, 1.3x its bfloat16.

    python benchmarks/encoding.py [--texts 1000] [--rounds 3]

Same weights (MiniLM), same texts, same process; the contenders take turns, each round encodes all
texts once by each, and medians are compared. Cosines are to sentence-transformers' float32 vectors.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from corpus import stories
from sentence_transformers import SentenceTransformer

from hornbook.embeddings.encoder import TextEncoder
from hornbook.interop.catalogue import find_model
from hornbook.nn.precision import Precision, choose_precision


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    what, texts = stories(arguments.texts)
    chosen = choose_precision()
    print(f"{what}; {torch.get_num_threads()} threads; chosen: {chosen.dtype} ({chosen.reason})")

    folder = str(find_model("minilm"))
    theirs = SentenceTransformer(folder, device="cpu")
    theirs_bfloat16 = SentenceTransformer(
        folder, device="cpu", model_kwargs={"dtype": torch.bfloat16}
    )
    contenders: dict[str, Callable[[list[str]], np.ndarray]] = {
        "sentence-transformers, default": lambda t: theirs.encode(t),
        "sentence-transformers, bfloat16": lambda t: (
            theirs_bfloat16.encode(t, convert_to_tensor=True).float().numpy()
        ),
    }
    for dtype in ("float32", "bfloat16"):
        encoder = TextEncoder.open("minilm", precision=Precision("cpu", dtype, "benchmark"))
        contenders[f"hornbook, {dtype}"] = encoder.encode

    for encode in contenders.values():  # the first call builds kernels
        encode(texts[:32])
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, np.ndarray] = {}
    for _ in range(arguments.rounds):
        for name, encode in contenders.items():
            start = time.perf_counter()
            vectors[name] = encode(texts)
            seconds[name].append(time.perf_counter() - start)

    reference = vectors["sentence-transformers, default"]
    speed = {name: len(texts) / statistics.median(s) for name, s in seconds.items()}
    print(f"{'':34}{'texts/s':>9}{'cosine, least':>15}{'mean':>9}")
    for name in contenders:
        cosine = (vectors[name] * reference).sum(1)
        cosine /= np.linalg.norm(vectors[name], axis=1) * np.linalg.norm(reference, axis=1)
        print(f"{name:34}{speed[name]:9.1f}{cosine.min():15.6f}{cosine.mean():9.6f}")
    ours = speed[f"hornbook, {chosen.dtype}"]
    print(f"ratio to the default:  {ours / speed['sentence-transformers, default']:.2f} (claim: 4)")
    print(
        f"ratio to its bfloat16: {ours / speed['sentence-transformers, bfloat16']:.2f} (claim: 1.3)"
    )


if __name__ == "__main__":
    main()
