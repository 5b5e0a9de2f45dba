from __future__ import annotations

import time

import numpy as np
import pytest

from hornbook.evaluation.metrics import document_counts, score
from hornbook.evaluation.significance import (
    bootstrap_micro_f1,
    holm,
    interval,
    paired_p_value,
)


def system(truth: np.ndarray, wrong: float, seed: int) -> np.ndarray:
    """One-hot predictions that are wrong with probability `wrong`."""
    rng = np.random.default_rng(seed)
    guess = np.where(
        rng.random(len(truth)) < wrong, (truth + rng.integers(1, 5, len(truth))) % 5, truth
    )
    return np.eye(5, dtype=bool)[guess]


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 5, 1000)


def counts(truth: np.ndarray, *predictions: np.ndarray) -> np.ndarray:
    return np.stack([document_counts(np.eye(5, dtype=bool)[truth], p) for p in predictions])


def test_the_interval_of_an_accuracy_is_the_binomials(truth):
    """Single-label micro-F1 is an accuracy; its standard error is sqrt(p (1 - p) / n)."""
    samples = bootstrap_micro_f1([counts(truth, system(truth, 0.2, 1))])[:, 0]
    low, high = interval(samples)
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.8 * 0.2 / 1000), rel=0.1)
    assert low < 0.8 < high


def test_repeats_are_averaged_as_the_leaderboard_does(truth):
    runs = [system(truth, 0.2, seed) for seed in (1, 2, 3)]
    samples = bootstrap_micro_f1([counts(truth, *runs)])
    mean = np.mean([score(np.eye(5, dtype=bool)[truth], run).micro_f1 for run in runs])
    assert samples.mean() == pytest.approx(mean, abs=1e-3)
    alone = bootstrap_micro_f1([counts(truth, run) for run in runs])
    np.testing.assert_allclose(samples[:, 0], alone.mean(1))  # the same draws for all


def test_a_worse_system_is_told_apart_and_an_equal_one_is_not(truth):
    leader, equal, worse = (system(truth, w, s) for w, s in ((0.2, 1), (0.2, 2), (0.3, 3)))
    samples = bootstrap_micro_f1([counts(truth, p) for p in (leader, equal, worse)])
    assert paired_p_value(samples[:, 0], samples[:, 1]) > 0.05
    assert paired_p_value(samples[:, 0], samples[:, 2]) < 0.01
    assert paired_p_value(samples[:, 0], samples[:, 0]) == 1.0


def test_pairing_finds_what_two_overlapping_intervals_hide(truth):
    leader = system(truth, 0.3, 1)
    other = leader.copy()
    right = np.flatnonzero((leader == np.eye(5, dtype=bool)[truth]).all(1))[:12]
    other[right] = np.roll(leader[right], 1, axis=1)  # wrong on 12 documents more, else the same
    samples = bootstrap_micro_f1([counts(truth, leader), counts(truth, other)])
    assert interval(samples[:, 1])[1] > interval(samples[:, 0])[0]
    assert paired_p_value(samples[:, 0], samples[:, 1]) < 0.01


def test_holm_worked_by_hand():
    """Sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 raised to .06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_chunks_do_not_change_the_draws(truth, monkeypatch):
    many = [counts(truth, system(truth, 0.2, 1))]
    whole = bootstrap_micro_f1(many, resamples=50)
    monkeypatch.setattr("hornbook.evaluation.significance._CHUNK", 7000)
    np.testing.assert_array_equal(bootstrap_micro_f1(many, resamples=50), whole)


def test_eleven_systems_on_three_thousand_documents_take_less_than_two_seconds():
    rng = np.random.default_rng(0)
    systems = [rng.integers(0, 3, (1, 3000, 3)) for _ in range(11)]
    start = time.perf_counter()
    bootstrap_micro_f1(systems)
    assert time.perf_counter() - start < 2.0
