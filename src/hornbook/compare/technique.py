"""What a technique is: the one interface behind which TF-IDF and a transformer look alike.

A technique learns from labelled documents within a budget of wall-clock seconds and gives each
document a score per label. It never decides: turning scores into labels is `tasks.decision`'s
work, the same for all. It never sees a test label: the process it runs in is not given them.

Letters in shapes: N documents, L labels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np

from hornbook.data.examples import Document, Labelled, Problem


@dataclass(frozen=True)
class Budget:
    """Wall-clock seconds for everything `fit` does: tuning and pretraining included."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def remaining(self) -> float:
        return self.seconds - self.elapsed()


@dataclass(frozen=True)
class HeldOut:
    """Scores of documents that the scorer had not learnt from.

    rows: (M,) indices into train followed by validation; holds every validation row.
    scores: (M, L) float32, higher means more likely. Any scale: calibration comes later.
    """

    rows: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Member:
    """An already fitted technique, as the ensemble sees it: saved model and held-out scores.

    probabilities: (M, L) held-out scores after the decision layer's calibration, row by row of
    `held_out.rows`.
    """

    name: str
    model_folder: Path
    held_out: HeldOut
    probabilities: np.ndarray


def _silent(stage: str, validation_score: float | None = None) -> None:
    """Report to nobody: the default for tests and for use from Python."""


@dataclass(frozen=True)
class Context:
    """What a technique is told besides the data.

    report: call it with a short stage ("encoding", "epoch 2/3") and, when there is one, the
    validation micro-F1; it feeds the live table. members: only the ensemble reads it. model: a
    run, a folder or a name, for techniques that are named with one (NAME=MODEL); else "".
    """

    problem: Problem
    budget: Budget
    seed: int = 0
    report: Callable[..., None] = _silent
    members: Mapping[str, Member] = field(default_factory=dict)
    model: str = ""


@runtime_checkable
class Technique(Protocol):
    """One way to learn labels from texts. A user's own is a class with these members.

    name: lower case with hyphens. summary: one line for tables. needs_members: True for what
    mixes other techniques and so runs last. An instance is made without arguments. After `fit`
    it may have `settings`, a dict of numbers and short texts: what was chosen, for the record.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs_members: ClassVar[bool] = False

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Learn within `context.budget`; tune on validation or by cross-validation, never on test.

        Raises BudgetError, with an estimate, when the budget is too small for useful work.
        """
        ...

    def scores(self, documents: list[Document]) -> np.ndarray:
        """Scores (N, L) float32 for any documents, by the fitted model."""
        ...

    def save(self, folder: Path) -> None:
        """Write the fitted model into an existing, empty folder. JSON and safetensors only."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Technique:
        """Open what `save` wrote; its scores are the same to the last bit on the same machine."""
        ...
