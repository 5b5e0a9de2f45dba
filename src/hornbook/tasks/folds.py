"""Rows dealt into folds so that every label, the rare ones first, is spread evenly."""

from __future__ import annotations

import numpy as np


def deal_folds(
    targets: np.ndarray, n_folds: int, seed: int, groups: np.ndarray | None = None
) -> np.ndarray:
    """The fold (N,) of each row, for targets (N, L) bool; no fold below the highest is empty.

    groups: a number for each row (N,); rows of one number, near-duplicates, come into one fold.
    The groups of the rarest label are dealt first, the large ones before the small, each to the
    fold that has the fewest of it so far; then the next label's that are still in hand, and so on
    (in the manner of Sechidis et al. 2011).
    """
    rng = np.random.default_rng(seed)
    n_rows = len(targets)
    group = np.arange(n_rows)
    if groups is not None:
        group = np.unique(groups, return_inverse=True)[1]
    size = np.bincount(group)
    members = targets[np.argsort(group, kind="stable")]
    # Of each label in each group: (groups, L).
    counts = np.add.reduceat(members, np.cumsum(size) - size, axis=0, dtype=int)
    folds = np.full(len(size), -1)
    sizes = np.zeros(n_folds, int)
    per_label = targets.sum(axis=0)
    columns = [counts[:, j] for j in np.argsort(per_label, kind="stable") if per_label[j]]
    for column in [*columns, size]:
        in_hand = rng.permutation(np.flatnonzero((column > 0) & (folds < 0)))
        in_hand = in_hand[np.argsort(-size[in_hand], kind="stable")]
        dealt = folds >= 0
        already = np.bincount(folds[dealt], weights=column[dealt], minlength=n_folds)
        for i in in_hand:
            fold = np.lexsort((rng.random(n_folds), sizes, already))[0]
            folds[i] = fold
            already[fold] += column[i]
            sizes[fold] += size[i]
    return np.unique(folds[group], return_inverse=True)[1]
