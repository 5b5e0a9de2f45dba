"""Rows dealt into folds so that every label, the rare ones first, is spread evenly."""

from __future__ import annotations

import numpy as np


def deal_folds(targets: np.ndarray, n_folds: int, seed: int) -> np.ndarray:
    """The fold (N,) of each row, for targets (N, L) bool.

    The rows of the rarest label are dealt first, each to the fold that is the smallest so far; then
    the next label's that are still in hand, and so on (in the manner of Sechidis et al. 2011).
    """
    rng = np.random.default_rng(seed)
    n_rows = len(targets)
    folds = np.full(n_rows, -1)
    sizes = np.zeros(n_folds, int)
    counts = targets.sum(axis=0)
    groups = [targets[:, j] for j in np.argsort(counts, kind="stable") if counts[j]]
    for members in [*groups, np.ones(n_rows, bool)]:
        rows = rng.permutation(np.flatnonzero(members & (folds < 0)))
        already = np.bincount(folds[members & (folds >= 0)], minlength=n_folds)
        for row in rows:
            fold = np.lexsort((rng.random(n_folds), sizes, already))[0]
            folds[row] = fold
            already[fold] += 1
            sizes[fold] += 1
    return folds
