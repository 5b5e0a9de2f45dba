"""Progress of a training run on standard error: a moving view in a terminal, plain lines elsewhere.

with view(quiet=False) as shown:
    shown.begin(plan)
    shown.hear(step)                     # every optimiser step
    shown.hear_evaluation(evaluation)
    shown.end(summary)
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hornbook.cli.plan_tables import bytes_in_words, plan_lines
from hornbook.config import format_duration
from hornbook.records import EvaluationRecord, PlanRecord, RunSummary, StepRecord

_SPARKS = "▁▂▃▄▅▆▇█"
_EVERY = 10.0  # seconds between plain lines
_MOST = 4096  # losses that the small curve is drawn from


@dataclass
class TrainingView:
    """What is known so far; `changed` is called when there is something new to show."""

    changed: Callable[[TrainingView], None] = lambda view: None
    line: Callable[[str], None] = lambda text: None
    every: float = _EVERY
    plan: PlanRecord | None = None
    step: StepRecord | None = None
    evaluation: EvaluationRecord | None = None
    best: float | None = None
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=50))
    losses: list[float] = field(default_factory=list)  # thinned out when they are many
    n_refused: int = 0
    _last_line: float = -math.inf

    def begin(self, plan: PlanRecord) -> None:
        """The plan is said in full, above whatever moves."""
        self.plan = plan
        for text in plan_lines(plan):
            self.line(text)
        self.changed(self)

    def hear(self, step: StepRecord) -> None:
        """Called after every optimiser step; costs nothing worth measuring."""
        self.step = step
        if step.refused:
            self.n_refused += 1
            self.line(f"step {step.step:,}: not finite, refused; the weights are as they were")
        if step.loss is not None:
            self.recent.append(step.loss)
            self.losses.append(step.loss)
            if len(self.losses) == _MOST:
                pairs = zip(self.losses[::2], self.losses[1::2], strict=True)
                self.losses = [(a + b) / 2 for a, b in pairs]
        now = time.monotonic()
        if now - self._last_line >= self.every:
            self._last_line = now
            self.line(self.step_in_words())
        self.changed(self)

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        """Called with each evaluation; its sample is shown beside the losses."""
        self.evaluation = evaluation
        loss = evaluation.validation_loss
        better = loss is not None and (self.best is None or loss < self.best)
        if better:
            self.best = loss
        self.line(f"{evaluation_in_words(evaluation)}{', best so far' if better else ''}")
        if evaluation.sample:
            self.line(f"  sample: {' '.join(evaluation.sample.split())[:160]}")
        self.changed(self)

    def end(self, summary: RunSummary) -> None:
        """Called once, however the run ended."""
        self.line(ended_in_words(summary))
        self.changed(self)

    def step_in_words(self) -> str:
        if self.step is None:
            return "waiting for the first step"
        parts = [f"step {self.step.step:,}"]
        if self.plan:
            parts[0] += f" of {self.plan.n_steps:,}"
        if self.smooth_loss is not None:
            parts.append(f"loss {self.smooth_loss:.3f}")
        parts.append(f"{self.step.tokens_per_second:,.0f} tokens/s")
        if (share := self.share_of_peak) is not None:
            parts.append(f"{share:.0%} of the matrix peak")
        if (left := self.seconds_left) is not None:
            parts.append(f"{format_duration(left)} left")
        return ", ".join(parts)

    @property
    def smooth_loss(self) -> float | None:
        """The mean over the last fifty steps; nats per token."""
        return sum(self.recent) / len(self.recent) if self.recent else None

    @property
    def share_of_peak(self) -> float | None:
        if self.plan is None or self.step is None or not self.plan.cluster.matrix_speed:
            return None
        peak = self.plan.cluster.matrix_speed * self.plan.cluster.n_devices
        return self.step.tokens_per_second * self.plan.flops_per_token / peak

    @property
    def progress(self) -> float:
        if self.plan is None or self.step is None:
            return 0.0
        return min(1.0, self.step.tokens / self.plan.n_tokens)

    @property
    def seconds_left(self) -> float | None:
        """What is left of the tokens, at the speed of the run so far."""
        if self.plan is None or self.step is None or not self.step.tokens:
            return None
        left = max(0, self.plan.n_tokens - self.step.tokens)
        return left * self.step.seconds / self.step.tokens

    def render(self) -> Group:
        """The moving part: a bar, the numbers, the losses as a line, the latest sample."""
        table = Table.grid(padding=(0, 3, 0, 0))
        for _ in range(4):
            table.add_column(no_wrap=True)
        loss = self.smooth_loss
        known = self.evaluation.validation_loss if self.evaluation else None
        bits = self.evaluation.bits_per_byte if self.evaluation else None
        share, left = self.share_of_peak, self.seconds_left
        table.add_row(*map(_label, ("training loss", "validation", "best", "bits per byte")))
        table.add_row(*map(_number, (loss, known, self.best, bits)))
        table.add_row(*map(_label, ("tokens/s", "of matrix peak", "step", "left")))
        table.add_row(
            Text(f"{self.step.tokens_per_second:,.0f}" if self.step else "–", style="bold"),
            Text("–" if share is None else f"{share:.0%}", style="bold"),
            Text(f"{self.step.step:,}" if self.step else "–", style="bold"),
            Text("–" if left is None else format_duration(left), style="bold"),
        )
        parts: list[RenderableType] = [
            ProgressBar(total=1.0, completed=self.progress, width=60),
            table,
        ]
        if len(self.losses) > 1:
            parts.append(Text(spark(self.losses, 60), style="cyan"))
        if self.n_refused:
            parts.append(Text(f"{self.n_refused} steps were refused", style="yellow"))
        if self.evaluation and self.evaluation.sample:
            sample = " ".join(self.evaluation.sample.split())
            parts += [_label(f"sample at step {self.evaluation.step:,}"), Text(sample[:400])]
        return Group(*parts)


V = TypeVar("V", bound=TrainingView)


def view(quiet: bool = False) -> AbstractContextManager[TrainingView]:
    """What to tell of a run while the block runs; nothing is shown when quiet."""
    return showing(TrainingView, quiet)


@contextmanager
def showing(kind: type[V], quiet: bool) -> Iterator[V]:
    """A view of this kind: moving in a terminal, lines elsewhere, nothing when quiet."""
    console = Console(stderr=True)

    def write(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    if quiet:
        yield kind()
    elif console.is_terminal:
        shown = kind(every=math.inf)
        with Live(console=console, refresh_per_second=4, get_renderable=shown.render):
            shown.line = write
            yield shown
    else:
        yield kind(line=write)


def evaluation_in_words(evaluation: EvaluationRecord) -> str:
    parts = [f"evaluation at step {evaluation.step:,}"]
    if evaluation.validation_loss is None:
        parts.append("validation loss not finite")
    else:
        parts.append(f"validation loss {evaluation.validation_loss:.4f}")
    if evaluation.train_loss is not None:
        parts.append(f"training {evaluation.train_loss:.4f}")
    if evaluation.bits_per_byte is not None:
        parts.append(f"{evaluation.bits_per_byte:.3f} bits per byte")
    return ", ".join(parts)


def ended_in_words(summary: RunSummary) -> str:
    words = f"{summary.status} after {format_duration(summary.seconds)}, {summary.n_steps:,} steps"
    if summary.best_validation_loss is not None:
        words += f"; best validation loss {summary.best_validation_loss:.4f}"
        words += f" at step {summary.best_step:,}" if summary.best_step is not None else ""
    if summary.referees:
        best = min(summary.referees, key=lambda referee: referee.loss)
        words += f" ({best.name}: {best.loss:.4f})"
    for check in summary.checks:
        if check.quantity in ("time", "peak memory") and check.error is not None:
            planned, actual = (
                format_duration(x) if check.unit == "seconds" else bytes_in_words(x)
                for x in (check.predicted, check.actual)
            )
            words += f"; {check.quantity} {actual}, planned {planned} ({check.error:+.0%})"
    return words


def spark(values: list[float], width: int) -> str:
    """The values as a line of blocks, averaged into `width` of them; high is high."""
    n = min(width, len(values))
    edges = [round(i * len(values) / n) for i in range(n + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    top = len(_SPARKS) - 1
    return "".join(_SPARKS[round(top * (m - low) / ((high - low) or 1))] for m in means)


def _label(text: str) -> Text:
    return Text(text, style="dim")


def _number(value: float | None) -> Text:
    return Text("–" if value is None else f"{value:.4f}", style="bold")
