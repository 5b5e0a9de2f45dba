"""How right tags are: entities as seqeval counts them, words by accuracy and macro-F1.

Each is a function of sums over texts, so that it can be computed again on any resample of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hornbook.data.bio import spans
from hornbook.tasks.task import Metric

MOST_NAMED = 12  # types of entities that get an F1 of their own

Tags = Sequence[Sequence[str]]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, 0 where there is nothing to divide by."""
    return np.divide(above, below, out=np.zeros(np.shape(below)), where=np.asarray(below) > 0)


def f1(sums: np.ndarray) -> np.ndarray:
    """sums (..., 3): hits, found, there -> F1 (...)."""
    return ratio(2 * sums[..., 0], sums[..., 1] + sums[..., 2])


def entity_metrics(true: Tags, guessed: Tags) -> list[Metric]:
    """F1, precision and recall over entities; one that is not wholly right, type too, is wrong.

    As seqeval by default, and conlleval: an I- that goes on with nothing begins an entity.
    """
    rows = [(set(spans(t)), set(spans(g))) for t, g in zip(true, guessed, strict=True)]
    types = sorted({s.label for t, g in rows for s in t | g})
    by_type = np.zeros((len(rows), len(types), 3))
    column = {name: i for i, name in enumerate(types)}
    for i, (t, g) in enumerate(rows):
        for k, found in enumerate((t & g, g, t)):
            for span in found:
                by_type[i, column[span.label], k] += 1
    counts = by_type.sum(1)
    named = types if 1 < len(types) <= MOST_NAMED else []
    return [
        Metric("F1", counts, f1),
        Metric("precision", counts, lambda sums: ratio(sums[..., 0], sums[..., 1])),
        Metric("recall", counts, lambda sums: ratio(sums[..., 0], sums[..., 2])),
        *(Metric(f"F1 {name}", by_type[:, column[name]], f1) for name in named),
    ]


def word_accuracy(true: Tags, guessed: Tags) -> Metric:
    """The share of words with the right tag."""
    counts = [
        (sum(a == b for a, b in zip(t, g, strict=True)), len(t))
        for t, g in zip(true, guessed, strict=True)
    ]
    return Metric(
        "accuracy",
        np.array(counts, float).reshape(-1, 2),
        lambda sums: ratio(sums[..., 0], sums[..., 1]),
    )


def macro_f1(true: Tags, guessed: Tags, label_names: Sequence[str]) -> Metric:
    """The mean over tags of each one's F1 over words, as scikit-learn's.

    label_names: all that may be guessed. They are the columns, whatever was guessed: so that a
    column is the same tag's for two models, and they can be exchanged for one another.
    """
    unknown = {tag for row in true for tag in row} - set(label_names)
    names = [*sorted(label_names), *sorted(unknown)]
    column = {name: i for i, name in enumerate(names)}
    counts = np.zeros((len(true), 3, len(names)))
    for i, (t, g) in enumerate(zip(true, guessed, strict=True)):
        for a, b in zip(t, g, strict=True):
            counts[i, 0, column[a]] += a == b
            counts[i, 1, column[b]] += 1
            counts[i, 2, column[a]] += 1

    def mean(sums: np.ndarray) -> np.ndarray:
        by_tag = sums.reshape(*sums.shape[:-1], 3, len(names)).swapaxes(-1, -2)
        seen = by_tag.sum(-1) > 0  # a tag that a resample has not does not count there
        return ratio(np.where(seen, f1(by_tag), 0).sum(-1), seen.sum(-1))

    return Metric("macro F1", counts.reshape(len(true), -1), mean)
