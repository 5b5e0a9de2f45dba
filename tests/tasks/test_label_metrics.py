"""Metrics from sums are scikit-learn's and scipy's, on all rows and on any resample of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as theirs

from hornbook.tasks.metrics import multi_label_metrics, regression_metrics, single_label_metrics

N, NAMES = 60, ("a", "b", "c", "d")


def single(rng, n_labels):
    targets = rng.integers(0, n_labels, N)
    predicted = np.where(rng.random(N) < 0.6, targets, rng.integers(0, n_labels, N))
    return targets, predicted


def resample(metric, rows):
    if metric.of_rows is not None:
        return float(metric.of_rows(metric.statistics[rows]))
    return float(metric.of(metric.statistics[rows].sum(0)))


@pytest.mark.parametrize("n_labels", [2, 4])
def test_single_labels(n_labels):
    rng = np.random.default_rng(n_labels)
    targets, predicted = single(rng, n_labels)
    found = {m.name: m for m in single_label_metrics(targets, predicted, NAMES[:n_labels])}
    for rows in (np.arange(N), rng.integers(0, N, N)):
        y, p = targets[rows], predicted[rows]
        macro = theirs.f1_score(y, p, labels=range(n_labels), average="macro", zero_division=0)
        assert resample(found["accuracy"], rows) == pytest.approx(theirs.accuracy_score(y, p))
        assert resample(found["macro_f1"], rows) == pytest.approx(macro)
        assert resample(found["matthews"], rows) == pytest.approx(theirs.matthews_corrcoef(y, p))
        if n_labels == 2:
            assert resample(found["f1_b"], rows) == pytest.approx(theirs.f1_score(y, p))
    assert next(iter(found)) == "accuracy"


def test_several_labels():
    rng = np.random.default_rng(0)
    targets = rng.random((N, 4)) < 0.3
    predicted = np.where(rng.random((N, 4)) < 0.8, targets, ~targets)
    targets[:, 3] = predicted[:, 3] = False  # a label that nobody has
    found = multi_label_metrics(targets, predicted)
    assert [m.name for m in found] == ["micro_f1", "macro_f1", "samples_f1", "accuracy"]
    for rows in (np.arange(N), rng.integers(0, N, N)):
        y, p = targets[rows], predicted[rows]
        for metric, average in zip(found, ("micro", "macro", "samples"), strict=False):
            expected = theirs.f1_score(y, p, average=average, zero_division=0)
            assert resample(metric, rows) == pytest.approx(expected)
        assert resample(found[3], rows) == pytest.approx(theirs.accuracy_score(y, p))


def test_numbers():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 6, N).astype(float)  # with ties
    predicted = targets + rng.normal(size=N) + 1000.0
    pearson, spearman, error = regression_metrics(targets, predicted)
    for rows in (np.arange(N), rng.integers(0, N, N)):
        y, p = targets[rows], predicted[rows]
        assert resample(pearson, rows) == pytest.approx(stats.pearsonr(y, p)[0])
        assert resample(spearman, rows) == pytest.approx(stats.spearmanr(y, p)[0])
        assert resample(error, rows) == pytest.approx(theirs.mean_squared_error(y, p))
    assert not error.higher_is_better


def test_what_has_no_correlation_counts_as_none():
    targets = np.arange(10.0)
    pearson, spearman, _ = regression_metrics(targets, np.full(10, 0.1))
    assert pearson.value == spearman.value == 0
    always = single_label_metrics(np.array([0, 1, 1]), np.array([1, 1, 1]), NAMES[:2])
    assert next(m for m in always if m.name == "matthews").value == 0


def test_a_label_that_the_head_has_not_is_missed():
    found = single_label_metrics(np.array([0, -100]), np.array([0, 1]), NAMES[:2])
    assert found[0].value == 0.5
