"""Claim: our encoder is at least 4x sentence-transformers at its defaults, 1.3x its bfloat16, with
every cosine to its float32 vectors at least .9999 in float32, .999 in a reduced precision.

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
from claims import at_least
from corpus import stories
from sentence_transformers import SentenceTransformer

from hornbook.data.open import open_dataset
from hornbook.embeddings.encoder import TextEncoder
from hornbook.interop.catalogue import find_model
from hornbook.nn.precision import choose_precision

PEERS = ("sentence-transformers, default", "sentence-transformers, bfloat16")


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
    for precision in ("float32", "int8"):
        encoder = TextEncoder.open("minilm", precision=precision)
        contenders[f"hornbook, {precision}"] = encoder.encode
        if encoder.kernel:
            print(f"int8 by {encoder.kernel.name}: {encoder.kernel.reason}")
    if what.endswith("reuters"):  # what a user gains who shows int8 texts of the kind to come
        train = open_dataset("reuters").train
        shown = [example.document.full for example in train[:: len(train) // 64]]
        encoder = TextEncoder.open("minilm", precision="int8", calibration=shown)
        contenders["hornbook, int8 that saw training texts"] = encoder.encode
    if chosen.dtype == "bfloat16":
        contenders["hornbook, bfloat16"] = TextEncoder.open("minilm", precision="bfloat16").encode

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
    print(f"{'':40}{'texts/s':>9}{'cosine, least':>15}{'mean':>9}")
    for name in contenders:
        cosine = (vectors[name] * reference).sum(1)
        cosine /= np.linalg.norm(vectors[name], axis=1) * np.linalg.norm(reference, axis=1)
        print(f"{name:40}{speed[name]:9.1f}{cosine.min():15.6f}{cosine.mean():9.6f}")
    for name in contenders:
        if name.startswith("hornbook"):
            default, bfloat16 = (
                statistics.median(t / o for t, o in zip(seconds[peer], seconds[name], strict=True))
                for peer in PEERS
            )
            at_least(f"{name}, times sentence-transformers' default", default, 4)
            at_least(f"{name}, times its bfloat16", bfloat16, 1.3)


if __name__ == "__main__":
    main()
