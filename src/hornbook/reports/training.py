"""A training run as one HTML file, from summary.json and metrics.jsonl alone.

As the study's report: no script, nothing fetched, every value through one gate (see `html`).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from markupsafe import Markup

from hornbook.errors import DataError
from hornbook.files import write_text
from hornbook.records import (
    AdaptSummary,
    EvaluationRecord,
    LearningCurveRecord,
    Metrics,
    PlanCheck,
    Referee,
    RunSummary,
    StepRecord,
)
from hornbook.reports import readable
from hornbook.reports.html import TEMPLATES, environment
from hornbook.reports.learning_curve import view_of
from hornbook.reports.lines import Chart, Level, Line, draw, time_ticks

N_SAMPLES_OPEN, N_SAMPLES_MOST = 4, 40
N_SAMPLE_CHARACTERS = 3000

_UNITS: dict[str, Callable[[float | None], str]] = {
    "": readable.significant,
    "tokens": readable.count,
    "bytes": readable.size,
    "seconds": readable.duration,
    "tokens/s": lambda value: f"{readable.count(value)} tokens/s",
    "FLOPs": lambda value: f"{value:.3g}" if value is not None else readable.NOTHING,
    "share": lambda value: f"{100 * value:.0f} %" if value is not None else readable.NOTHING,
}


@dataclass(frozen=True)
class View:
    """One drawing of the loss curves: its name on the switch, for a desk and for a phone."""

    key: str
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class Panel:
    """A small chart with its caption."""

    caption: str
    says: str
    svg: Markup


@dataclass(frozen=True)
class CheckRow:
    """A line of plan beside actual, formatted."""

    quantity: str
    predicted: str
    actual: str
    error: str
    far_off: bool


def write_training_report(folder: Path) -> Path:
    """Write report.html of a run's folder from its records; returns its path.

    Raises DataError when summary.json or metrics.jsonl is missing or cannot be read.
    """
    try:
        summary = summary_of((folder / "summary.json").read_bytes())
        metrics = Metrics.from_lines((folder / "metrics.jsonl").read_text(encoding="utf-8"))
        curve = folder / "learning_curve.json"
        learnt = (
            LearningCurveRecord.model_validate_json(curve.read_bytes()) if curve.is_file() else None
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder} has no readable record of a training run: {error}",
            hint="A finished run has summary.json and metrics.jsonl.",
        ) from error
    path = folder / "report.html"
    write_text(path, render(summary, metrics, learnt))
    return path


def summary_of(content: bytes) -> RunSummary:
    """summary.json of a run from nothing, or of one that adapted a model.

    Raises ValueError (pydantic's, or JSON's) for anything else.
    """
    adapted = "task" in json.loads(content)
    return (AdaptSummary if adapted else RunSummary).model_validate_json(content)


def render(summary: RunSummary, metrics: Metrics, learnt: LearningCurveRecord | None = None) -> str:
    """The report as text; the same records give the same bytes. learnt: by number of examples."""
    css = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in _STYLES)
    referee = min(summary.referees, key=lambda r: r.loss, default=None)
    samples = [e for e in metrics.evaluations if e.sample]
    shown = _spread(samples, N_SAMPLES_OPEN)
    return (
        environment()
        .get_template("training.html.j2")
        .render(
            summary=summary,
            adapted=summary if isinstance(summary, AdaptSummary) else None,
            metrics=metrics,
            css=Markup(css),
            referee=referee,
            unit=_short_unit(summary),
            views=_loss_views(summary, metrics, referee),
            panels=_panels(metrics.steps),
            learnt=view_of(learnt) if learnt else None,
            checks=[_check_row(check) for check in summary.checks],
            samples=shown,
            more_samples=[e for e in samples if e not in shown][:N_SAMPLES_MOST],
            best_step=summary.best_step,
            n_characters=N_SAMPLE_CHARACTERS,
            n_refused=sum(step.refused for step in metrics.steps),
            planned=_planned(summary),
        )
    )


_STYLES = ("report.css", "training.css")


def _planned(summary: RunSummary) -> dict[str, str]:
    """The plan's figures in words; nothing for a run without one."""
    plan = summary.plan
    if plan is None:
        return {}
    memory = {
        "weights": plan.memory.weights,
        "gradients": plan.memory.gradients,
        "optimiser": plan.memory.optimizer,
        "activations": plan.memory.activations,
        "loss": plan.memory.head,
        "counts": plan.memory.counts,
        "other memory": plan.memory.working,
        "peak memory": plan.memory.total,
    }
    return {
        "parameters": f"{plan.n_parameters:,}",
        "tokens": f"{plan.n_tokens:,}",
        "steps": f"{plan.n_steps:,}",
        "batch": f"{plan.batch_size:,} x {plan.context_length:,} tokens",
        "FLOPs": f"{plan.flops:.3g}",
        "FLOPs a token": f"{plan.flops_per_token:.4g}",
        "matrix peak": f"{plan.cluster.matrix_speed:.3g} FLOP/s, {plan.cluster.speed_source}",
        **{name: readable.size(n) for name, n in memory.items() if n},
    }


def _short_unit(summary: RunSummary) -> str:
    """What one token is called in "nats a ...": a word of the unit, else "token"."""
    if isinstance(summary, AdaptSummary):
        return "target"
    return summary.unit if summary.unit in ("character", "word", "byte") else "token"


def _loss_views(summary: RunSummary, metrics: Metrics, referee: Referee | None) -> list[View]:
    """Loss by step, by token and by second, each with even and with logarithmic axes."""
    axes: tuple[tuple[str, Callable[[StepRecord | EvaluationRecord], float]], ...] = (
        ("step", lambda record: record.step),
        ("tokens", lambda record: record.tokens),
        ("time", lambda record: record.seconds),
    )
    views = []
    for name, x in axes:
        for log in (False, True):
            chart = _loss_chart(summary, metrics, referee, x, name, log)
            wide = draw(replace(chart, width=1080, height=430))
            if wide:
                key = f"{name}-{'log' if log else 'even'}"
                views.append(View(key, wide, draw(replace(chart, width=430, height=340))))
    return views


def _loss_chart(
    summary: RunSummary,
    metrics: Metrics,
    referee: Referee | None,
    x: Callable[[StepRecord | EvaluationRecord], float],
    name: str,
    log: bool,
) -> Chart:
    steps = [(x(s), s.loss) for s in metrics.steps if s.loss is not None]
    smooth = _running_median(steps)
    train = [(x(e), e.train_loss) for e in metrics.evaluations if e.train_loss is not None]
    validation = [
        (x(e), e.validation_loss) for e in metrics.evaluations if e.validation_loss is not None
    ]
    lines = [Line(steps, "faint")]
    if len(train) > 1:
        lines += [Line(smooth, "thin"), Line(train, "train", _end("training", train))]
    else:
        lines.append(Line(smooth, "train", _end("training", smooth)))
    lines.append(Line(validation, "validation", _end("validation", validation), dots=True))
    best = min(validation, key=lambda point: point[1], default=None)
    levels = [Level(referee.loss, f"{referee.order}-gram {referee.loss:.3f}")] if referee else []
    in_words: dict[str, Callable[[float], str]] = {
        "step": _compact,
        "tokens": _compact,
        "time": _brief_time,
    }
    return Chart(
        lines=lines,
        title=f"Training and validation loss by {name}",
        x_text=in_words[name],
        y_text=lambda value: f"{value:.4g}",
        levels=levels,
        mark=best,
        log=log,
        x_ticks=time_ticks if name == "time" else None,
    )


def _end(name: str, points: Sequence[tuple[float, float]]) -> str:
    return f"{name} {points[-1][1]:.3f}" if points else ""


def _panels(steps: Sequence[StepRecord]) -> list[Panel]:
    """Learning rate, speed and gradient norm by step; those that were recorded."""

    def panel(
        caption: str,
        says: str,
        values: Sequence[tuple[float, float | None]],
        text: Callable[[float], str],
        from_zero: bool = True,
    ) -> Panel | None:
        points = [(x, y) for x, y in values if readable.finite(y)]
        if not points or not any(y for _, y in points):
            return None
        lines = [Line(_known(points), "single")]
        chart = Chart(
            lines, f"{caption} by step", _compact, text, from_zero=from_zero, height=230, width=400
        )
        return Panel(caption, says, draw(chart))

    rates = [step.lr for step in steps]
    speeds = [step.tokens_per_second for step in steps if step.tokens_per_second]
    norms = [step.gradient_norm for step in steps if step.gradient_norm is not None]
    made = (
        panel(
            "Learning rate",
            f"at most {max(rates):.3g}, {rates[-1]:.3g} at the end" if rates else "",
            [(s.step, s.lr) for s in steps],
            lambda value: f"{value:.3g}",
        ),
        panel(
            "Tokens a second",
            f"{statistics.median(speeds):,.0f} in the median" if speeds else "",
            [(s.step, s.tokens_per_second or None) for s in steps],
            _compact,
        ),
        panel(
            "Gradient norm",
            f"before clipping; {readable.significant(statistics.median(norms))} in the median, "
            f"{readable.significant(max(norms))} at most"
            if norms
            else "",
            [(s.step, s.gradient_norm) for s in steps],
            lambda value: f"{value:.3g}",
        ),
    )
    return [one for one in made if one is not None]


def _known(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if y is not None]


def _running_median(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Medians over about a fortieth of the points, at no more than 400 places."""
    if len(points) < 20:
        return list(points)
    half = max(2, len(points) // 80)
    places = range(0, len(points), max(1, len(points) // 400))
    return [
        (
            points[i][0],
            statistics.median(y for _, y in points[max(0, i - half) : i + half + 1]),
        )
        for i in (*places, len(points) - 1)
    ]


def _spread(samples: Sequence[EvaluationRecord], n: int) -> list[EvaluationRecord]:
    """The first, the last, and others between them at even distances."""
    if len(samples) <= n:
        return list(samples)
    return [samples[round(i * (len(samples) - 1) / (n - 1))] for i in range(n)]


def _check_row(check: PlanCheck) -> CheckRow:
    text = _UNITS[check.unit]
    error = (
        readable.NOTHING if check.error is None else f"{100 * check.error:+.0f} %".replace("-", "−")
    )
    far_off = check.error is not None and abs(check.error) > 0.25
    return CheckRow(check.quantity, text(check.predicted), text(check.actual), error, far_off)


def _compact(value: float) -> str:
    """1200 -> "1.2k", 3e6 -> "3M"."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.4g}{letter}"
    return f"{value:.4g}"


def _brief_time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.4g} min"
    return f"{seconds / 3600:.4g} h"
