"""Intervals and paired comparisons over any task's metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import nn

from hornbook.errors import DataError
from hornbook.evaluation.evaluate import (
    assess,
    compared,
    comparison,
    hash_of,
    resampled,
    with_intervals,
)
from hornbook.evaluation.metrics import f1_of_counts
from hornbook.evaluation.significance import bootstrap_micro_f1
from hornbook.tasks.task import Metric


def accuracy(hits: np.ndarray, name: str = "accuracy") -> Metric:
    statistics = np.stack([hits, np.ones(len(hits))], axis=1).astype(float)
    return Metric(name, statistics, of=lambda sums: sums[..., 0] / sums[..., 1])


def correlation(rows: np.ndarray) -> Metric:
    return Metric(
        "spearman", rows, of_rows=lambda drawn: float(spearmanr(drawn[:, 0], drawn[:, 1])[0])
    )


def test_an_interval_is_that_of_the_binomial_distribution():
    hits = np.arange(400) % 10 != 0  # 0.9
    (found,) = with_intervals([accuracy(hits)])
    assert found.value == pytest.approx(0.9)
    assert found.n_examples == 400
    half = 1.96 * (0.9 * 0.1 / 400) ** 0.5
    assert found.low == pytest.approx(0.9 - half, abs=0.005)
    assert found.high == pytest.approx(0.9 + half, abs=0.005)


def test_a_metric_of_sums_is_drawn_as_the_study_s_is():
    """The same seed gives the same draws as the leaderboard's bootstrap: one way of resampling."""
    counts = np.random.default_rng(3).integers(0, 3, (150, 3))
    metric = Metric("f1", counts.astype(float), of=f1_of_counts)
    (ours,) = resampled([metric], resamples=50, seed=7)
    theirs = bootstrap_micro_f1([counts[None]], resamples=50, seed=7)[:, 0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_metric_of_rows_is_computed_on_the_rows_drawn():
    """The mean over rows, given both as sums and as rows, has the same samples."""
    hits = np.random.default_rng(0).random(80) < 0.7
    by_sums = accuracy(hits)
    by_rows = Metric("rows", by_sums.statistics, of_rows=lambda rows: float(rows[:, 0].mean()))
    first, second = resampled([by_sums, by_rows], resamples=40)
    np.testing.assert_allclose(first, second)


def test_a_perfect_score_is_not_certain():
    """30 of 30 right: the exact interval begins at 0.025 ** (1 / 30) = 0.884."""
    (found,) = with_intervals([accuracy(np.ones(30))])
    assert (found.low, found.high) == (pytest.approx(0.8843, abs=1e-4), 1.0)
    (none,) = with_intervals([accuracy(np.zeros(30))])
    assert (none.low, none.high) == (0.0, pytest.approx(0.1157, abs=1e-4))


def test_of_a_rare_label_its_own_examples_count():
    """12 of 1,000 texts have it, all are found: 12 successes, not 1,000."""
    counts = np.zeros((1000, 3))
    counts[:12, 0] = 1
    (found,) = with_intervals([Metric("f1", counts, of=f1_of_counts)])
    assert found.low == pytest.approx(0.025 ** (1 / 12))
    (none,) = with_intervals([Metric("f1", np.zeros((9, 3)), of=f1_of_counts)])
    assert (none.low, none.high) == (None, None)


def test_pairing_finds_what_separate_intervals_hide():
    """Two models that err on the same hard examples, one on five more: paired, that is a
    difference; their intervals overlap almost wholly."""
    theirs = np.arange(300) % 3 != 0
    ours = theirs.copy()
    ours[np.flatnonzero(~theirs)[:12]] = True
    first, second = with_intervals([accuracy(ours)]) + with_intervals([accuracy(theirs)])
    assert first.low < second.value  # apart from each other they prove nothing
    (found,) = compared([accuracy(ours)], [accuracy(theirs)])
    assert found.difference == pytest.approx(0.04)
    assert found.low > 0
    assert found.p_value < 0.01
    said = comparison("other", [accuracy(ours)], [accuracy(theirs)]).verdict
    assert said.startswith("Better than other in accuracy")


def test_three_examples_are_three_tosses_of_a_coin():
    """Right on three more, wrong on none: 2 of 2 ** 3 exchanges part them as far, p = 1/4. The
    interval of draws excludes 0 in 19 of 20 cases: the p-value is the more cautious."""
    theirs = np.ones(94)
    theirs[:3] = 0
    (found,) = compared([accuracy(np.ones(94))], [accuracy(theirs)])
    assert found.p_value == pytest.approx(0.25, abs=0.03)


def test_metrics_of_rows_are_exchanged_by_row():
    """The mean, as sums and as rows: the same exchanges, the same p-value."""
    rng = np.random.default_rng(2)
    ours, theirs = (accuracy(rng.random(60) < rate) for rate in (0.8, 0.6))

    def rows(metric):
        return Metric("m", metric.statistics, of_rows=lambda r: float(r[:, 0].mean()))

    by_sums = compared([ours], [theirs], resamples=300)[0]
    by_rows = compared([rows(ours)], [rows(theirs)], resamples=300)[0]
    assert by_rows.p_value == pytest.approx(by_sums.p_value)


def test_noise_is_not_called_a_difference():
    rng = np.random.default_rng(1)
    ours, theirs = rng.random(200) < 0.8, rng.random(200) < 0.8
    said = comparison("other", [accuracy(ours)], [accuracy(theirs)])
    assert said.differences[0].p_value > 0.05
    assert "can be told from chance" in said.verdict


def test_lower_is_better_turns_the_verdict():
    loss = Metric(
        "loss",
        np.ones((50, 2)) * [3.0, 1],
        of=lambda s: s[..., 0] / s[..., 1],
        higher_is_better=False,
    )
    less = Metric("loss", np.ones((50, 2)), of=loss.of, higher_is_better=False)
    assert comparison("other", [loss], [less]).verdict.startswith("Worse than other")


def test_undefined_draws_are_left_out_and_said_where_all_are():
    """A rank correlation of a constant has no number."""
    rows = np.stack([np.ones(20), np.arange(20)], axis=1)
    with pytest.warns(Warning, match="constant"):
        (found,) = with_intervals([correlation(rows)], resamples=5)
    assert (found.value, found.low, found.high) == (None, None, None)


def test_other_examples_and_other_metrics_are_refused():
    with pytest.raises(DataError, match="of 5 examples here and of 6 there"):
        compared([accuracy(np.ones(5))], [accuracy(np.ones(6))])
    with pytest.raises(DataError, match="no metric in common"):
        compared([accuracy(np.ones(5))], [accuracy(np.ones(5), "bleu")])


@dataclass
class Echo:
    """A task whose model answers right where its weight says so; enough for `assess`."""

    name: str = "echo"
    lost: int = 0

    def items(self, examples):
        return list(examples)

    def predict(self, model, items, *, device="cpu", progress=None):
        assert not model.training
        return items[self.lost :]

    def metrics(self, examples, predictions):
        return [accuracy(np.array([a == b for a, b in zip(examples, predictions)]))]


def test_assessing_leaves_the_model_as_it_was_and_counts_predictions():
    model = nn.Linear(1, 1).train()
    found = assess(model, Echo(), ["a", "b"])
    assert model.training
    assert found.predictions == ["a", "b"]
    assert found.metrics[0].value == 1.0
    with pytest.raises(DataError, match="1 predictions for 2 examples"):
        assess(model, Echo(lost=1), ["a", "b"])
    with pytest.raises(DataError, match="no example"):
        assess(model, Echo(), [])


@dataclass(frozen=True, slots=True)
class Row:
    text: str
    labels: tuple[str, ...]


def test_examples_are_known_again_by_their_hash():
    rows = [Row("a", ("x",)), Row("b", ())]
    assert hash_of(rows) == hash_of([Row("a", ("x",)), Row("b", ())])
    assert hash_of(rows) != hash_of(rows[::-1])
    assert hash_of(rows) != hash_of([Row("a", ("y",)), Row("b", ())])
