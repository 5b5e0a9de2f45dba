"""A trial of a search under way: what it reports, when it is cut short, and how it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from hornbook.recipes.adaptation_run import Session
from hornbook.records import AdaptSummary, EvaluationRecord, Metrics, StepRecord, TrialRecord
from hornbook.training.checkpoints import latest_checkpoint


class Listener(Protocol):
    """Who is told of each trial: its settings when it begins, and what became of it."""

    def begin(self, number: int, settings: Mapping[str, Any]) -> None: ...
    def hear_evaluation(self, evaluation: EvaluationRecord) -> None: ...
    def end(self, trial: TrialRecord) -> None: ...


class Asked(Protocol):
    """A search, as far as a trial has to know it."""

    stopping: bool


class Watching:
    """Told of a trial's steps and evaluations: reports, prunes, and ends it when time is up.

    why: what ended it early: "interrupted", "out of time" or "pruned". best: the least score. A
    trial that goes on counts its evaluations from where it stopped, so that optuna compares it
    with what the others had reached by then.
    """

    def __init__(
        self, search: Asked, session: Session, trial: Any, listener: Listener, left: float | None
    ) -> None:
        self.search, self.session, self.trial, self.listener = search, session, trial, listener
        self.until = None if left is None else time.monotonic() + left
        self.n_looks, self.why = 0, ""
        self.best: float | None = None
        for look in looks_before(session.folder):
            self._report(look)

    def hear(self, step: StepRecord) -> None:
        if self.search.stopping:
            self._end("interrupted")
        elif self.until is not None and time.monotonic() > self.until:
            self._end("out of time")

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        if evaluation.final:
            return
        self.listener.hear_evaluation(evaluation)
        if self._report(evaluation) and self.trial.should_prune():
            self._end("pruned")

    def _report(self, look: EvaluationRecord) -> bool:
        """Whether there was something to report: a score, of after the first step."""
        score = look.validation_loss if look.score is None else look.score
        if score is None:
            return False
        if look.step:  # what it was before the first step is the same for all
            self.best = score if self.best is None else min(self.best, score)
            self.trial.report(self.best, self.n_looks)
        self.n_looks += 1
        return bool(look.step)

    def end(self, summary: AdaptSummary) -> None: ...

    def _end(self, why: str) -> None:
        if not self.why:
            self.why = why
            self.session.stop()


def looks_before(folder: Path) -> list[EvaluationRecord]:
    """Evaluations of a run up to the checkpoint that it goes on from; none of one that begins."""
    found = latest_checkpoint(folder / "checkpoints")
    if found is None:
        return []
    return [look for look in _metrics(folder).evaluations if look.step <= found.step]


def seconds_in(folder: Path) -> float:
    """How long a run had taken when it was killed, by its last line."""
    steps = _metrics(folder).steps
    return steps[-1].seconds if steps else 0.0


def goes_on(folder: Path) -> bool:
    """Whether a run has something to go on from; one that was killed behind its end has not."""
    summary = folder / "summary.json"
    if not (folder / "config.yaml").is_file():
        return False
    return not summary.is_file() or '"status": "interrupted"' in summary.read_text("utf-8")


def _metrics(folder: Path) -> Metrics:
    path = folder / "metrics.jsonl"
    try:
        return Metrics.from_lines(path.read_text("utf-8"))
    except (OSError, ValueError):  # killed before the first line, or damaged since
        return Metrics(steps=[], evaluations=[])
