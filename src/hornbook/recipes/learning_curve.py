"""`--curve`: the same run on a sixteenth, an eighth, a quarter and half of the training data.

A run on a share s of the data takes the square root of s of the steps: fewer than the whole, but
more passes, so that the small ones are not merely undertrained. All five together cost about 2.8
runs. The parts lie in each other, and all are measured on the same validation part.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hornbook import runs
from hornbook.errors import CheckpointError, DataError
from hornbook.evaluation.evaluate import resampled, with_intervals
from hornbook.evaluation.extrapolation import read_curve
from hornbook.evaluation.label_doubts import list_doubts
from hornbook.recipes.adaptation_opening import finished, open_new, reopen
from hornbook.recipes.adaptation_run import Session
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.records import (
    AdaptSummary,
    CurvePoint,
    EvaluationRecord,
    LearningCurveRecord,
    StepRecord,
)
from hornbook.tasks.task import Metric

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
SMALLEST = 16  # examples; smaller parts say nothing of larger ones
KEPT = ("config.yaml", "summary.json", "metrics.jsonl", "validation.jsonl")
RECORD, DOUBTS = "learning_curve.json", "doubts.jsonl"


class _Watching:
    """Tells a fit to stop when the run beside it was told to; says nothing."""

    def __init__(self, session: Session, fit: Session) -> None:
        self.session, self.fit = session, fit

    def hear(self, step: StepRecord) -> None:
        if self.session.stopping:
            self.fit.stop()

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None: ...
    def end(self, summary: AdaptSummary) -> None: ...


@dataclass(frozen=True)
class Fitted:
    """A finished fit: what the task measured on validation."""

    n_examples: int
    metrics: list[Metric]
    steps: int
    seconds: float


def learning_curve(
    session: Session,
    *,
    command: str = "",
    told: Callable[[CurvePoint], None] = lambda point: None,
) -> LearningCurveRecord | None:
    """Fit the smaller parts beside a finished run, and read the curve; None when told to stop.

    told: each point as it comes. Writes learning_curve.json into the run's folder, and beside it
    doubts.jsonl, validation labels that look wrong. A part whose fit is there already is not fitted
    again; one that was interrupted goes on. Raises DataError where there are too few examples.
    """
    examples, folder = session.parts.train, session.folder
    sizes = sizes_of(len(examples))
    order = list(range(len(examples)))
    random.Random(session.settings.seed).shuffle(order)
    fits = []
    for n in sizes:
        fit = _fit(session, [examples[i] for i in sorted(order[:n])], folder, command)
        if fit is None:
            return None
        fits.append(fit)
        told(_point(fit))
    summary = runs.read_record(folder / "summary.json", AdaptSummary)
    whole = Fitted(len(examples), _metrics(session, folder), summary.n_steps, summary.seconds)
    fits.append(whole)
    told(_point(whole))
    validation, path = session.parts.validation, folder / DOUBTS
    doubts = list_doubts(session.task, validation, predictions_in(folder), path)
    record = curve_of(fits, doubts)
    runs.write_record(folder / RECORD, record)
    return record


def sizes_of(n_examples: int) -> list[int]:
    """How many examples the smaller fits get. Raises DataError for fewer than 64 in all."""
    sizes = sorted({round(share * n_examples) for share in SHARES})
    sizes = [n for n in sizes if n >= SMALLEST]
    if len(sizes) < 2:
        raise DataError(
            f"{n_examples:,} training examples are too few for a learning curve",
            hint=f"{4 * SMALLEST} or more can be cut into parts; label some more first.",
        )
    return sizes


def further_runs(n_examples: int) -> float:
    """What the smaller fits take together, in runs on all examples; raises as `sizes_of` does."""
    return sum(math.sqrt(n / n_examples) for n in sizes_of(n_examples))


def curve_of(fits: Sequence[Fitted], notes: Sequence[str] = ()) -> LearningCurveRecord:
    """Fits by size as a curve of their first metric. notes: what else is to be known of it."""
    notes = [
        "Intervals are of the choice of validation examples; another draw of the training part or "
        "another seed would move the small points too.",
        *notes,
    ]
    samples = [resampled(fit.metrics[:1])[0] for fit in fits]
    return read_curve([_point(fit) for fit in fits], samples, notes=notes)


def smaller(settings: AdaptSettings, share: float) -> AdaptSettings:
    """Settings of the run on this share of the data: the root of it in steps."""
    root = math.sqrt(share)
    change: dict[str, Any] = {}
    if settings.epochs is not None:
        change["epochs"] = settings.epochs * root / share
    if settings.steps is not None:
        change["steps"] = max(1, round(settings.steps * root))
    if settings.time is not None:
        change["time"] = settings.time * root
    return settings.model_copy(update=change)


def _fit(session: Session, examples: list[Any], folder: Path, command: str) -> Fitted | None:
    place = folder / "curve" / str(len(examples))
    summary = finished(place)
    if summary is None:
        if session.stopping:
            return None
        fit = _opened(session, place, len(examples) / len(session.parts.train))
        fit.parts = replace(session.parts, train=examples, test=None)
        summary = fit.carry_out(_Watching(session, fit), command=command)
        if summary is None or summary.status == "interrupted":
            return None
    only(place, KEPT)
    return Fitted(len(examples), _metrics(session, place), summary.n_steps, summary.seconds)


def _opened(session: Session, place: Path, share: float) -> Session:
    """A fit at its start, or where it was interrupted."""
    if (place / "config.yaml").is_file():
        return reopen(place, {})
    shutil.rmtree(place, ignore_errors=True)
    return open_new(smaller(session.settings, share), place)


def predictions_in(folder: Path) -> list[Any]:
    """What a run said of its validation part. Raises CheckpointError where it isn't there."""
    path = folder / "validation.jsonl"
    try:
        # Not splitlines(): a prediction may hold U+2028 and the like as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
        return [json.loads(line)["prediction"] for line in lines if line]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} can't be read: {error}", hint="Was the run finished? Run it again."
        ) from error


def only(folder: Path, kept: Sequence[str]) -> None:
    """Remove all of a run's folder but some files: weights of fits that nobody will use."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _metrics(session: Session, folder: Path) -> list[Metric]:
    return session.task.metrics(session.parts.validation, predictions_in(folder))


def _point(fit: Fitted) -> CurvePoint:
    (metric,) = with_intervals(fit.metrics[:1])
    return CurvePoint(
        n_examples=fit.n_examples, metric=metric, steps=fit.steps, seconds=fit.seconds
    )
