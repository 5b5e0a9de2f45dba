"""How sure a score is: bootstrap over documents, paired tests against the leader, Holm correction.

Documents are drawn with replacement (Efron & Tibshirani 1993, chapters 13 and 16), and every
system is scored on the same draws, so that differences are paired. Where a system was run several
times, each draw's score is the mean over its runs, as the leaderboard's score is.

Letters in shapes: N documents, S systems, K repeats, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hornbook.evaluation.metrics import f1_of_counts

RESAMPLES = 2000
_CHUNK = 1 << 22  # drawn documents held at a time


def bootstrap_micro_f1(
    counts: Sequence[np.ndarray], *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Micro-F1 of each system on each resample: (R, S).

    counts: a system each, (K, N, 3) true positives, false positives and false negatives of each
    document in each of its K repeats; K may differ between systems, N may not.
    """
    n_documents = counts[0].shape[1]
    flat = np.concatenate([np.moveaxis(c, 1, 0).reshape(n_documents, -1) for c in counts], axis=1)
    flat = flat.astype(np.float32)  # counts of a few thousand documents: exact below 2**24
    drawn = draws(n_documents, resamples=resamples, seed=seed)
    sums = np.concatenate([weights @ flat for weights in drawn]).astype(np.float64)
    f1 = f1_of_counts(sums.reshape(resamples, -1, 3))  # (R, sum of K)
    ends = np.cumsum([len(c) for c in counts])[:-1]
    return np.stack([part.mean(1) for part in np.split(f1, ends, axis=1)], axis=1)


def draws(n_documents: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Iterator[np.ndarray]:
    """How often each of `resamples` draws holds each document, in parts: (rows, N) float32, each
    row summing to N. The same seed draws the same."""
    rng = np.random.default_rng(seed)
    step = max(1, _CHUNK // n_documents)
    for start in range(0, resamples, step):
        yield _weights(rng, min(step, resamples - start), n_documents)


def interval(samples: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrapped scores (R,)."""
    tail = (1 - level) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def paired_p_value(leader: np.ndarray, other: np.ndarray) -> float:
    """Two-sided p-value that two systems score alike, from their scores on the same resamples (R,).

    Twice the smaller share of resamples on one side of zero, with one added to each count, so that
    it is never 0.
    """
    difference = leader - other
    n = len(difference)
    smaller = min((difference <= 0).sum(), (difference >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (n + 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction for several tests; in the order given."""
    n = len(p_values)
    corrected = [0.0] * n
    highest = 0.0
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (n - rank) * p_values[i]))
        corrected[i] = highest
    return corrected


def _weights(rng: np.random.Generator, rows: int, n_documents: int) -> np.ndarray:
    """How often each resample holds each document: (rows, N) float32, each row summing to N."""
    drawn = rng.integers(0, n_documents, size=(rows, n_documents))
    drawn += np.arange(rows)[:, None] * n_documents
    counted = np.bincount(drawn.ravel(), minlength=rows * n_documents)
    return counted.reshape(rows, n_documents).astype(np.float32)
