from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from hornbook.errors import DataError
from hornbook.evaluation.metrics import (
    confusion_counts,
    document_counts,
    f1_of_counts,
    label_table,
    score,
)


def matrices(seed: int, n: int = 80, n_labels: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = rng.random((n, n_labels)) < 0.3
    predictions = np.where(rng.random((n, n_labels)) < 0.2, ~targets, targets)
    targets[:, 5] = False  # a label of no document
    predictions[:, 6] = False  # a label never given
    predictions[:, 5] = seed % 2 == 0
    return targets, predictions


@pytest.mark.parametrize("seed", range(4))
def test_multi_label_scores_equal_scikit_learns(seed):
    targets, predictions = matrices(seed)
    got = score(targets, predictions)
    for average in ("micro", "macro", "weighted"):
        expected = sk.f1_score(targets, predictions, average=average, zero_division=0)
        assert getattr(got, f"{average}_f1") == pytest.approx(expected, abs=1e-12)
    assert got.accuracy == pytest.approx(sk.accuracy_score(targets, predictions))
    table = label_table(targets, predictions)
    expected = sk.precision_recall_fscore_support(targets, predictions, zero_division=0)
    for ours, theirs in zip((table.precision, table.recall, table.f1, table.support), expected):
        np.testing.assert_allclose(ours, theirs)


def test_single_label_scores_equal_scikit_learns():
    rng = np.random.default_rng(1)
    truth, guess = rng.integers(0, 5, 200), rng.integers(0, 4, 200)
    got = score(np.eye(5, dtype=bool)[truth], np.eye(5, dtype=bool)[guess])
    kwargs = {"labels": range(5), "zero_division": 0}
    assert got.macro_f1 == pytest.approx(sk.f1_score(truth, guess, average="macro", **kwargs))
    assert got.weighted_f1 == pytest.approx(sk.f1_score(truth, guess, average="weighted", **kwargs))
    assert got.accuracy == got.micro_f1 == pytest.approx(sk.accuracy_score(truth, guess))


def test_single_label_confusions_are_the_confusion_matrix_off_its_diagonal():
    rng = np.random.default_rng(2)
    truth, guess = rng.integers(0, 4, 100), rng.integers(0, 4, 100)
    expected = sk.confusion_matrix(truth, guess, labels=range(4))
    np.fill_diagonal(expected, 0)
    eye = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(confusion_counts(eye[truth], eye[guess]), expected)


def test_a_document_that_keeps_its_label_is_no_confusion():
    """Labels a, b, c: {a} given {a, b} swaps nothing; {a} given {b} swaps a for b."""
    targets = np.array([[1, 0, 0], [1, 0, 0]], dtype=bool)
    predictions = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    assert confusion_counts(targets, predictions).tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 0]]


def test_document_counts_sum_to_micro_f1():
    targets, predictions = matrices(3)
    total = document_counts(targets, predictions).sum(0)
    assert f1_of_counts(total) == pytest.approx(score(targets, predictions).micro_f1)


@pytest.mark.parametrize(
    "wrong",
    [
        np.array(["a text", "another"]),
        np.array([["a text"], ["another"]]),
        np.array([[1, 0], [0, 1]]),
        np.zeros((2, 2)),
    ],
)
def test_texts_and_numbers_are_refused_where_labels_belong(wrong):
    right = np.zeros((2, 2), dtype=bool)
    for pair in ((right, wrong), (wrong, right)):
        with pytest.raises(DataError, match="boolean matrix"):
            score(*pair)


def test_other_shapes_and_no_documents_are_refused():
    with pytest.raises(DataError, match="one shape"):
        score(np.zeros((3, 2), bool), np.zeros((3, 4), bool))
    with pytest.raises(DataError, match="at least one row"):
        score(np.zeros((0, 2), bool), np.zeros((0, 2), bool))
