"""Progress of a study on standard error: a moving table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hornbook.compare.study import Listener, Progress
from hornbook.config import format_duration
from hornbook.records import TechniqueResult

_STYLES = {"ok": "green", "skipped": "yellow", "failed": "red", "killed": "red"}


def end_on_sigterm() -> None:
    """Let a polite kill end a study as Ctrl-C does: with what has finished."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def view(quiet: bool) -> Iterator[Listener]:
    """A listener that shows progress while the block runs."""
    console = Console(stderr=True)
    if quiet:
        yield lambda progress: None
    elif console.is_terminal:
        board = Board()
        with Live(board.render(), console=console, refresh_per_second=4) as shown:

            def listen(progress: Progress) -> None:
                board.hear(progress)
                shown.update(board.render())

            yield listen
    else:
        yield Lines(console).hear


@dataclass
class Lines:
    """One line when a technique begins, and one when it ends."""

    console: Console
    _last: tuple[str, int] = ("", -1)

    def hear(self, progress: Progress) -> None:
        name = progress.technique
        if not name:
            self._print(f"{progress.stage} …")
        elif progress.result is not None:
            self._print(f"{_named(name, progress.repeat)}: {_in_words(progress.result)}")
        elif (name, progress.repeat) != self._last:
            self._last = (name, progress.repeat)
            budget = format_duration(progress.budget or 0)
            self._print(f"{_named(name, progress.repeat)}: fitting, budget {budget} …")

    def _print(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


@dataclass
class Board:
    """The latest of each technique, as a table."""

    stage: str = "starting"
    latest: dict[str, Progress] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def hear(self, progress: Progress) -> None:
        if not progress.technique:
            self.stage = progress.stage
            return
        self.stage = ""
        self.latest[progress.technique] = progress
        result = progress.result
        if result is not None and result.micro_f1 is not None:
            self.scores.setdefault(progress.technique, []).append(result.micro_f1)

    def render(self) -> Table | Spinner:
        if not self.latest:
            return Spinner("dots", text=Text(self.stage))
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for name in ("technique", "stage"):
            table.add_column(name, no_wrap=True)
        for name in ("time", "of", "validation", "test micro-F1"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, progress in self.latest.items():
            table.add_row(*self._row(name, progress))
        if self.stage:
            table.add_row(Text(self.stage, style="dim"))
        return table

    def _row(self, name: str, progress: Progress) -> list[Text]:
        ended = progress.result is not None
        stage = progress.stage if not ended or progress.stage != "ok" else "done"
        if progress.repeat:
            stage += f" (repeat {progress.repeat + 1})"
        scores = self.scores.get(name)
        return [
            Text(name, style="" if ended else "bold"),
            Text(stage[:32], style=_STYLES.get(progress.stage, "dim") if ended else "cyan"),
            Text("" if progress.fit_seconds is None else format_duration(progress.fit_seconds)),
            Text("" if progress.budget is None else format_duration(progress.budget)),
            Text("" if progress.validation is None else f"{progress.validation:.3f}"),
            Text(f"{sum(scores) / len(scores):.3f}" if scores else "", style="bold"),
        ]


def _named(name: str, repeat: int) -> str:
    return f"{name} (repeat {repeat + 1})" if repeat else name


def _in_words(result: TechniqueResult) -> str:
    if result.status != "ok":
        return f"{result.status}: {result.message.splitlines()[0] if result.message else ''}"
    return (
        f"micro-F1 {result.micro_f1:.3f}, validation {result.validation_micro_f1:.3f}, "
        f"fitted in {format_duration(result.fit_seconds or 0)}"
    )
