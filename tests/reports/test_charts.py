"""Charts say what the numbers say, and their names can be read."""

from __future__ import annotations

import random
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from hornbook.records import LeaderboardRow
from hornbook.reports import charts
from hornbook.reports.placement import Box, place_labels


def point(name, cost, score, role="other"):
    return charts.Point(name, "note", cost, score, score - 0.02, score + 0.02, role)


def draw(points, **changes):
    options = {"identity": "fit", "title": "t", "x_label": "x", "ticks": charts.SECONDS}
    return charts.scatter(points, charts.ScoreScale(0.7, 0.9), **(options | changes))


def row(name, score, half=0.02):
    costs = dict.fromkeys(
        ["fit_seconds", "cpu_seconds", "p50_ms", "p95_ms", "texts_per_second", "energy_kwh"], 1.0
    )
    scores = dict.fromkeys(["micro_f1", "macro_f1", "weighted_f1", "accuracy"], score)
    return LeaderboardRow(
        technique=name,
        ci_low=score - half,
        ci_high=score + half,
        ties_with_leader=False,
        peak_bytes=1,
        size_bytes=1,
        energy_source="none",
        n_repeats=1,
        **scores,
        **costs,
    )


def test_nothing_beats_the_front_and_the_front_beats_the_rest():
    rng = random.Random(3)
    points = [point(str(i), rng.uniform(1, 9), round(rng.uniform(0, 1), 2)) for i in range(60)]
    front = charts.pareto_front(points)

    def beaten(p):
        return any(
            q.cost <= p.cost and q.score >= p.score and (q.cost, q.score) != (p.cost, p.score)
            for q in points
        )

    assert {p.name for p in front} == {p.name for p in points if not beaten(p)}
    assert [p.cost for p in front] == sorted(p.cost for p in front)


def test_a_dearer_technique_of_the_same_score_is_not_on_the_front():
    points = [point("dear", 9, 0.8), point("cheap", 1, 0.8), point("worse", 1, 0.7)]
    assert [p.name for p in charts.pareto_front(points)] == ["cheap"]


def test_names_neither_overlap_nor_leave_the_picture():
    rng = random.Random(11)
    points = [(rng.gauss(240, 45), rng.gauss(190, 35)) for _ in range(14)]
    sizes = [(rng.uniform(40, 90), 15.0) for _ in points]
    bounds = Box(0, 0, 480, 384)
    boxes = place_labels(points, sizes, bounds=bounds)
    assert all(bounds.contains(box) for box in boxes)
    assert sum(a.overlap(b) for a, b in combinations(boxes, 2)) == 0


def test_names_of_one_and_the_same_point_are_told_apart():
    boxes = place_labels([(100, 100)] * 6, [(60, 15)] * 6, bounds=Box(0, 0, 480, 384))
    assert sum(a.overlap(b) for a, b in combinations(boxes, 2)) == 0


def test_a_chart_is_the_same_each_time_and_holds_nothing_but_the_drawing():
    points = [point("a", 1, 0.8, "leader"), point("b", 30, 0.85)]
    svg = draw(points)
    assert svg == draw(points)
    for foreign in ("<metadata", "<style", "<!--", "<?xml", "#0102", "DejaVu Sans</", "<image"):
        assert foreign not in svg


def test_two_charts_share_no_id():
    points = [point("a", 1, 0.8), point("b", 30, 0.85)]

    def ids(svg):
        return {e.get("id") for e in ET.fromstring(_with_namespace(svg)).iter()} - {None}

    assert not ids(draw(points)) & ids(draw(points, identity="latency"))


@pytest.mark.parametrize(
    "name", ["$\\frac{$", "<script>alert(1)</script>", "日本語の技", "a\x00b&<"]
)
def test_any_name_can_be_drawn(name):
    root = ET.fromstring(_with_namespace(draw([point(name, 1, 0.8)])))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "g", "path", "text", "defs", "use", "clipPath", "rect", "tspan"}
    texts = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
    assert any(name[0] in text for text in texts)


def test_the_scale_shows_where_the_good_ones_differ():
    rows = [row("a", 0.85), row("b", 0.84), row("majority", 0.09)]
    scale = charts.score_scale(rows)
    assert 0.8 < scale.low < 0.82 and 0.87 <= scale.high < 0.9
    assert [scale.off(r) for r in rows] == [False, False, True]
    whisker = scale.whisker(rows[0])
    assert 0 < whisker.left < whisker.dot < whisker.right < scale.width
    assert all(scale.low <= tick <= scale.high for tick in scale.ticks())
    assert 2 <= len(scale.ticks()) <= 5


@pytest.mark.parametrize("scores", [[], [0.0], [1.0], [0.5, 0.5], [float("nan"), 0.3]])
def test_a_scale_always_has_a_width(scores):
    scale = charts.score_scale([row(str(i), s, half=0.0) for i, s in enumerate(scores)])
    assert 0 <= scale.low < scale.high <= 1


def _with_namespace(svg):
    return svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
