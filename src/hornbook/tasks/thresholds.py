"""Thresholds with the greatest F1: one for all labels, or one a label from its probabilities.

Letters in shapes: M held-out rows, L labels, K values.
"""

from __future__ import annotations

import numpy as np


def global_threshold(values: np.ndarray, targets: np.ndarray, *, at_least_one: bool) -> float:
    """The one threshold for all labels with the greatest micro-F1: exact, not from a grid.

    values: (M, L). targets: (M, L) bool. at_least_one: the top label of each row is given anyway,
    so that only the others are in question. It lies midway between two different values, or just
    above all in question.
    """
    n_true, sure_hits, n_sure = int(targets.sum()), 0, 0
    asked = np.ones(values.shape, bool)
    if at_least_one:
        rows, top = np.arange(len(values)), values.argmax(axis=1)
        asked[rows, top] = False
        sure_hits, n_sure = int(targets[rows, top].sum()), len(values)
    values, targets = values[asked], targets[asked]
    if not values.size:
        return 0.0

    def f1(hits: np.ndarray, n_given: np.ndarray) -> np.ndarray:
        return 2 * (sure_hits + hits) / np.maximum(n_sure + n_given + n_true, 1)

    # With n labels given F1 is at most 2 * n_true / (n + n_true), so that long lists cannot win
    # against what a list of the true length reaches: they need not be sorted.
    _, hits = _top(values, targets, max(n_true - n_sure, 0))
    reached = float(f1(hits.sum(), np.array(hits.size)))
    n_worth = int(n_true * (2 / reached - 1)) - n_sure + 1 if reached else values.size
    values, targets = _top(values, targets, n_worth + 1)
    gain = f1(np.concatenate([[0], np.cumsum(targets)]), np.arange(values.size + 1))
    gain[np.flatnonzero(values[:-1] == values[1:]) + 1] = -1.0  # nothing cuts between equals
    n = int(gain.argmax())
    if n == 0:
        return float(np.nextafter(values[0], np.inf))
    if n == values.size:
        return float(values[-1])
    # The mean of two neighbouring floats may round to the lower one, which must stay out.
    middle = (values[n - 1] + values[n]) / 2
    return float(middle if middle > values[n] else values[n - 1])


def expected_f1_thresholds(probabilities: np.ndarray) -> np.ndarray:
    """Per label the threshold with the greatest expected F1; (L,) for probabilities (M, L).

    The best threshold is half of the F1 that it reaches (Lipton et al. 2014): raising it to that
    half again and again is Dinkelbach's method for a ratio, which climbs to the maximum. A label
    of which little is certain gets a low threshold; no target is looked at, so none is overfitted.
    """
    expected = probabilities.sum(axis=0)
    thresholds = np.zeros(probabilities.shape[1])
    for _ in range(50):
        given = probabilities >= thresholds
        hits = np.einsum("ij,ij->j", probabilities, given)
        f1 = 2 * hits / np.maximum(given.sum(axis=0) + expected, 1e-300)
        if np.abs(f1 / 2 - thresholds).max() < 1e-6:
            break
        thresholds = f1 / 2
    return thresholds


def _top(values: np.ndarray, targets: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The n greatest of values (K,) and all that tie with the last, falling; and their targets."""
    if n <= 0:
        return values[:0], targets[:0]
    if n < values.size:
        keep = values >= np.partition(values, values.size - n)[values.size - n]
        values, targets = values[keep], targets[keep]
    order = np.argsort(-values, kind="stable")
    return values[order], targets[order]
