"""Line charts as inline SVG: few marks, direct labels, colours that are the page's variables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from markupsafe import Markup, escape

from hornbook.reports.readable import excerpt, finite, printable

Points = Sequence[tuple[float, float]]
FONT = 12.0
EARLY = 0.02  # of a run: what is higher then is not made room for
FEW = 12  # points: all of them are made room for
GLYPH = 6.9  # pixels a character takes, on the generous side


@dataclass(frozen=True)
class Line:
    """points: (x, y), x ascending. style: a class of the style sheet. label: at its end; "" none.

    dots: mark every point, for measurements that are few.
    """

    points: Points
    style: str
    label: str = ""
    dots: bool = False


@dataclass(frozen=True)
class Level:
    """A horizontal line with its name."""

    value: float
    label: str


@dataclass(frozen=True)
class Chart:
    """x_text, y_text: how a tick is written. log: both axes logarithmic."""

    lines: Sequence[Line]
    title: str
    x_text: Callable[[float], str]
    y_text: Callable[[float], str]
    levels: Sequence[Level] = ()
    mark: tuple[float, float] | None = None
    log: bool = False
    from_zero: bool = False
    width: int = 480
    height: int = 320
    x_ticks: Callable[[float, float, int], list[float]] | None = None


@dataclass
class _Axis:
    """Maps values to pixels between `first` and `last`."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False
    ticks: list[float] = field(default_factory=list)

    def __call__(self, value: float) -> float:
        low, high = self._scaled(self.low), self._scaled(self.high)
        share = (self._scaled(value) - low) / (high - low)
        return self.first + min(max(share, 0.0), 1.0) * (self.last - self.first)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, 1e-30)) if self.log else value


def thinned(points: Points, n_most: int, *, log: bool = False) -> list[tuple[float, float]]:
    """At most n_most points: means over stretches of equal width (of equal ratio when log)."""
    points = [(x, y) for x, y in points if finite(x) and finite(y) and (x > 0 or not log)]
    if len(points) <= n_most:
        return points
    at = math.log if log else float
    low, high = at(points[0][0]), at(points[-1][0])
    buckets: dict[int, list[tuple[float, float]]] = {}
    for x, y in points:
        share = (at(x) - low) / ((high - low) or 1)
        buckets.setdefault(min(n_most - 1, int(share * n_most)), []).append((x, y))
    return [
        (sum(x for x, _ in found) / len(found), sum(y for _, y in found) / len(found))
        for found in buckets.values()
    ]


def draw(chart: Chart) -> Markup:
    """The text of an <svg>; empty where there is nothing to draw."""
    n_most = chart.width // 2
    lines = [
        replace(line, points=thinned(line.points, n_most, log=chart.log)) for line in chart.lines
    ]
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    longest = max(
        [len(line.label) for line in lines] + [len(level.label) for level in chart.levels]
    )
    right = chart.width - 10 - GLYPH * longest if longest else chart.width - 14
    y = _y_axis(chart, lines, top=14.0, bottom=chart.height - 30.0)
    left = 12 + GLYPH * max(len(chart.y_text(tick)) for tick in y.ticks)
    x = _x_axis(chart, lines, left, right)
    parts = [*_grid(chart, x, y)]
    for level in chart.levels:
        if y.low <= level.value <= y.high:
            parts.append(f'<path class="level" d="M{left:.1f} {y(level.value):.1f}H{right:.1f}"/>')
    for line in lines:
        within = [(a, b) for a, b in line.points if y.low <= b <= y.high]
        places = [(x(a), y(b)) for a, b in within]
        if not places:
            continue
        path = "L".join(f"{a:.1f} {b:.1f}" for a, b in places)
        parts.append(f'<path class="line {line.style}" d="M{path}"/>')
        if line.dots and len(places) <= 60:
            parts += [
                f'<circle class="{line.style}" cx="{a:.1f}" cy="{b:.1f}" r="2.4"/>'
                for a, b in places
            ]
    if chart.mark:
        parts.append(
            f'<circle class="best" cx="{x(chart.mark[0]):.1f}" cy="{y(chart.mark[1]):.1f}" r="5"/>'
        )
    parts += _labels(chart, lines, y, right)
    title = escape(printable(chart.title))
    return Markup(
        f'<svg class="lines" role="img" aria-label="{title}" '
        f'viewBox="0 0 {chart.width} {chart.height}">{"".join(parts)}</svg>'
    )


def _y_axis(chart: Chart, lines: Sequence[Line], top: float, bottom: float) -> _Axis:
    main = [line for line in lines if line.style != "faint"] or list(lines)
    start = min(line.points[0][0] for line in main)
    end = max(line.points[-1][0] for line in main)
    # The first steep fall may leave the chart at its top: it would flatten all that follows.
    many = max(len(line.points) for line in main) > FEW
    cut = EARLY if many and not chart.log and not chart.from_zero else 0.0
    later = [b for line in main for a, b in line.points if a >= start + cut * (end - start)]
    low, high = min(later), max(later)
    for level in chart.levels:  # a level far off would press the curves together
        if finite(level.value) and low - (high - low) <= level.value <= high + (high - low):
            low, high = min(low, level.value), max(high, level.value)
    if chart.from_zero and not chart.log:
        low = min(low, 0.0)
    room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    if chart.log:
        low, high = max(low, 1e-9) / 1.03, max(high, 1e-9) * 1.03
    else:
        low, high = low - (0 if chart.from_zero and low == 0 else room), high + room
    axis = _Axis(low, high, bottom, top, chart.log)
    n_most = max(3, int((bottom - top) / 42))
    axis.ticks = log_ticks(low, high, n_most) if chart.log else even_ticks(low, high, n_most)
    return axis


def _x_axis(chart: Chart, lines: Sequence[Line], left: float, right: float) -> _Axis:
    values = [a for line in lines for a, _ in line.points]
    low, high = min(values), max(values)
    if not chart.log:
        low = 0.0 if low < 0.2 * high else low
    if high <= low:
        high = low + (abs(low) or 1.0)
    axis = _Axis(low, high, left, right, chart.log)
    n_most = max(2, int((right - left) / 64))
    make = log_ticks if chart.log else chart.x_ticks or even_ticks
    axis.ticks = make(low, high, n_most)
    return axis


def _grid(chart: Chart, x: _Axis, y: _Axis) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(f'<path class="rule" d="M{x.first:.1f} {at:.1f}H{x.last:.1f}"/>')
        parts.append(
            f'<text class="tick end" x="{x.first - 6:.1f}" y="{at + 4:.1f}">'
            f"{escape(chart.y_text(tick))}</text>"
        )
    parts.append(f'<path class="axis" d="M{x.first:.1f} {y.first:.1f}H{x.last:.1f}"/>')
    for tick in x.ticks:
        text = escape(chart.x_text(tick))
        at = min(max(x(tick), 4 + GLYPH * len(text) / 2), chart.width - GLYPH * len(text) / 2)
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{y.first + 19:.1f}">{text}</text>')
    return parts


def _labels(chart: Chart, lines: Sequence[Line], y: _Axis, right: float) -> list[str]:
    """Names at the right, pushed apart where they would touch."""
    wanted = [(y(line.points[-1][1]), line.label, line.style) for line in lines if line.label]
    wanted += [
        (y(level.value), level.label, "level")
        for level in chart.levels
        if y.low <= level.value <= y.high
    ]
    wanted.sort()
    places: list[float] = []
    for at, _, _ in wanted:
        places.append(max(at, places[-1] + 15) if places else at)
    over = max(0.0, places[-1] - y.first) if places else 0.0
    for i in range(len(places) - 1, -1, -1):  # what ran out at the foot is pushed up again
        ceiling = places[i + 1] - 15 if i + 1 < len(places) else places[i] - over
        places[i] = min(places[i], ceiling)
    return [
        f'<text class="name {style}" x="{right + 7:.1f}" y="{at + 4:.1f}">'
        f"{escape(printable(excerpt(label, 40)))}</text>"
        for at, (_, label, style) in zip(places, wanted, strict=True)
    ]


def even_ticks(low: float, high: float, n_most: int) -> list[float]:
    """At most n_most round numbers, evenly spaced."""
    exponent = math.floor(math.log10((high - low) / n_most))
    for factor in (1, 2, 5, 10, 20, 50):
        step = factor * 10.0**exponent
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < n_most:
            return [round(k * step, 12) for k in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float, n_most: int) -> list[float]:
    """At most n_most of 1, 2, 5 times a power of ten; even ones where the range is narrow."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]
        if 2 < len(found) <= n_most:
            return found
    if len(found) > n_most:
        return found[:: math.ceil(len(found) / n_most)]
    return even_ticks(low, high, n_most)


def time_ticks(low: float, high: float, n_most: int) -> list[float]:
    """At most n_most round times in seconds."""
    for step in (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400):
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < n_most:
            return [k * step for k in range(first, last + 1)]
    return even_ticks(low, high, n_most)
