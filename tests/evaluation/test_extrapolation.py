"""What more labels would bring, and when nothing can be said of it; labels that look wrong."""

from __future__ import annotations

import numpy as np
import pytest

from hornbook.evaluation.evaluate import resampled, with_intervals
from hornbook.evaluation.extrapolation import fit, read_curve
from hornbook.evaluation.label_doubts import label_doubts
from hornbook.records import CurvePoint
from hornbook.tasks.task import Metric

SIZES = (100, 200, 400, 800, 1600)


def curve(rates, n=1000, seed=0, higher=True):
    """Points whose metric is a share of n validation examples, and their resamples."""
    rng = np.random.default_rng(seed)
    difficulty = rng.random(n)  # the same examples are hard for all fits
    points, samples = [], []
    for size, rate in zip(SIZES, rates):
        hits = difficulty < rate
        rows = np.stack([hits if higher else ~hits, np.ones(n)], axis=1).astype(float)
        metric = Metric("share", rows, of=lambda s: s[..., 0] / s[..., 1], higher_is_better=higher)
        points.append(
            CurvePoint(n_examples=size, metric=with_intervals([metric], resamples=400)[0])
        )
        samples += resampled([metric], resamples=400)
    return read_curve(points, samples)


def test_a_power_law_is_found_again():
    sizes = np.array(SIZES, float)
    true = 0.95 - 3.0 * sizes**-0.5
    law = fit(sizes, np.stack([true, true - 0.1]), most=1.0)
    np.testing.assert_allclose(law.exponent, 0.5, atol=0.02)
    np.testing.assert_allclose(law.at(3200.0), [0.95 - 3.0 * 3200**-0.5] * 2 - np.array([0, 0.1]),
                               atol=1e-3)  # fmt: skip


def test_a_ceiling_is_not_above_what_is_possible():
    sizes = np.array(SIZES, float)
    law = fit(sizes, np.array([[0.5, 0.62, 0.74, 0.86, 0.98]]), most=1.0)
    assert law.ceiling[0] <= 1.0
    assert fit(sizes, np.array([[0.5, 0.62, 0.74, 0.86, 0.98]]), most=None).ceiling[0] > 1.0


def test_the_forecast_covers_what_comes():
    rate = [0.95 - 2.0 * n**-0.5 for n in (*SIZES, 3200, 6400)]
    found = curve(rate[:5])
    assert found.refusal == ""
    for forecast, true in zip(found.forecasts, rate[5:]):
        assert forecast.low - 0.02 < true < forecast.high + 0.02
        assert forecast.low <= forecast.value <= forecast.high
    assert found.forecasts[0].gain > 0
    assert "3,200" in found.says
    wide = [f.high - f.low for f in found.forecasts]
    assert wide[1] > wide[0]  # further ahead is less sure


def test_a_flat_curve_is_refused():
    found = curve([0.9, 0.901, 0.899, 0.9, 0.902])
    assert found.forecasts == []
    assert "did not rise beyond chance" in found.says


def test_a_jump_is_no_law():
    found = curve([0.5, 0.95, 0.5, 0.5, 0.9], n=1500)
    assert found.forecasts == []
    assert "power law" in found.refusal


def test_a_sudden_rise_at_the_end_is_not_followed_downwards():
    """Small parts that learnt nothing, then a jump: a law through them would forecast a fall."""
    found = curve([0.84, 0.84, 0.84, 0.88, 0.97], n=94)
    assert found.forecasts == [] or found.forecasts[0].value >= found.points[-1].metric.value


def test_a_metric_that_begins_at_nothing_is_a_number():
    """F1 of a rare class is exactly 0 where the smallest part taught none of it."""
    found = curve([0.0, 0.2, 0.4, 0.5, 0.57])
    assert found.points[0].metric.value == 0
    assert "too few" not in found.refusal


def test_a_curve_that_has_levelled_off_is_said_to():
    found = curve([0.99 - 0.3 * (n / 100) ** -2.0 for n in SIZES], n=3000)
    assert "next to nothing" in found.says


def test_a_falling_error_is_forecast_to_fall():
    found = curve([0.95 - 2.0 * n**-0.5 for n in SIZES], higher=False)
    values = [p.metric.value for p in found.points]
    assert values == sorted(values, reverse=True)
    assert found.forecasts[0].value < values[-1]
    assert found.forecasts[0].gain > 0  # a gain is an improvement, whichever way the metric runs


def test_three_points_are_too_few():
    points = [
        CurvePoint(n_examples=n, metric=with_intervals([ones(n)])[0]) for n in (10, 20, 40)
    ]  # fmt: skip
    assert "too few" in read_curve(points, [np.ones(200)] * 3).refusal


def ones(n):
    return Metric("m", np.ones((n, 2)), of=lambda s: s[..., 0] / s[..., 1])


def predicted(labels, wrong=(), sure=0.97):
    names = ("ham", "spam")
    said = []
    for i, label in enumerate(labels):
        best = names[1 - names.index(label)] if i in wrong else label
        other = names[1 - names.index(best)]
        # not equally sure of all: what is usual has some width
        p = sure - 0.05 * (i % 5) / 5
        said.append({"label": best, "probabilities": {best: p, other: 1 - p}})
    return said


def test_labels_that_the_model_sees_otherwise_are_doubted():
    labels = ["spam" if i % 4 == 0 else "ham" for i in range(200)]
    found = label_doubts([(label,) for label in labels], predicted(labels, wrong={3, 40}))
    assert {d.row for d in found} == {3, 40}
    assert {tuple(d.suggested) for d in found} == {("spam",), ("ham",)}
    assert all(d.probability < 0.3 for d in found)


def test_nothing_is_doubted_where_the_model_only_guesses():
    """Sure of nothing, it may not accuse: every probability is near a half."""
    labels = ["spam" if i % 2 else "ham" for i in range(200)]
    wrong = set(range(0, 200, 3))
    assert label_doubts([(x,) for x in labels], predicted(labels, wrong, sure=0.56)) == []


def test_of_several_labels_one_too_many_and_one_missing_are_found():
    rng = np.random.default_rng(0)
    names = [f"t{j}" for j in range(4)]
    targets = rng.random((300, 4)) < 0.4
    probability = np.where(targets, 0.93, 0.04) + rng.uniform(-0.03, 0.03, targets.shape)
    targets[5, 0], targets[6, 1] = ~targets[5, 0], ~targets[6, 1]
    labels = [tuple(np.array(names)[row]) for row in targets]
    said = [
        {"labels": [], "probabilities": dict(zip(names, map(float, row)))} for row in probability
    ]
    rows = {d.row for d in label_doubts(labels, said)}
    assert rows <= {5, 6} and rows


@pytest.mark.parametrize(
    "predictions", [["text"] * 40, [{"spans": []}] * 40, [{"number": 1.0}] * 40]
)
def test_of_what_has_no_probabilities_there_are_no_doubts(predictions):
    assert label_doubts([("a",)] * 40, predictions) == []
