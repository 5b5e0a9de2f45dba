"""The pairs of vectors that are most alike, of all pairs, in the memory of a few rows."""

from __future__ import annotations

import numpy as np

BLOCK = 512  # rows that are compared with all others at once


def most_alike(vectors: np.ndarray, k: int, *, block: int = BLOCK) -> list[tuple[int, int, float]]:
    """The k pairs (first, second, cosine) with the highest cosine, the highest first.

    vectors: (N, E) of length 1. Of equal pairs the one that comes first. Memory: `block` rows of N.
    """
    n = len(vectors)
    firsts = seconds = np.zeros(0, np.int64)
    best = np.zeros(0, vectors.dtype)
    for start in range(0, n - 1, block):
        rows = vectors[start : start + block]
        cosines = rows @ vectors[start:].T
        cosines[np.tril_indices(len(rows), m=cosines.shape[1])] = -np.inf  # each pair once
        flat = cosines.ravel()
        n_pairs = len(rows) * (2 * cosines.shape[1] - len(rows) - 1) // 2
        least = np.partition(flat, -min(k, n_pairs))[-min(k, n_pairs)]
        places = np.flatnonzero(flat >= least)
        first, second = np.divmod(places, cosines.shape[1])
        best = np.concatenate([best, flat[places]])
        firsts = np.concatenate([firsts, first + start])
        seconds = np.concatenate([seconds, second + start])
        kept = np.argsort(-best, kind="stable")[:k]
        best, firsts, seconds = best[kept], firsts[kept], seconds[kept]
    return [(int(i), int(j), float(c)) for i, j, c in zip(firsts, seconds, best, strict=True)]
