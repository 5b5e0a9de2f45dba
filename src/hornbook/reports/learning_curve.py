"""The learning curve of a run, by the number of examples: a chart and its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import Markup

from hornbook.records import LearningCurveRecord
from hornbook.reports import readable
from hornbook.reports.lines import Chart, Line, draw


@dataclass(frozen=True)
class CurveRow:
    """What was measured with so many examples, or is foreseen, with its 95 % interval."""

    n_examples: int
    value: float
    low: float | None
    high: float | None
    foreseen: bool


@dataclass(frozen=True)
class CurveView:
    """The curve as the page shows it."""

    record: LearningCurveRecord
    rows: list[CurveRow]
    wide: Markup
    narrow: Markup


def view_of(record: LearningCurveRecord) -> CurveView:
    """A record's curve, drawn for a desk and for a phone; sizes double from tick to tick."""
    rows = [
        CurveRow(p.n_examples, p.metric.value, p.metric.low, p.metric.high, foreseen=False)
        for p in record.points
        if p.metric.value is not None
    ]
    rows += [
        CurveRow(f.n_examples, f.value, f.low, f.high, foreseen=True) for f in record.forecasts
    ]
    measured = [row for row in rows if not row.foreseen]

    def line(value: Callable[[CurveRow], float | None], among: list[CurveRow]) -> list:
        return [(math.log2(r.n_examples), v) for r in among if (v := value(r)) is not None]

    lines = [
        Line(line(lambda r: r.low, rows), "thin"),
        Line(line(lambda r: r.high, rows), "thin"),
        Line(line(lambda r: r.value, measured), "validation", "so far", dots=True),
    ]
    if record.forecasts:  # from the last measurement on
        lines.append(Line(line(lambda r: r.value, rows[len(measured) - 1 :]), "train", "foreseen"))

    def drawn(width: int) -> Markup:
        return draw(
            Chart(
                lines=lines,
                title=f"{record.metric} by training examples",
                x_text=lambda x: readable.count(round(2**x)),
                y_text=lambda y: f"{y:.3g}",
                width=width,
                height=280,
                x_ticks=lambda low, high, n_most: _sizes(rows, n_most),
            )
        )

    return CurveView(record, rows, drawn(760), drawn(360))


def _sizes(rows: list[CurveRow], n_most: int) -> list[float]:
    """The sizes that were measured or foreseen, or every so many of them."""
    sizes = sorted({math.log2(row.n_examples) for row in rows})
    return sizes[:: -(-len(sizes) // max(1, n_most))]
