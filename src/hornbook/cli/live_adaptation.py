"""Progress of a fine-tuning run on standard error: the moving view of training, with the task's
metric in place of what only a language model has."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hornbook.cli.live_training import TrainingView, spark
from hornbook.config import format_duration
from hornbook.records import AdaptPlanRecord, AdaptSummary, EvaluationRecord


@dataclass
class AdaptationView(TrainingView):
    """As `TrainingView`; how far the run is, by its steps or by its clock.

    n_steps: None where a clock ends the run, after `seconds`. best_name: what chooses.
    """

    n_steps: int | None = None
    seconds: float | None = None
    best_name: str = "loss"

    def expect(
        self, plan: AdaptPlanRecord | None, *, seconds: float | None, best_name: str
    ) -> None:
        """Told before the first step."""
        self.seconds, self.best_name = seconds, best_name
        if plan is not None and seconds is None:
            self.n_steps = plan.n_steps or None
        self.changed(self)

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        self.evaluation = evaluation
        score = evaluation.validation_loss if evaluation.score is None else evaluation.score
        better = (
            not evaluation.final and score is not None and (self.best is None or score < self.best)
        )
        if better:
            self.best = score
        self.line(f"{looked_in_words(evaluation)}{', best so far' if better else ''}")
        self.changed(self)

    def end(self, summary: AdaptSummary) -> None:  # type: ignore[override]
        self.line(
            f"{summary.status} after {format_duration(summary.seconds)}, {summary.n_steps:,} steps"
        )
        self.changed(self)

    def step_in_words(self) -> str:
        if self.step is None:
            return "waiting for the first step"
        parts = [f"step {self.step.step:,}" + (f" of {self.n_steps:,}" if self.n_steps else "")]
        if self.smooth_loss is not None:
            parts.append(f"loss {self.smooth_loss:.3f}")
        parts.append(f"{self.step.tokens_per_second:,.0f} tokens/s")
        if (left := self.seconds_left) is not None:
            parts.append(f"{format_duration(left)} left")
        return ", ".join(parts)

    @property
    def progress(self) -> float:
        if self.step is None:
            return 0.0
        if self.seconds is not None:
            return min(1.0, self.step.seconds / self.seconds)
        return min(1.0, self.step.step / self.n_steps) if self.n_steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.step is None or not self.progress:
            return None
        return self.step.seconds * (1 / self.progress - 1)

    def render(self) -> Group:
        table = Table.grid(padding=(0, 3, 0, 0))
        for _ in range(4):
            table.add_column(no_wrap=True)
        looked = self.evaluation
        shown = dict(looked.metrics) if looked else {}
        name = self.best_name if self.best_name != "loss" else next(iter(shown), "")
        best = None if self.best is None else abs(self.best)
        left = self.seconds_left
        table.add_row(
            *(Text(t, style="dim") for t in ("training loss", "validation", name, "best"))
        )
        numbers = (
            self.smooth_loss,
            looked.validation_loss if looked else None,
            shown.get(name),
            best,
        )
        table.add_row(*(Text("–" if x is None else f"{x:.4f}", style="bold") for x in numbers))
        table.add_row(*(Text(t, style="dim") for t in ("tokens/s", "step", "left", "")))
        table.add_row(
            Text(f"{self.step.tokens_per_second:,.0f}" if self.step else "–", style="bold"),
            Text(f"{self.step.step:,}" if self.step else "–", style="bold"),
            Text("–" if left is None else format_duration(left), style="bold"),
            Text(""),
        )
        parts: list[RenderableType] = [
            ProgressBar(total=1.0, completed=self.progress, width=60),
            table,
        ]
        if len(self.losses) > 1:
            parts.append(Text(spark(self.losses, 60), style="cyan"))
        if self.n_refused:
            parts.append(Text(f"{self.n_refused} steps were refused", style="yellow"))
        return Group(*parts)


def looked_in_words(evaluation: EvaluationRecord) -> str:
    """An evaluation as a line: before the first step, on the way, or of the weights kept."""
    where = f"step {evaluation.step:,}" if evaluation.step else "before the first step"
    words = f"all of validation, weights of {where}" if evaluation.final else where
    loss = evaluation.validation_loss
    parts = [f"{words}: validation loss " + ("not finite" if loss is None else f"{loss:.4f}")]
    if evaluation.train_loss is not None:
        parts.append(f"training {evaluation.train_loss:.4f}")
    others = [(name, value) for name, value in evaluation.metrics.items() if name != "loss"]
    for name, value in others[:4]:
        parts.append(f"{name} {'–' if value is None else f'{value:.4f}'}")
    return ", ".join(parts)
