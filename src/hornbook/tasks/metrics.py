"""Metrics of labels and of numbers, as sums that can be taken again on any resample.

They equal scikit-learn's with all labels named and `zero_division=0`, and scipy's correlations.
Letters in shapes: N examples, L labels; sums may have further axes in front, (..., K).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hornbook.tasks.task import Metric


def single_label_metrics(
    targets: np.ndarray, predicted: np.ndarray, label_names: Sequence[str]
) -> list[Metric]:
    """Accuracy, macro-F1, Matthews' correlation and, of two labels, the F1 of the second.

    targets, predicted: (N,) numbers of labels; a target below 0 is a label that there is not.
    """
    n_labels = len(label_names)
    given, true = _one_hot(predicted, n_labels), _one_hot(targets, n_labels)
    metrics = [accuracy(predicted == targets), macro_f1(true, given), matthews(true, given)]
    if n_labels == 2:
        metrics.insert(1, f1_of(f"f1_{label_names[1]}", true[:, 1:], given[:, 1:]))
    return metrics


def multi_label_metrics(targets: np.ndarray, predicted: np.ndarray) -> list[Metric]:
    """Micro-, macro- and samples-F1, and how many are right in all labels. Both: (N, L) bool."""
    right = (targets == predicted).all(1)
    return [
        f1_of("micro_f1", targets, predicted),
        macro_f1(targets, predicted),
        samples_f1(targets, predicted),
        accuracy(right),
    ]


def regression_metrics(targets: np.ndarray, predicted: np.ndarray) -> list[Metric]:
    """Pearson's and Spearman's correlation and the mean squared error of numbers (N,)."""
    both = np.stack([targets, predicted], axis=1).astype(np.float64)
    error = np.stack([(both[:, 0] - both[:, 1]) ** 2, np.ones(len(both))], axis=1)
    return [
        pearson(both),
        Metric("spearman", both, of_rows=_spearman),
        Metric("mean_squared_error", error, of=_mean, higher_is_better=False),
    ]


def accuracy(right: np.ndarray) -> Metric:
    """The share that is right. right: (N,) bool."""
    rows = np.stack([right, np.ones(len(right))], axis=1).astype(np.float64)
    return Metric("accuracy", rows, of=_mean)


def f1_of(name: str, targets: np.ndarray, predicted: np.ndarray) -> Metric:
    """F1 of all decisions of (N, L) bool together."""
    hits = (targets & predicted).sum(1)
    rows = np.stack([hits, predicted.sum(1), targets.sum(1)], axis=1).astype(np.float64)
    return Metric(name, rows, of=lambda s: _ratio(2 * s[..., 0], s[..., 1] + s[..., 2]))


def macro_f1(targets: np.ndarray, predicted: np.ndarray) -> Metric:
    """The mean over labels of their F1; 0 for a label that nobody has or gives. (N, L) bool."""
    n_labels = targets.shape[1]
    rows = np.concatenate([targets & predicted, predicted, targets], axis=1).astype(np.float32)

    def of(sums: np.ndarray) -> np.ndarray:
        hits, given, true = (sums[..., i * n_labels : (i + 1) * n_labels] for i in range(3))
        return _ratio(2 * hits, given + true).mean(-1)

    return Metric("macro_f1", rows, of=of)


def samples_f1(targets: np.ndarray, predicted: np.ndarray) -> Metric:
    """The mean over examples of their own F1. (N, L) bool."""
    f1 = _ratio(2 * (targets & predicted).sum(1), targets.sum(1) + predicted.sum(1))
    return Metric("samples_f1", np.stack([f1, np.ones(len(f1))], axis=1), of=_mean)


def matthews(targets: np.ndarray, predicted: np.ndarray) -> Metric:
    """Matthews' correlation of (N, L) one-hot rows (Gorodkin 2004): 0 by chance, 1 if all is right.

    It is the metric of CoLA, where accuracy flatters whoever says the frequent label.
    """
    n_labels = targets.shape[1]
    hits = (targets & predicted).any(1)[:, None]
    ones = np.ones((len(targets), 1))
    rows = np.concatenate([hits, ones, predicted, targets], axis=1).astype(np.float64)

    def of(sums: np.ndarray) -> np.ndarray:
        right, n = sums[..., 0], sums[..., 1]
        given, true = sums[..., 2 : 2 + n_labels], sums[..., 2 + n_labels :]
        above = right * n - (given * true).sum(-1)
        below = (n**2 - (given**2).sum(-1)) * (n**2 - (true**2).sum(-1))
        return _ratio(above, np.sqrt(np.maximum(below, 0)))

    return Metric("matthews", rows, of=of)


def pearson(both: np.ndarray) -> Metric:
    """Pearson's correlation of the two columns of (N, 2).

    The columns are centred and scaled before they are summed, so that nothing is lost by squares.
    """
    deviation = both.std(0)
    x, y = ((both - both.mean(0)) / np.where(deviation > 0, deviation, 1.0)).T
    rows = np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1)

    def of(sums: np.ndarray) -> np.ndarray:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        below = np.maximum((n * xx - x * x) * (n * yy - y * y), 0)
        # Equal numbers have no correlation; rounding leaves some 1e-10 of their variance.
        return _ratio(n * xy - x * y, np.sqrt(np.where(below > 1e-9 * n**4, below, 0.0)))

    return Metric("pearson", rows, of=of)


def _spearman(both: np.ndarray) -> float:
    from scipy.stats import rankdata

    ranks = np.stack([rankdata(column) for column in both.T], axis=1)
    return float(pearson(ranks).value)


def _one_hot(numbers: np.ndarray, n_labels: int) -> np.ndarray:
    return np.asarray(numbers)[:, None] == np.arange(n_labels)


def _mean(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums[..., 0], sums[..., 1])


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)
