"""Patterns in curves: made ones of each kind, and those that lie just on this side of another."""

from __future__ import annotations

import math
import random

import pytest

from hornbook.evaluation.curves import read_curves, smoothed
from hornbook.records import EvaluationRecord, Metrics, StepRecord

N = 400


def run(train, validation=None, *, rate=None, every=40, n=N) -> Metrics:
    """train, validation, rate: functions of progress 0..1."""
    rate = rate or (lambda p: 1e-3 * (1 - 0.95 * p))
    validation = validation or (lambda p: train(p) + 0.05)
    steps = [
        StepRecord(step=i, tokens=i * 10, seconds=i / 10, loss=train(i / n), lr=rate(i / n))
        for i in range(1, n + 1)
    ]
    evaluations = [
        EvaluationRecord(
            step=i,
            tokens=i * 10,
            seconds=i / 10,
            train_loss=train(i / n),
            validation_loss=validation(i / n),
        )
        for i in range(every, n + 1, every)
    ]
    return Metrics(steps=steps, evaluations=evaluations)


def falling(p, start=4.2, end=1.5, speed=9):
    return end + (start - end) * math.exp(-speed * p)


def noise(scale, seed=0):
    rng = random.Random(seed)
    return lambda p: falling(p) + rng.gauss(0, scale)


def overfit(p):
    return falling(p) + 0.1 + max(0, p - 0.5)


CASES = {
    "healthy": run(falling),
    "healthy, with the noise of ordinary batches": run(noise(0.04)),
    "overfitting": run(lambda p: falling(p) - 0.4 * p, overfit),
    "divergence": run(lambda p: falling(p) + (3 if p > 0.6 else 0)),
    "leak": run(falling, lambda p: 0.7 * falling(p)),
    "no learning": run(lambda p: math.log(65) - 0.02 * p),
    "noisy": run(noise(0.4), lambda p: falling(p) + 0.05),
    "plateau": run(lambda p: falling(p, speed=20), rate=lambda p: 1e-3),
    "still learning": run(lambda p: falling(p, speed=1.5)),
}


def test_losses_that_do_not_compare_are_not_compared():
    """A network on counts trains with a fold of them left out: validation lies well below."""
    easier = run(falling, lambda p: 0.7 * falling(p))
    assert read_curves(easier, vocab_size=65, alike=False).pattern == "healthy"
    harder = run(lambda p: 0.5 * falling(p), lambda p: falling(p))
    assert read_curves(harder, vocab_size=65).pattern == "overfitting"
    reading = read_curves(harder, vocab_size=65, alike=False)
    assert reading.pattern == "healthy" and "does not compare" in reading.says
    assert not any("gap" in e.name for e in reading.evidence)
    turned = read_curves(CASES["overfitting"], vocab_size=65, alike=False)
    assert turned.pattern == "overfitting", "validation that rises needs no comparison"


@pytest.mark.parametrize("name", CASES)
def test_each_pattern_is_named(name):
    reading = read_curves(CASES[name], vocab_size=65)
    assert reading.pattern == name.partition(",")[0]
    assert reading.says
    assert reading.advice
    assert all(e.value is not None for e in reading.evidence)


def test_a_loss_that_is_thrown_about_far_above_guessing_has_diverged():
    rng = random.Random(0)
    wild = run(lambda p: falling(p) if p < 0.5 else rng.uniform(20, 500))
    assert read_curves(wild, vocab_size=65).pattern == "divergence"
    assert read_curves(wild).pattern == "divergence"


def test_one_spike_that_is_recovered_from_is_no_divergence():
    spiked = run(lambda p: 9.0 if abs(p - 0.5) < 1 / N else falling(p))
    assert read_curves(spiked, vocab_size=65).pattern == "healthy"


def test_a_small_loss_that_doubles_is_no_divergence():
    """Memorised text swings between 0.02 and 0.05: nothing has come apart."""
    swing = run(lambda p: 0.05 if p > 0.9 else falling(p, end=0.02, speed=20))
    assert read_curves(swing, vocab_size=65).pattern != "divergence"


def test_refused_steps_are_divergence_only_from_the_second_on():
    def refused(n):
        metrics = run(falling)
        bad = [s.model_copy(update={"loss": None, "refused": True}) for s in metrics.steps[:n]]
        return metrics.model_copy(update={"steps": [*bad, *metrics.steps[n:]]})

    assert read_curves(refused(1), vocab_size=65).pattern == "healthy"
    reading = read_curves(refused(2), vocab_size=65)
    assert reading.pattern == "divergence"
    assert reading.evidence[0].value == 2


@pytest.mark.parametrize(("rise", "pattern"), [(0.015, "healthy"), (0.03, "overfitting")])
def test_validation_may_wobble_by_two_per_cent_before_it_is_overfitting(rise, pattern):
    def validation(p):
        return falling(p, speed=20) * (1 + (rise if p > 0.95 else 0))

    metrics = run(lambda p: falling(p, speed=20) - 0.1 * p, validation)
    assert read_curves(metrics, vocab_size=65).pattern == pattern


@pytest.mark.parametrize(("left", "pattern"), [(1.2, "healthy"), (2.0, "overfitting")])
def test_validation_that_was_left_far_behind_is_overfitting_though_it_does_not_rise(left, pattern):
    metrics = run(lambda p: falling(p, end=1.0), lambda p: falling(p, end=left))
    assert read_curves(metrics, vocab_size=65).pattern == pattern


def test_both_curves_rising_together_is_not_overfitting():
    up = run(lambda p: falling(p, speed=20) + max(0, p - 0.8), None)
    assert read_curves(up, vocab_size=65).pattern != "overfitting"


@pytest.mark.parametrize(("share", "pattern"), [(0.9, "healthy"), (0.8, "leak")])
def test_validation_a_little_below_training_happens(share, pattern):
    """Dropout, or an easier passage, accounts for a tenth."""
    assert read_curves(run(falling, lambda p: share * falling(p))).pattern == pattern


def test_far_below_counting_is_no_leak_where_training_is_as_low():
    good = run(falling)
    assert read_curves(good, vocab_size=65, counting=3.5).pattern == "healthy"


def test_a_curve_that_is_flat_because_its_rate_came_down_is_no_plateau():
    flat = {"train": lambda p: falling(p, speed=20)}
    high = read_curves(run(**flat, rate=lambda p: 1e-3), vocab_size=65)
    low = read_curves(run(**flat, rate=lambda p: 1e-3 * (1 - 0.9 * p)), vocab_size=65)
    assert (high.pattern, low.pattern) == ("plateau", "healthy")


def test_counting_that_is_still_better_is_said():
    reading = read_curves(run(falling), vocab_size=65, counting=1.2)
    assert "Counting is still better" in reading.advice[0]


def test_the_first_pattern_is_told_and_the_others_are_listed():
    both = run(lambda p: falling(p) - 0.5 * p, lambda p: 0.4 * falling(p) + 0.3 * max(0, p - 0.5))
    reading = read_curves(both, vocab_size=65)
    assert reading.pattern == "leak"
    assert "overfitting" in reading.also


def test_too_little_is_not_read():
    assert read_curves(run(falling, n=10, every=9)).pattern == "too short"
    assert read_curves(Metrics()).pattern == "too short"


def test_training_alone_can_be_read():
    metrics = run(lambda p: falling(p) + (3 if p > 0.6 else 0)).model_copy(
        update={"evaluations": []}
    )
    assert read_curves(metrics, vocab_size=65).pattern == "divergence"
    assert read_curves(run(falling).model_copy(update={"evaluations": []})).pattern == "healthy"


def test_a_running_median_forgets_a_spike():
    assert smoothed([1, 1, 9, 1, 1], 3) == [1, 1, 1, 1, 1]


def test_metrics_survive_a_torn_line_and_steps_taken_again(tmp_path):
    metrics = run(falling, n=40, every=10)
    lines = "".join(
        r.model_dump_json() + "\n"
        for r in sorted([*metrics.steps, *metrics.evaluations], key=lambda r: r.step)
    )
    again = "".join(
        s.model_copy(update={"loss": 7.0}).model_dump_json() + "\n" for s in metrics.steps[25:30]
    )
    read = Metrics.from_lines(lines + again + '{"kind": "step", "st')
    assert [s.step for s in read.steps] == list(range(1, 31))
    assert [s.loss for s in read.steps[-5:]] == [7.0] * 5
    assert [e.step for e in read.evaluations] == [10, 20]
