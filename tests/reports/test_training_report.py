"""The report of a training run: made from records alone, whatever stands in them."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest

from hornbook.errors import DataError
from hornbook.records import (
    CurvePoint,
    EvaluationRecord,
    Forecast,
    LearningCurveRecord,
    MetricRecord,
    Metrics,
)
from hornbook.reports.lines import Chart, Line, draw, even_ticks, log_ticks, thinned, time_ticks
from hornbook.reports.training import render, write_training_report

fake = runpy.run_path(str(Path(__file__).with_name("fake_run.py")))
EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\x00\x1b[31m\ud800 {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def metrics():
    return fake["fake_metrics"](n_steps=400, every=20)


@pytest.fixture(scope="module")
def summary(metrics):
    return fake["fake_run"](metrics)


def write(folder, summary, metrics):
    lines = sorted([*metrics.steps, *metrics.evaluations], key=lambda record: record.step)
    folder.joinpath("summary.json").write_text(summary.model_dump_json(), encoding="utf-8")
    text = "".join(record.model_dump_json() + "\n" for record in lines)
    folder.joinpath("metrics.jsonl").write_text(text, encoding="utf-8")


def test_a_folder_of_records_becomes_a_page(tmp_path, summary, metrics):
    write(tmp_path, summary, metrics)
    page = write_training_report(tmp_path).read_text(encoding="utf-8")
    best = min(e.validation_loss for e in metrics.evaluations)
    assert f"<dd>{best:.3f}</dd>" in page
    assert "5-gram 1.669" in page
    assert "overfitting" in page
    assert summary.command in page
    assert page == render(summary, metrics)  # the same records, the same bytes


def test_what_is_missing_or_broken_is_said(tmp_path, summary, metrics):
    with pytest.raises(DataError, match=r"summary\.json"):
        write_training_report(tmp_path)
    write(tmp_path, summary, metrics)
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(DataError, match="no readable record"):
        write_training_report(tmp_path)


def test_foreign_text_cannot_break_the_page(summary, metrics):
    evil_sample = metrics.evaluations[-1].model_copy(update={"sample": EVIL})
    evil_corpus = summary.corpus.model_copy(update={"name": EVIL, "notes": [EVIL]})
    update = {"corpus": evil_corpus, "command": EVIL, "message": EVIL, "settings": {EVIL: EVIL}}
    page = render(
        summary.model_copy(update=update),
        metrics.model_copy(update={"evaluations": [*metrics.evaluations[:-1], evil_sample]}),
    )
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7 * 7 }}" in page
    assert "\x00" not in page
    page.encode("utf-8")


def test_a_run_that_ended_at_once_has_a_page_too(summary):
    bare = summary.model_copy(
        update={
            "plan": None,
            "checks": [],
            "reading": None,
            "referees": [],
            "best_validation_loss": None,
            "best_step": None,
            "best_bits_per_byte": None,
            "status": "failed",
            "message": "a loss was not finite",
        }
    )
    page = render(bare, Metrics())
    assert "No losses were recorded" in page
    assert "a loss was not finite" in page


def test_one_evaluation_and_one_step_can_be_drawn(summary, metrics):
    evaluation = EvaluationRecord(step=1, tokens=1, seconds=0.1, validation_loss=2.0)
    few = Metrics(steps=metrics.steps[:1], evaluations=[evaluation])
    assert "<svg" in render(summary, few)


def test_refused_steps_are_counted_and_not_drawn(summary, metrics):
    refused = metrics.steps[5].model_copy(update={"loss": None, "refused": True})
    steps = [*metrics.steps[:5], refused, *metrics.steps[6:]]
    page = render(summary, metrics.model_copy(update={"steps": steps}))
    assert "1 steps were refused" in page
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL).lower()


def test_a_chart_is_well_formed_and_within_its_frame(metrics):
    points = [(s.step, s.loss) for s in metrics.steps]
    for log in (False, True):
        svg = draw(Chart([Line(points, "train", "a < b")], "t", str, str, log=log))
        root = ET.fromstring(str(svg))
        for circle_or_text in root.iter():
            for key in ("x", "cx"):
                assert 0 <= float(circle_or_text.get(key, 0)) <= 480
        (path,) = [p for p in root.iter("path") if p.get("class") == "line train"]
        places = [tuple(map(float, p.split())) for p in path.get("d")[1:].split("L")]
        assert all(0 <= a <= 480 and 0 <= b <= 320 for a, b in places)
        assert places == sorted(places, key=lambda place: place[0])
        assert places[-1][1] > places[0][1]  # the loss fell, and down is larger in a picture


@pytest.mark.parametrize("height", [0.2, 4, 8.8])
def test_names_at_the_right_do_not_touch(height):
    lines = [Line([(0, 1.0), (1, height + i / 1000)], "train", f"line {i}") for i in range(6)]
    svg = draw(Chart([*lines, Line([(0, 0), (1, 9)], "train")], "t", str, str))
    places = sorted(float(y) for y in re.findall(r'class="name[^>]*y="([\d.]+)"', str(svg)))
    assert len(places) == 6
    assert min(b - a for a, b in pairwise(places)) >= 14.9
    assert min(places) > 0 and max(places) < 320


def test_thinning_keeps_the_mean_and_the_order():
    points = [(float(i), float(i % 2)) for i in range(1, 10_001)]
    few = thinned(points, 100)
    assert len(few) == 100
    assert few == sorted(few)
    assert all(y == pytest.approx(0.5) for _, y in few)
    assert thinned([(1.0, float("nan")), (2.0, 1.0)], 10) == [(2.0, 1.0)]


@pytest.mark.parametrize("ticks", [even_ticks, log_ticks, time_ticks])
@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (0.01, 4e5), (30, 7000), (1, 1.0001)])
def test_ticks_are_few_and_inside(ticks, low, high):
    found = ticks(low, high, 6)
    assert 1 <= len(found) <= 6
    assert found == sorted(found)
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)


def point(n_examples, value, low, high):
    metric = MetricRecord(name="accuracy", value=value, low=low, high=high, higher_is_better=True)
    return CurvePoint(n_examples=n_examples, metric=metric)


@pytest.fixture
def learnt():
    further = {"gain": 0.02, "gain_low": 0.0, "gain_high": 0.04}
    return LearningCurveRecord(
        metric="accuracy <script>alert(1)</script>",
        higher_is_better=True,
        points=[
            point(100 * 2**i, 0.6 + 0.05 * i, 0.58 + 0.05 * i, 0.62 + 0.05 * i) for i in range(5)
        ],
        forecasts=[Forecast(n_examples=3200, value=0.82, low=0.79, high=0.85, **further)],
        says="Twice the labels would help. <script>alert(2)</script>",
    )


def test_a_learning_curve_beside_the_run_is_on_its_page(tmp_path, summary, metrics, learnt):
    write(tmp_path, summary, metrics)
    without = write_training_report(tmp_path).read_text(encoding="utf-8")
    (tmp_path / "learning_curve.json").write_text(learnt.model_dump_json(), encoding="utf-8")
    page = write_training_report(tmp_path).read_text(encoding="utf-8")
    assert 'id="labels"' in page and 'id="labels"' not in without
    assert "Twice the labels would help." in page and "<script>alert" not in page
    section = page.partition('<section id="labels">')[2].partition("</section>")[0]
    assert re.findall(r'<th scope="row">([\d,]+)', section) == [
        *("100", "200", "400", "800", "1,600"), "3,200"
    ]  # fmt: skip
    assert section.count("foreseen") == 3  # its row, and the label of its line in two drawings
    for svg in re.findall(r"<svg.*?</svg>", section, re.DOTALL):
        ET.fromstring(svg)
    (tmp_path / "learning_curve.json").write_text("{}")
    with pytest.raises(DataError, match="no readable record"):
        write_training_report(tmp_path)
