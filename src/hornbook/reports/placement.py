"""Where to write the names of points so that they cover neither each other nor the drawing.

Plain geometry in pixels, y upwards: each label tries places around its point, nearest first, and
moves as long as that makes the whole picture clearer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_RADII = (9.0, 16.0, 25.0, 37.0, 52.0, 70.0, 92.0)
_ANGLES = tuple(math.radians(a) for a in (0, 180, 60, 120, -60, -120, 30, 150, -30, -150, 90, -90))
_ROUNDS = 30


@dataclass(frozen=True)
class Box:
    """A rectangle; x0 <= x1, y0 <= y1. weight: what covering a square pixel of it costs."""

    x0: float
    y0: float
    x1: float
    y1: float
    weight: float = 1.0

    def overlap(self, other: Box) -> float:
        """The common area, in square pixels."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        return width * height if width > 0 and height > 0 else 0.0

    def contains(self, other: Box) -> bool:
        return (
            self.x0 <= other.x0
            and self.y0 <= other.y0
            and other.x1 <= self.x1
            and other.y1 <= self.y1
        )


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    *,
    bounds: Box,
    obstacles: Sequence[Box] = (),
) -> list[Box]:
    """Choose a box of the given size for each point, inside bounds wherever one fits there.

    Covering another label costs most, then covering an obstacle, then distance from the point.
    The same input gives the same places.
    """
    candidates = [
        _candidates(point, size, bounds) for point, size in zip(points, sizes, strict=True)
    ]
    fixed = [
        [
            1.5 * _distance(box, point) + sum(o.weight * box.overlap(o) for o in obstacles)
            for box in boxes
        ]
        for boxes, point in zip(candidates, points, strict=True)
    ]
    chosen = [min(range(len(costs)), key=costs.__getitem__) for costs in fixed]
    for _ in range(_ROUNDS):
        moved = False
        for i, boxes in enumerate(candidates):
            others = [candidates[j][chosen[j]] for j in range(len(candidates)) if j != i]
            costs = [
                cost + 40 * sum(map(box.overlap, others))
                for cost, box in zip(fixed[i], boxes, strict=True)
            ]
            best = min(range(len(costs)), key=costs.__getitem__)
            if costs[best] < costs[chosen[i]] - 1e-9:
                chosen[i], moved = best, True
        if not moved:
            break
    return [boxes[k] for boxes, k in zip(candidates, chosen, strict=True)]


def _candidates(point: tuple[float, float], size: tuple[float, float], bounds: Box) -> list[Box]:
    """Boxes around the point that lie inside the bounds; all of them when none does."""
    (x, y), (width, height) = point, size
    boxes = []
    for radius in _RADII:
        for angle in _ANGLES:
            dx, dy = math.cos(angle), math.sin(angle)
            # The box's side or corner nearest to the point lies on the circle.
            centre_x = x + radius * dx + width / 2 * _sign(dx)
            centre_y = y + radius * dy + height / 2 * _sign(dy)
            x0, y0 = centre_x - width / 2, centre_y - height / 2
            boxes.append(Box(x0, y0, x0 + width, y0 + height))
    inside = [box for box in boxes if bounds.contains(box)]
    return inside or boxes


def _sign(value: float) -> float:
    return 0.0 if abs(value) < 1e-9 else math.copysign(1.0, value)


def _distance(box: Box, point: tuple[float, float]) -> float:
    """From the point to the nearest edge of the box."""
    x, y = point
    return math.hypot(max(box.x0 - x, 0, x - box.x1), max(box.y0 - y, 0, y - box.y1))
