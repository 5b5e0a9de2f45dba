"""Quality against cost as inline SVG, and the small dot-and-whisker scale beside each score.

matplotlib draws; what it writes is then stripped of metadata, and its colours become CSS variables
(`var(--ink)`), so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hornbook.records import LeaderboardRow
from hornbook.reports.placement import Box, place_labels
from hornbook.reports.readable import excerpt, finite, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Role = Literal["leader", "tie", "other"]

# Drawn in colours that occur nowhere else, then exchanged for the page's variables.
_INK, _SOFT, _RULE = "#010203", "#010204", "#010205"
_ROLE: dict[Role, str] = {"leader": "#010206", "tie": "#010207", "other": "#010208"}
_FRONT, _CARD = "#010209", "#01020a"
_VARIABLES = {
    _INK: "ink",
    _SOFT: "soft",
    _RULE: "rule",
    _ROLE["leader"]: "lead",
    _ROLE["tie"]: "tie",
    _ROLE["other"]: "other",
    _FRONT: "front",
    _CARD: "card",
}
_WIDTH, _HEIGHT = 480, 384  # pixels; two stand side by side on a desk, one fills a phone
_FONT = 12.0

# Steps of about three; every second one goes when they would stand too close.
SECONDS = tuple(
    zip(
        (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800, 36_000),
        "0.1·ms 1·ms 10·ms 0.1·s 0.3·s 1·s 3·s 10·s 30·s 1·min 3·min 10·min 30·min 1·h 3·h "
        "10·h".replace("·", "\u00a0").split(" "),
        strict=True,
    )
)
MILLISECONDS = tuple(
    zip(
        (1e-4, 1e-3, 1e-2, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 100_000),
        "0.1·µs 1·µs 10·µs 0.1·ms 0.3·ms 1·ms 3·ms 10·ms 30·ms 100·ms 300·ms 1·s 3·s 10·s "
        "100·s".replace("·", "\u00a0").split(" "),
        strict=True,
    )
)


@dataclass(frozen=True)
class Point:
    """One technique in a chart: what it costs, how good it is and between which bounds.

    note: its score and cost in words, written beside the name where it lies off the chart.
    """

    name: str
    note: str
    cost: float
    score: float
    low: float
    high: float
    role: Role


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats by being cheaper and at least as good; cheapest first."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.score, p.name)):
        if not front or point.score > front[-1].score:
            front.append(point)
    return front


@dataclass(frozen=True)
class Whisker:
    """Pixels of one interval on a ScoreScale. off_scale: the dot lies left of what is drawn."""

    dot: float
    left: float
    right: float
    off_scale: bool


@dataclass(frozen=True)
class ScoreScale:
    """A linear scale of scores, `width` pixels wide, that shows where the good ones differ."""

    low: float
    high: float
    width: float = 150.0
    margin: float = 6.0

    def x(self, value: float) -> float:
        """Pixels from the left; a score off the scale is put at its end."""
        share = (value - self.low) / (self.high - self.low)
        inner = self.width - 2 * self.margin
        return round(self.margin + inner * min(max(share, 0.0), 1.0), 2)

    def whisker(self, row: LeaderboardRow) -> Whisker:
        ends = [value if finite(value) else row.micro_f1 for value in (row.ci_low, row.ci_high)]
        return Whisker(self.x(row.micro_f1), self.x(ends[0]), self.x(ends[1]), self.off(row))

    def off(self, row: LeaderboardRow) -> bool:
        return not row.micro_f1 >= self.low

    def ticks(self, n_most: int = 4) -> list[float]:
        """At most n_most round numbers inside the scale."""
        for step in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2):
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            if last - first < n_most:
                return [round(k * step, 4) for k in range(first, last + 1)]
        return [0.0, 0.5, 1.0]


def score_scale(rows: Sequence[LeaderboardRow], width: float = 150.0) -> ScoreScale:
    """Cover the intervals of all that come within 0.25 of the best; the rest is off the scale.

    A majority vote at 0.05 would otherwise press those that matter into one dot.
    """
    rows = [row for row in rows if finite(row.micro_f1)]
    if not rows:
        return ScoreScale(0.0, 1.0, width)
    best = max(row.micro_f1 for row in rows)
    near = [row for row in rows if row.micro_f1 >= best - 0.25]
    shown = near if len(near) > 1 else rows
    values = [v for row in shown for v in (row.ci_low, row.micro_f1, row.ci_high) if finite(v)]
    low, high = min(values), max(values)
    margin = max(0.06 * (high - low), 0.004)
    return ScoreScale(max(0.0, low - margin), min(1.0, high + margin), width)


def scatter(
    points: Sequence[Point],
    scale: ScoreScale,
    *,
    identity: str,
    title: str,
    x_label: str,
    ticks: Sequence[tuple[float, str]],
) -> str:
    """Draw score against cost (log) with intervals, the Pareto front and names that don't overlap.

    identity: prefix of the SVG's ids, so that two charts may share a page. Points below the scale
    stand as arrows at its foot, moved to its nearest end where they cost less or more than all
    others, with their score and cost beside the name. Returns the text of an <svg>.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    if not points:
        raise ValueError("a chart needs at least one point")
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": identity, "font.size": _FONT}
    with mpl.rc_context(style), warnings.catch_warnings():
        # The browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(_WIDTH / 72, _HEIGHT / 72), dpi=72)
        axes = figure.add_axes((50 / _WIDTH, 46 / _HEIGHT, 1 - 60 / _WIDTH, 1 - 58 / _HEIGHT))
        shown = [p.cost for p in points if p.score >= scale.low]
        axes.set(xscale="log", xlim=_cost_range(shown or [p.cost for p in points], ticks))
        foot = scale.low - 0.09 * (scale.high - scale.low)
        off = any(p.score < scale.low for p in points)
        axes.set_ylim(foot if off else scale.low, scale.high)
        _draw_frame(axes, x_label, ticks, scale)
        _draw_points(axes, points, scale, foot)
        _draw_names(axes, points, scale, foot)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _for_page(file.getvalue(), identity, title)


def _cost_range(costs: Sequence[float], ticks: Sequence[tuple[float, str]]) -> tuple[float, float]:
    """Limits with room for names at both ends, and wide enough to hold two ticks."""
    low, high = math.log10(min(costs)), math.log10(max(costs))
    room = max(0.09 * (high - low), 0.25)
    low, high = low - room, high + room
    marks = [math.log10(value) for value, _ in ticks]
    while sum(low <= mark <= high for mark in marks) < 2:
        low, high = low - 0.1, high + 0.1
    return 10**low, 10**high


def _draw_frame(
    axes: Axes, x_label: str, ticks: Sequence[tuple[float, str]], scale: ScoreScale
) -> None:
    axes.minorticks_off()
    low, high = axes.get_xlim()
    shown = [(value, name) for value, name in ticks if low <= value <= high]
    while len(shown) > 7:
        shown = shown[1::2]
    axes.set_xticks([value for value, _ in shown], [name for _, name in shown])
    rungs = scale.ticks(7)
    axes.set_yticks(rungs, [f"{rung:.3f}".rstrip("0").ljust(4, "0") for rung in rungs])
    axes.tick_params(length=0, pad=6, labelcolor=_SOFT)
    axes.grid(True, color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=_SOFT, linewidth=0.8)
    axes.set_xlabel(x_label, color=_SOFT, labelpad=6)


def _draw_points(axes: Axes, points: Sequence[Point], scale: ScoreScale, foot: float) -> None:
    front = [p for p in pareto_front(points) if p.score >= scale.low]
    if front:
        steps = [*(p.cost for p in front), axes.get_xlim()[1]]
        heights = [*(p.score for p in front), front[-1].score]
        axes.step(steps, heights, where="post", color=_FRONT, linewidth=1.4, zorder=2)
    for point in points:
        colour = _ROLE[point.role]
        if point.score < scale.low:
            axes.plot(
                [_foot_cost(axes, point)],
                [_foot_height(scale, foot)],
                "v",
                color=colour,
                markersize=6,
            )
            continue
        axes.vlines(
            point.cost, point.low, point.high, color=colour, linewidth=1.3, alpha=0.6, zorder=3
        )
        filled = colour if point.role != "other" else _CARD
        axes.plot(
            [point.cost],
            [point.score],
            "o",
            markersize=8 if point.role == "leader" else 7,
            markerfacecolor=filled,
            markeredgecolor=colour,
            markeredgewidth=1.5,
            zorder=4,
        )


def _foot_cost(axes: Axes, point: Point) -> float:
    """The cost, or the nearest that still leaves room for the arrow within the chart."""
    low, high = map(math.log10, axes.get_xlim())
    inset = 0.02 * (high - low)
    return 10 ** min(max(math.log10(point.cost), low + inset), high - inset)


def _foot_height(scale: ScoreScale, foot: float) -> float:
    return (2 * foot + scale.low) / 3


def _draw_names(axes: Axes, points: Sequence[Point], scale: ScoreScale, foot: float) -> None:
    """Write each name where there is room; a thin line leads to its point when that is far."""
    from matplotlib.transforms import IdentityTransform

    def pixels(x: float, y: float) -> tuple[float, float]:
        return tuple(map(float, axes.transData.transform((x, y))))  # type: ignore[return-value]

    anchors, names, obstacles = [], [], []
    for point in points:
        off = point.score < scale.low
        if off:
            x, y = pixels(_foot_cost(axes, point), _foot_height(scale, foot))
        else:
            x, y = pixels(point.cost, point.score)
        anchors.append((x, y))
        name = excerpt(printable(point.name), 26)
        names.append(f"{name}: {point.note}" if off else name)
        obstacles.append(Box(x - 6, y - 6, x + 6, y + 6, weight=8))
        if not off:
            low, high = pixels(point.cost, point.low)[1], pixels(point.cost, point.high)[1]
            obstacles.append(Box(x - 1, low, x + 1, high, weight=0.5))
    front = [pixels(p.cost, p.score) for p in pareto_front(points) if p.score >= scale.low]
    right = pixels(axes.get_xlim()[1], 0)[0]
    for (x, y), (next_x, next_y) in zip(front, [*front[1:], (right, front[-1][1] if front else 0)]):
        obstacles.append(Box(x, y - 1.5, next_x, y + 1.5, weight=1.5))
        obstacles.append(Box(next_x - 1.5, y, next_x + 1.5, next_y, weight=1.5))
    frame = axes.get_window_extent()
    bounds = Box(frame.x0 + 2, frame.y0 + 2, _WIDTH - 2, _HEIGHT - 2)
    sizes = [(_text_width(name), 1.25 * _FONT) for name in names]
    boxes = place_labels(anchors, sizes, bounds=bounds, obstacles=obstacles)
    plain = IdentityTransform()
    for point, (x, y), name, box in zip(points, anchors, names, boxes, strict=True):
        near_x, near_y = min(max(x, box.x0), box.x1), min(max(y, box.y0), box.y1)
        distance = math.hypot(near_x - x, near_y - y)
        if distance > 14:
            from_x, from_y = x + (near_x - x) * 6 / distance, y + (near_y - y) * 6 / distance
            axes.plot(
                [from_x, near_x], [from_y, near_y], color=_SOFT, linewidth=0.6, transform=plain
            )
        side = "left" if near_x >= x and box.x0 >= x else "right" if box.x1 <= x else "center"
        text_x = {"left": box.x0, "right": box.x1, "center": (box.x0 + box.x1) / 2}[side]
        axes.text(
            text_x,
            box.y0 + 0.3 * _FONT,
            name,
            ha=side,
            va="baseline",
            color=_INK if point.role != "other" else _SOFT,
            fontsize=_FONT,
            fontweight="bold" if point.role == "leader" else "normal",
            parse_math=False,
            transform=plain,
        )


def _text_width(text: str) -> float:
    """Pixels, on the generous side: the reader's font isn't known here."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return _FONT * (0.57 * (len(text) - wide) + 1.05 * wide) + 2


def _for_page(svg: str, identity: str, title: str) -> str:
    """Cut prolog, metadata and the global style; make ids unique and colours the page's own."""
    from markupsafe import escape

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{identity}-', svg)
    svg = svg.replace('href="#', f'href="#{identity}-').replace("url(#", f"url(#{identity}-")
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(title)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)
