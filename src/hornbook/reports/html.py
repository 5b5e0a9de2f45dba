"""A study as one HTML file that asks nothing of the network and runs no script.

Every value goes through one gate (`printable`, then jinja2's escaping), so that a text of the data
can neither break the page nor run in it; a Content-Security-Policy forbids the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from hornbook.files import write_text
from hornbook.records import (
    LabelScore,
    LeaderboardRow,
    StudyRecord,
    TechniqueResult,
)
from hornbook.reports import charts, readable

TEMPLATES = Path(__file__).parent / "templates"
N_LABELS_OPEN = 40  # further ones stand in a fold
N_LABELS_MOST = 1000
N_TEXTS = 25
N_TEXT_CHARACTERS = 4000  # of a text that has been unfolded


@dataclass(frozen=True)
class BoardRow:
    """A line of the leaderboard as it is drawn."""

    row: LeaderboardRow
    role: charts.Role
    recommended: bool
    whisker: charts.Whisker


@dataclass(frozen=True)
class Column:
    """A cost: heading, unit, meaning, a cell a technique; `brief` if in the leaderboard."""

    heading: str
    unit: str
    explanation: str
    cells: list[str]
    brief: bool


@dataclass(frozen=True)
class HeatRow:
    """One label under every technique; `best` is the highest F1 of the row."""

    label: str
    support: int
    scores: list[LabelScore | None]
    best: float


@dataclass(frozen=True)
class EnergyRow:
    """What all repeats of one technique used; grams of CO2 equivalent, None where unknown."""

    technique: str
    n_runs: int
    wh: float
    grams: float | None
    source: str


def write_report(record: StudyRecord, path: Path) -> None:
    """Write the study's report.html atomically. The same record gives the same bytes."""
    write_text(path, render(record))


def render(record: StudyRecord) -> str:
    """The report as text; see write_report."""
    board = record.summary.leaderboard
    scale = charts.score_scale(board)
    leader = board[0] if board else None
    best = record.summary.best or (leader.technique if leader else None)
    template = environment().get_template("report.html.j2")
    return template.render(
        record=record,
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        leader=leader,
        recommended=next((r for r in board if r.technique == record.summary.recommended), None),
        n_ties=sum(row.ties_with_leader for row in board[1:]),
        scale=scale,
        board=_board(record, scale),
        columns=_columns(board),
        energy_sources=sorted({row.energy_source for row in board}),
        figures=_figures(board, scale),
        heat=_heat(record),
        best=best,
        confusions=record.confusions.get(best, []) if best else [],
        supports={s.label: s.support for s in record.per_label.get(best or "", [])},
        unfinished=_unfinished(record),
        techniques=list(dict.fromkeys(r.technique for r in record.results)),
        energy=_energy(record.results),
        n_labels_open=N_LABELS_OPEN,
        n_labels_most=N_LABELS_MOST,
        n_texts=N_TEXTS,
        n_text_characters=N_TEXT_CHARACTERS,
    )


def environment() -> ImmutableSandboxedEnvironment:
    """The templates' world: sandboxed, escaping, strict, with the formats of `readable`."""
    made = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    formats: Sequence[Callable[..., str]] = (
        readable.count,
        readable.duration,
        readable.excerpt,
        readable.probability,
        readable.score,
        readable.short_score,
        readable.significant,
        readable.size,
    )
    made.filters.update({function.__name__: function for function in formats})
    return made


def _shown(value: Any) -> Any:
    """Make each printed value safe to write; what the template itself marked as HTML passes."""
    return readable.printable(value) if type(value) is str else value


def _board(record: StudyRecord, scale: charts.ScoreScale) -> list[BoardRow]:
    recommended = record.summary.recommended
    return [
        BoardRow(row, _role(i, row), row.technique == recommended, scale.whisker(row))
        for i, row in enumerate(record.summary.leaderboard)
    ]


def _role(place: int, row: LeaderboardRow) -> charts.Role:
    if place == 0:
        return "leader"
    return "tie" if row.ties_with_leader else "other"


def _columns(board: Sequence[LeaderboardRow]) -> list[Column]:
    """What each technique costs; the leaderboard shows the `brief` ones, the cost table all."""

    def column(
        heading: str,
        unit: str,
        explanation: str,
        value: Callable[[LeaderboardRow], float],
        brief: bool = False,
    ) -> Column:
        cells = readable.aligned([value(row) for row in board])
        return Column(heading, unit, explanation, cells, brief)

    return [
        column("Fit", "s", "wall clock, tuning included", lambda r: r.fit_seconds, brief=True),
        column("Processor", "s", "processor seconds of the fit", lambda r: r.cpu_seconds),
        column("p50", "ms", "latency of one text, median", lambda r: r.p50_ms, brief=True),
        column("p95", "ms", "latency of one text, 95th percentile", lambda r: r.p95_ms),
        column("Speed", "texts/s", "throughput in batches", lambda r: r.texts_per_second),
        column("Memory", "MB", "peak memory", lambda r: r.peak_bytes / 1e6),
        column("Disk", "MB", "size of the saved model", lambda r: r.size_bytes / 1e6, brief=True),
        column("Energy", "Wh", "energy of one repeat", lambda r: 1000 * r.energy_kwh),
    ]


@dataclass(frozen=True)
class Figure:
    """A chart and what it says in words."""

    svg: Markup
    caption: str
    front: list[tuple[str, str, str]]  # technique, its cost, its score


def _figures(board: Sequence[LeaderboardRow], scale: charts.ScoreScale) -> list[Figure]:
    """Quality against fit time and against latency; none when nothing finished."""
    axes = (
        ("fit", "Fit time", "fit time", charts.SECONDS, 1.0, lambda r: r.fit_seconds),
        (
            "latency",
            "Latency",
            "latency of one text (median)",
            charts.MILLISECONDS,
            0.001,
            lambda r: r.p50_ms,
        ),
    )
    figures = []
    for identity, name, label, ticks, in_seconds, cost in axes:
        costs = [cost(row) for row in board]
        usable = [c for c in costs if readable.finite(c) and c > 0]
        # A log scale has no place for a fit that took no time: it stands at the cheapest cost seen.
        floor = max(min(usable, default=ticks[0][0]), ticks[0][0])
        points = [
            charts.Point(
                row.technique,
                f"{readable.score(row.micro_f1)} in {readable.duration(c * in_seconds)}",
                max(c, floor) if readable.finite(c) else floor,
                row.micro_f1,
                row.ci_low if readable.finite(row.ci_low) else row.micro_f1,
                row.ci_high if readable.finite(row.ci_high) else row.micro_f1,
                _role(i, row),
            )
            for i, (row, c) in enumerate(zip(board, costs, strict=True))
            if readable.finite(row.micro_f1)
        ]
        if not points:
            continue
        front = [
            (p.name, readable.duration(p.cost * in_seconds), readable.score(p.score))
            for p in charts.pareto_front(points)
        ]
        svg = charts.scatter(
            points,
            scale,
            identity=identity,
            title=f"micro-F1 against {label}",
            x_label=f"{label}, log scale",
            ticks=ticks,
        )
        figures.append(Figure(Markup(svg), name, front))
    return figures


def _heat(record: StudyRecord) -> tuple[list[str], list[HeatRow]]:
    """Techniques, best first, and labels, most frequent first."""
    order = [row.technique for row in record.summary.leaderboard]
    names = [name for name in order if name in record.per_label]
    by_name = {name: {s.label: s for s in record.per_label[name]} for name in names}
    supports: dict[str, int] = {}
    for name in names:
        for label_score in record.per_label[name]:
            supports.setdefault(label_score.label, label_score.support)
    rows = []
    for label in sorted(supports, key=lambda label: (-supports[label], label)):
        scores = [by_name[name].get(label) for name in names]
        rows.append(
            HeatRow(label, supports[label], scores, max(s.f1 for s in scores if s is not None))
        )
    return names, rows


def _unfinished(record: StudyRecord) -> list[TechniqueResult]:
    """All that was skipped, failed, killed or interrupted, each once."""
    every = [*record.summary.not_finished, *(r for r in record.results if r.status != "ok")]
    return list({(r.technique, r.repeat): r for r in every}.values())


def _energy(results: Sequence[TechniqueResult]) -> list[EnergyRow]:
    """Sums by technique, dearest first; those without a figure are left out."""
    by_name: dict[str, list[TechniqueResult]] = {}
    for result in results:
        if readable.finite(result.energy_kwh) and result.energy_source != "none":
            by_name.setdefault(result.technique, []).append(result)
    rows = [
        EnergyRow(
            name,
            len(runs),
            1000 * sum(r.energy_kwh or 0.0 for r in runs),
            _grams(runs),
            " and ".join(sorted({r.energy_source for r in runs}, reverse=True)),
        )
        for name, runs in by_name.items()
    ]
    return sorted(rows, key=lambda row: (-row.wh, row.technique))


def _grams(runs: Sequence[TechniqueResult]) -> float | None:
    known = [r.emissions_kg for r in runs if r.emissions_kg is not None]
    return 1000 * functools.reduce(float.__add__, known, 0.0) if known else None
