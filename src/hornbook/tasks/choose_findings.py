"""What is told of questions with options, whichever way a model chooses among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hornbook.data.choices import Question
from hornbook.errors import DataError
from hornbook.tasks.task import Finding, Metric

LOOKED_AT = 2000  # questions that are looked at before training


class Cut(Protocol):
    """An item. n_cut: tokens of it that were left out because it was too long."""

    @property
    def n_cut(self) -> int: ...


def refuse_empty(place: str, context: Sequence[int], options: Sequence[Sequence[int]]) -> None:
    """Raise DataError where a context or an option, as token ids, has none. place: of the row."""
    if not context or not all(options):
        raise DataError(
            f"{place}: the {'shortest option' if context else 'context'} comes to no token",
            hint="Remove the row, or look at its characters.",
        )


def right_ones(name: str, hits: np.ndarray) -> Metric:
    """The share of questions that are answered rightly. hits: (N,) of booleans."""
    statistics = np.stack([hits, np.ones_like(hits)], 1).astype(float)
    return Metric(name, statistics, of=lambda sums: sums[..., 0] / sums[..., 1])


def one_place(questions: Sequence[Question]) -> list[Finding]:
    """Whether the right option stands nearly always in one place."""
    places = np.bincount([question.answer for question in questions] or [0])
    share = places.max() / max(1, len(questions))
    if len(questions) < 20 or share < 0.9:
        return []
    return [
        Finding(
            "one-place",
            "note",
            f"option {places.argmax()} is the right one in {share:.0%} of questions",
            cost="none here, where options do not see one another; other programs learn the place",
            mend="shuffle the options before giving the data to others",
        )
    ]


def too_long(items: Sequence[Cut], max_tokens: int) -> list[Finding]:
    """What is not read of questions that are too long."""
    cut = [item for item in items if item.n_cut]
    if not cut:
        return []
    return [
        Finding(
            "truncation",
            "warn",
            f"{len(cut)} of {len(items)} questions are longer than {max_tokens} tokens; "
            f"{sum(item.n_cut for item in cut):,} tokens are not read",
            cost="contexts lose their beginning",
            mend="--set max_tokens=... up to the model's context",
        )
    ]
