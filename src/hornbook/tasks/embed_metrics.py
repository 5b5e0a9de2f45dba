"""How good vectors of texts are: by people's scores, by triplets, by which text comes first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from hornbook.data.alike import Alike, Form
from hornbook.tasks.metrics import regression_metrics
from hornbook.tasks.task import Metric


def embed_metrics(
    form: Form,
    examples: Sequence[Alike],
    predictions: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
) -> list[Metric]:
    """Of scores the correlations of Spearman and Pearson, at each of `sizes` too; of triplets how
    often the alike is nearer; of pairs how often the second text comes first, and the mean of 1 /
    place."""
    if form == "scored":
        scores = np.array([one.score for one in examples])
        found = _correlations(scores, [one["cosine"] for one in predictions])
        for size in sizes:
            cut = _correlations(scores, [one["at"][str(size)] for one in predictions])
            found.append(Metric(f"spearman_{size}", cut[0].statistics, of_rows=cut[0].of_rows))
        return found
    if form == "triplets":
        right = [float(one["cosine"] > one["negative"]) for one in predictions]
        return [_mean("accuracy", right)]
    places = [one["place"] for one in predictions]
    firsts = [float(place == 1) for place in places]
    return [_mean("mrr", [1 / place for place in places]), _mean("accuracy_at_1", firsts)]


def places(columns: Sequence[Tensor], seconds: Sequence[list[int]]) -> list[int]:
    """Where each second text stands among all that differ, by their cosines with the first."""
    known: dict[tuple[int, ...], int] = {}
    numbers = [known.setdefault(tuple(text), i) for i, text in enumerate(seconds)]
    different = columns[1][sorted(set(numbers))]
    found: list[int] = []
    for first, own in zip(columns[0].split(1024), columns[1][numbers].split(1024), strict=True):
        better = first @ different.T > (first * own).sum(-1, keepdim=True) + 1e-6
        found += (better.sum(-1) + 1).tolist()
    return found


def _correlations(scores: np.ndarray, cosines: Sequence[float]) -> list[Metric]:
    by_name = {metric.name: metric for metric in regression_metrics(scores, np.array(cosines))}
    return [by_name["spearman"], by_name["pearson"]]


def _mean(name: str, values: Sequence[float]) -> Metric:
    rows = np.array([[value, 1.0] for value in values]).reshape(-1, 2)
    return Metric(name, rows, of=lambda s: s[..., 0] / np.maximum(s[..., 1], 1))
