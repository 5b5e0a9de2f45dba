"""Scores of predicted against true labels, both as boolean matrices.

They equal scikit-learn's with `zero_division=0` and all labels named: macro-F1 is the mean over
every label of the problem, also one that no text carries. A single-label problem is the special
case of one True a row; there micro-F1 and accuracy are the same number.

Letters in shapes: N documents, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hornbook.errors import DataError


@dataclass(frozen=True)
class Scores:
    """The four numbers of a leaderboard, each in 0..1. accuracy: share of exactly right rows."""

    micro_f1: float
    macro_f1: float
    weighted_f1: float
    accuracy: float


@dataclass(frozen=True)
class LabelTable:
    """One entry a label, each (L,): precision, recall, F1 and the number of true documents."""

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray


def score(targets: np.ndarray, predictions: np.ndarray) -> Scores:
    """Score predictions (N, L) bool against targets (N, L) bool.

    Raises DataError when they are not boolean matrices of one shape, or have no row.
    """
    targets, predictions = _checked(targets, predictions)
    table = label_table(targets, predictions)
    support = table.support.sum()
    return Scores(
        micro_f1=float(f1_of_counts(document_counts(targets, predictions).sum(0))),
        macro_f1=float(table.f1.mean()),
        weighted_f1=float(table.f1 @ table.support / support) if support else 0.0,
        accuracy=float((targets == predictions).all(axis=1).mean()),
    )


def label_table(targets: np.ndarray, predictions: np.ndarray) -> LabelTable:
    """Precision, recall, F1 and support of each label; 0 where a denominator is 0."""
    targets, predictions = _checked(targets, predictions)
    hits = (targets & predictions).sum(0)
    given, support = predictions.sum(0), targets.sum(0)
    return LabelTable(
        precision=_ratio(hits, given),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, given + support),
        support=support,
    )


def document_counts(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Each document's true positives, false positives and false negatives: (N, 3) int."""
    targets, predictions = _checked(targets, predictions)
    hits = (targets & predictions).sum(1)
    return np.stack([hits, predictions.sum(1) - hits, targets.sum(1) - hits], axis=1)


def f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """F1 of summed true positives, false positives, false negatives: (..., 3) -> (...)."""
    hits, false, missed = counts[..., 0], counts[..., 1], counts[..., 2]
    return _ratio(2 * hits, 2 * hits + false + missed)


def confusion_counts(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """How often a document lacks its label i and is wrongly given label j: (L, L) int."""
    targets, predictions = _checked(targets, predictions)
    missed = (targets & ~predictions).astype(np.float64)
    false = (predictions & ~targets).astype(np.float64)
    return np.rint(missed.T @ false).astype(np.int64)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(
        numerator, denominator, out=np.zeros(np.shape(numerator), float), where=denominator != 0
    )


def _checked(targets: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    targets, predictions = np.asarray(targets), np.asarray(predictions)
    for name, matrix in (("targets", targets), ("predictions", predictions)):
        if matrix.ndim != 2 or matrix.dtype != np.bool_:
            raise DataError(
                f"{name} must be a boolean matrix (documents, labels), "
                f"not {matrix.dtype} of shape {matrix.shape}",
                hint="Make one from labelled texts with hornbook.data.examples.targets_of, "
                "and from scores with the decision layer.",
            )
    if targets.shape != predictions.shape or not len(targets):
        raise DataError(
            f"targets {targets.shape} and predictions {predictions.shape} must have one shape "
            "and at least one row",
            hint="Score the same documents, in the same order, with the same label names.",
        )
    return targets, predictions
