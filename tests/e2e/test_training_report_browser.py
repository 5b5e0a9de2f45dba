"""A training run's report in a real browser: it asks for nothing, its switch works, it fits."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from hornbook.reports.training import render

TESTS = Path(__file__).parents[1]
study_page = runpy.run_path(str(TESTS / "e2e" / "test_report_browser.py"))
fake = runpy.run_path(str(TESTS / "reports" / "fake_run.py"))
pytestmark = pytest.mark.skipif(study_page["CHROMIUM"] is None, reason="Chromium isn't installed")
EVIL = study_page["EVIL"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    made = study_page["Browser"](tmp_path_factory.mktemp("profile"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    metrics = fake["fake_metrics"](n_steps=300, every=30)
    evil = metrics.evaluations[0].model_copy(update={"sample": EVIL + "x" * 5000})
    metrics = metrics.model_copy(update={"evaluations": [evil, *metrics.evaluations[1:]]})
    summary = fake["fake_run"](metrics).model_copy(update={"command": EVIL})
    path = tmp_path_factory.mktemp("run") / "report.html"
    path.write_text(render(summary, metrics), encoding="utf-8")
    return path


def test_nothing_is_fetched_and_nothing_runs(browser, page):
    browser.open(page)
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.evaluate("document.documentElement.dataset.planted ?? null") is None
    assert EVIL in browser.evaluate("document.body.textContent")


def test_the_switch_shows_one_chart_at_a_time(browser, page):
    browser.open(page)
    visible = (
        "[...document.querySelectorAll('.view')].filter(v => v.offsetHeight > 0)"
        ".map(v => v.className).join()"
    )
    assert browser.evaluate(visible) == "view step-even"
    browser.evaluate("document.querySelector('[for=x-time]').click()")
    browser.evaluate("document.querySelector('[for=s-log]').click()")
    assert browser.evaluate(visible) == "view time-log"


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_never_scrolls_sideways_and_its_charts_can_be_read(browser, page, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.send("Emulation.setDeviceMetricsOverride", **size)
    browser.open(page)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    heights = browser.evaluate(
        "[...document.querySelectorAll('.lines text')].map(t => t.getBoundingClientRect().height)"
        ".filter(h => h > 0)"
    )
    assert min(heights) >= 9
    browser.send("Emulation.clearDeviceMetricsOverride")
