"""Who is told how a run goes. A listener is any object with `hear` and `hear_evaluation`.

    for listener in (Lines(run / "metrics.jsonl"), Trackers(accelerator)):
        listener.hear(step)

What they are told are the records of metrics.jsonl.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hornbook.records import EvaluationRecord, StepRecord

if TYPE_CHECKING:
    from accelerate import Accelerator


class Listener(Protocol):
    """Who is told how a run goes."""

    def hear(self, step: StepRecord) -> None: ...
    def hear_evaluation(self, evaluation: EvaluationRecord) -> None: ...


class All:
    """Several listeners as one, told in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = listeners

    def hear(self, step: StepRecord) -> None:
        for listener in self.listeners:
            listener.hear(step)

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        for listener in self.listeners:
            listener.hear_evaluation(evaluation)


class Lines:
    """Adds each record to a file, a line of JSON each, written out at once.

    A last line that a kill cut short is cut off first, so that the next is not glued to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            file.seek(0)
            whole = file.read().rfind(b"\n") + 1
            file.truncate(whole)

    def hear(self, step: StepRecord) -> None:
        self._add(step)

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        self._add(evaluation)

    def _add(self, record: StepRecord | EvaluationRecord) -> None:
        line = (record.model_dump_json() + "\n").encode()
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(handle, line)
        finally:
            os.close(handle)


class EarlyStop:
    """Asks to stop after `patience` evaluations in a row that were no better than the best.

    at_least: how much lower a loss must be to count as better (Prechelt 1998). ask: called with the
    reason. A resumed run tells it the evaluations of before first, from metrics.jsonl.
    """

    def __init__(self, patience: int, ask: Callable[[str], None], *, at_least: float = 0.0) -> None:
        self.patience, self.ask, self.at_least = patience, ask, at_least
        self.best, self.best_step, self.n_worse = math.inf, 0, 0

    def hear(self, step: StepRecord) -> None:
        pass

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        loss = evaluation.validation_loss
        if loss is not None and loss < self.best - self.at_least:
            self.best, self.best_step, self.n_worse = loss, evaluation.step, 0
            return
        self.n_worse += 1
        if self.n_worse == self.patience:
            self.ask(
                f"no better validation loss in {self.patience} evaluations since step "
                f"{self.best_step} ({self.best:.4g})"
            )


class WhenBest:
    """Calls a function at each evaluation better than all before, e.g. to keep the weights."""

    def __init__(self, call: Callable[[EvaluationRecord], None]) -> None:
        self.call = call
        self.best = math.inf

    def hear(self, step: StepRecord) -> None:
        pass

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        loss = evaluation.validation_loss
        if loss is not None and loss < self.best:
            self.best = loss
            self.call(evaluation)


class Trackers:
    """Tells TensorBoard, Weights & Biases and the like, which the accelerator was made with."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator

    def hear(self, step: StepRecord) -> None:
        self._log("train", step)

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        self._log("validation", evaluation)

    def _log(self, part: str, record: StepRecord | EvaluationRecord) -> None:
        numbers = record.model_dump(exclude={"kind", "step", "sample"}, exclude_none=True)
        numbers |= numbers.pop("metrics", {})
        values = {
            f"{part}/{name.removeprefix('validation_')}": float(value)
            for name, value in numbers.items()
        }
        self.accelerator.log(values, step=record.step)
