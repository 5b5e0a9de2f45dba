"""What is said of a model and held-out preferences: metrics of predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hornbook.tasks.task import Metric

Prediction = Mapping[str, Any]


def mean(name: str, values: np.ndarray, *, higher_is_better: bool = True) -> Metric:
    """The mean over examples (N,)."""
    statistics = np.stack([values, np.ones_like(values)], 1)
    return Metric(name, statistics, of=_ratio, higher_is_better=higher_is_better)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def won(differences: np.ndarray) -> np.ndarray:
    """1 where the chosen is ahead, 0 where it is behind, a half where they are equal: (N,)."""
    return (np.sign(differences) + 1) / 2


def of_pairs(predictions: Sequence[Prediction]) -> list[Metric]:
    """Of models that tell how likely both answers are.

    accuracy: the chosen answer is likelier a token than the rejected one. Where the reference is
    known also: reward accuracy, the chosen one has gained more than the other (a half at the
    start, where nothing has); margin, by how many nats a token; kl, how far the model is from the
    reference along the chosen answers, nats a sequence.
    """
    chosen, rejected = _column(predictions, "chosen"), _column(predictions, "rejected")
    n_chosen, n_rejected = _column(predictions, "n_chosen"), _column(predictions, "n_rejected")
    found = [mean("accuracy", won(chosen / n_chosen - rejected / n_rejected))]
    if all("kl" in p for p in predictions):
        gain = chosen - _column(predictions, "reference_chosen")
        loss = rejected - _column(predictions, "reference_rejected")
        found += [
            mean("reward accuracy", won(gain - loss)),
            mean("margin", gain / n_chosen - loss / n_rejected),
            mean("kl", _column(predictions, "kl"), higher_is_better=False),
        ]
    return found


def of_judged(good: np.ndarray, predictions: Sequence[Prediction]) -> list[Metric]:
    """Of answers that stand alone; good: (N,) of 0 and 1.

    order: how often a good answer has gained more than a bad one, over all such pairs (the area
    under the curve of Receiver Operating Characteristics), without a reference how often it is
    likelier a token. margin: by how many nats a token on average. kl: as of pairs.
    """
    n_tokens = _column(predictions, "n_tokens")
    known = all("kl" in p for p in predictions)
    before = _column(predictions, "reference") if known else 0.0
    gains = (_column(predictions, "log_prob") - before) / n_tokens
    rows = np.stack([gains, good], 1)
    found = [Metric("order", rows, of_rows=_order)]
    if known:
        kl = mean("kl", _column(predictions, "kl"), higher_is_better=False)
        found += [Metric("margin", rows, of_rows=_gap), kl]
    return found


def of_rewards(predictions: Sequence[Prediction]) -> list[Metric]:
    """Of a reward model: accuracy, the chosen answer's reward is higher; margin, by how much."""
    margins = _column(predictions, "chosen") - _column(predictions, "rejected")
    return [mean("accuracy", won(margins)), mean("margin", margins)]


def _column(predictions: Sequence[Prediction], name: str) -> np.ndarray:
    return np.array([p[name] for p in predictions], float)


def _order(rows: np.ndarray) -> float:
    """Good against bad over all pairs, ties a half; nan without one of either."""
    good, bad = rows[rows[:, 1] > 0, 0], np.sort(rows[rows[:, 1] == 0, 0])
    if not len(good) or not len(bad):
        return float("nan")
    below = (np.searchsorted(bad, good) + np.searchsorted(bad, good, side="right")) / 2
    return float(below.mean() / len(bad))


def _gap(rows: np.ndarray) -> float:
    good, bad = rows[rows[:, 1] > 0, 0], rows[rows[:, 1] == 0, 0]
    return float(good.mean() - bad.mean()) if len(good) and len(bad) else float("nan")
