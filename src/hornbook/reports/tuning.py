"""A search over settings as one HTML page: the score by trial, and by each setting, as dots.

As the other pages: no script, nothing fetched, every value through one gate (see `html`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup, escape

from hornbook.files import write_text
from hornbook.records import TrialRecord, TuningRecord
from hornbook.reports import readable
from hornbook.reports.html import TEMPLATES, environment
from hornbook.reports.lines import even_ticks, log_ticks

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 440, 260, 58, 428, 14, 222


@dataclass(frozen=True)
class Plot:
    """A plot with its caption."""

    caption: str
    svg: Markup


@dataclass(frozen=True)
class Dot:
    """A trial in a plot. x: a number, or the place of a choice."""

    x: float
    y: float
    best: bool
    label: str


def write_tuning_report(record: TuningRecord, path: Path) -> None:
    """Write the page atomically. The same record gives the same bytes."""
    write_text(path, render(record))


def render(record: TuningRecord) -> str:
    """The page as text."""
    names = ("report.css", "training.css")
    css = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    return (
        environment()
        .get_template("tuning.html.j2")
        .render(record=record, css=Markup(css), plots=plots(record), value=value_of(record))
    )


def value_of(record: TuningRecord) -> dict[int, float]:
    """What was chosen by, of each trial that has it, the right way round.

    Of a whole trial as measured at its end; of one cut short the best score on the way, whose last
    digits are the loss, by which equals are told apart.
    """
    up = -1.0 if record.higher_is_better else 1.0
    found = {t.number: round(up * t.score, 4) for t in record.trials if t.score is not None}
    for t in record.trials:
        if t.number in found and (value := t.metrics.get(record.chosen_by)) is not None:
            found[t.number] = value
    return found


def plots(record: TuningRecord) -> list[Plot]:
    """The score by trial, with the best so far; then by each setting that was searched."""
    values = value_of(record)
    scored = [t for t in record.trials if t.number in values]
    if not scored:
        return []

    def dots(x: dict[int, float]) -> list[Dot]:
        return [
            Dot(x[t.number], values[t.number], t.number == record.best, _label(t))
            for t in scored
            if t.number in x
        ]

    better = max if record.higher_is_better else min
    so_far, line = None, []
    for t in scored:
        so_far = values[t.number] if so_far is None else better(so_far, values[t.number])
        line.append((float(t.number), so_far))
    made = [
        Plot(
            f"{record.chosen_by} by trial; the line is the best so far",
            _draw(
                dots({t.number: float(t.number) for t in scored}),
                record.chosen_by,
                whole=True,
                line=line,
            ),
        )
    ]
    for one in record.searched:
        if one.choices:
            place = {str(choice): i for i, choice in enumerate(one.choices)}
            x = {t.number: float(place[str(t.settings[one.name])]) for t in scored}
            names = [str(choice) for choice in one.choices]
            svg = _draw(dots(x), f"{record.chosen_by} by {one.name}", names=names)
        else:
            x = {t.number: float(str(t.settings[one.name])) for t in scored}
            svg = _draw(dots(x), f"{record.chosen_by} by {one.name}", log=one.log, whole=one.whole)
        made.append(Plot(f"by {one.name}", svg))
    return made


def _label(trial: TrialRecord) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return f"trial {trial.number}, {trial.state}: {settings}"


def _draw(
    dots: Sequence[Dot],
    title: str,
    *,
    log: bool = False,
    whole: bool = False,
    names: Sequence[str] = (),
    line: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Dots over two axes; a best one is a ring, and each says on pointing what it was."""
    at = math.log10 if log else float
    low, high = _ends([at(d.x) for d in dots] if not names else [-0.4, len(names) - 0.6])
    bottom, top = _ends([d.y for d in dots])

    def x(value: float) -> float:
        return _LEFT + (at(value) - low) / (high - low) * (_RIGHT - _LEFT)

    def y(value: float) -> float:
        return _BOTTOM - (value - bottom) / (top - bottom) * (_BOTTOM - _TOP)

    parts = []
    for tick in even_ticks(bottom, top, 5):
        parts.append(f'<path class="rule" d="M{_LEFT} {y(tick):.1f}H{_RIGHT}"/>')
        parts.append(
            f'<text class="tick end" x="{_LEFT - 6}" y="{y(tick) + 4:.1f}">{tick:.4g}</text>'
        )
    parts.append(f'<path class="axis" d="M{_LEFT} {_BOTTOM}H{_RIGHT}"/>')
    if names:
        ticks = [(float(i), name) for i, name in enumerate(names)]
    else:
        found = log_ticks(10**low, 10**high, 5) if log else even_ticks(low, high, 6)
        found = [tick for tick in found if not whole or tick == int(tick)]
        ticks = [(tick, f"{tick:.3g}") for tick in found]
    for value, text in ticks:
        parts.append(
            f'<text class="tick middle" x="{x(value):.1f}" y="{_BOTTOM + 19}">'
            f"{escape(readable.excerpt(text, 14))}</text>"
        )
    if line:
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line)
        parts.append(f'<path class="line train" d="M{path}"/>')
    for dot in dots:
        shape = 'class="best" r="5.5"' if dot.best else 'class="validation" r="3.5"'
        parts.append(
            f'<circle {shape} cx="{x(dot.x):.1f}" cy="{y(dot.y):.1f}">'
            f"<title>{escape(readable.printable(dot.label))}: {dot.y:.4g}</title></circle>"
        )
    return Markup(
        f'<svg class="lines" role="img" aria-label="{escape(readable.printable(title))}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{"".join(parts)}</svg>'
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.07 * (high - low) if high - low > 1e-6 * abs(high) else 0.02 * abs(high) or 1.0
    return low - room, high + room
