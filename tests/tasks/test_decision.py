"""The decision layer: exact thresholds, honest choice, and what must hold for any scores."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from hornbook.errors import CheckpointError, DataError, TrainingError
from hornbook.tasks.calibration import fit_logistic
from hornbook.tasks.decision import Decision
from hornbook.tasks.folds import deal_folds
from hornbook.tasks.thresholds import expected_f1_thresholds, global_threshold


def micro_f1(predicted: np.ndarray, targets: np.ndarray) -> float:
    return 2 * (predicted & targets).sum() / max(predicted.sum() + targets.sum(), 1)


def macro_f1(predicted: np.ndarray, targets: np.ndarray) -> float:
    hits = 2 * (predicted & targets).sum(axis=0)
    return float((hits / np.maximum(predicted.sum(axis=0) + targets.sum(axis=0), 1)).mean())


def imbalanced(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets of 12 labels, from frequent to rare, each with an offset of its own."""
    rng = np.random.default_rng(seed)
    share = np.geomspace(0.4, 0.004, 12)
    targets = rng.random((n_rows, 12)) < share
    offset = np.random.default_rng(99).normal(size=12)
    return rng.normal(size=(n_rows, 12)) + 2.5 * targets - 3 + offset, targets


def one_label_each(n_rows: int, n_labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    targets = np.eye(n_labels, dtype=bool)[rng.integers(0, n_labels, n_rows)]
    return rng.normal(size=(n_rows, n_labels)) + 2 * targets, targets


def test_global_threshold_worked_by_hand():
    """Falling: .9 right, .8 right, .6 wrong, .5 right, .2 wrong; 3 true labels.

    F1 of the first 1..5: 2/4, 4/5, 4/6, 6/7, 6/8. The fourth is best: cut between .5 and .2.
    """
    values = np.array([[0.9], [0.8], [0.6], [0.5], [0.2]])
    targets = np.array([[1], [1], [0], [1], [0]], bool)
    assert global_threshold(values, targets, at_least_one=False) == pytest.approx(0.35)


@pytest.mark.parametrize("at_least_one", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_global_threshold_is_the_best_of_all(at_least_one, seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, (15, 3)) / 4 if seed % 2 else rng.normal(size=(15, 3))
    targets = rng.random((15, 3)) < [0.1, 0.4, 0.7]

    def reached(threshold: float) -> float:
        chosen = values >= threshold
        if at_least_one:
            chosen[np.arange(15), values.argmax(axis=1)] = True
        return micro_f1(chosen, targets)

    possible = [-np.inf, *np.unique(values), np.inf]
    found = reached(global_threshold(values, targets, at_least_one=at_least_one))
    assert found == max(reached(threshold) for threshold in possible)


def test_expected_f1_threshold_is_the_best_of_all():
    probabilities = np.random.default_rng(0).beta(0.3, 1.5, (200, 5))
    found = expected_f1_thresholds(probabilities)
    for p, threshold in zip(probabilities.T, found):

        def expected(t: float, p: np.ndarray = p) -> float:
            return 2 * p[p >= t].sum() / ((p >= t).sum() + p.sum())

        assert expected(threshold) == pytest.approx(max(expected(t) for t in p))


def test_thresholds_beat_a_half_on_imbalanced_labels():
    scores, targets = imbalanced(1500, seed=0)
    fresh, truth = imbalanced(4000, seed=1)
    decision = Decision.fit(scores, targets, multi_label=True, seed=0)
    decided = decision.predict(fresh)
    halved = decision.probabilities(fresh) >= 0.5
    assert micro_f1(decided, truth) > micro_f1(halved, truth) + 0.004
    assert macro_f1(decided, truth) > macro_f1(halved, truth) + 0.03


def test_cross_validated_score_foretells_fresh_rows():
    scores, targets = imbalanced(3000, seed=2)
    fresh, truth = imbalanced(20000, seed=3)
    decision = Decision.fit(scores, targets, multi_label=True, seed=0)
    found = micro_f1(decision.predict(fresh), truth)
    assert decision.cross_validated_micro_f1 == pytest.approx(found, abs=0.02)


def test_at_least_one_is_learnt_from_the_targets():
    """Where every row has a label the rule pays; where most have none it would cost."""
    scores, targets = one_label_each(400, 5, seed=0)
    every = Decision.fit(scores, targets, multi_label=True, seed=0)
    assert every.rule is not None and every.rule.at_least_one
    assert every.predict(np.full((3, 5), -50.0)).sum(axis=1).tolist() == [1, 1, 1]

    targets[:300] = False
    scores[:300] = np.random.default_rng(1).normal(size=(300, 5))
    most_without = Decision.fit(scores, targets, multi_label=True, seed=0)
    assert most_without.rule is not None and not most_without.rule.at_least_one
    assert not most_without.predict(np.full((3, 5), -50.0)).any()


def test_single_label_gives_exactly_one():
    scores, targets = one_label_each(300, 7, seed=0)
    decision = Decision.fit(scores, targets, multi_label=False, seed=0)
    predicted = decision.predict(scores)
    assert (predicted.sum(axis=1) == 1).all()
    probabilities = decision.probabilities(scores)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (predicted == (probabilities == probabilities.max(axis=1, keepdims=True))).all()


@pytest.mark.parametrize("multi_label", [True, False])
def test_probabilities_rise_with_the_score(multi_label):
    scores, targets = one_label_each(200, 4, seed=0)
    scores[:, 2] *= -1  # a label whose score misleads: its curve may be flat, never falling
    decision = Decision.fit(scores, targets, multi_label=multi_label, seed=0)
    before = decision.probabilities(scores)
    for j in range(4):
        raised = scores.copy()
        raised[:, j] += 0.5
        assert (decision.probabilities(raised)[:, j] > before[:, j]).all()
        # A label that was given stays given when its score rises.
        assert decision.predict(raised)[decision.predict(scores)[:, j], j].all()


@pytest.mark.parametrize("multi_label", [True, False])
def test_probabilities_are_frequencies(multi_label):
    make = (
        (lambda n, s: imbalanced(n, s)) if multi_label else (lambda n, s: one_label_each(n, 6, s))
    )
    decision = Decision.fit(*make(3000, 0), multi_label=multi_label, seed=0)
    fresh, truth = make(20000, 1)
    probabilities = decision.probabilities(fresh)
    for low in np.arange(0, 1, 0.2):
        inside = (probabilities >= low) & (probabilities < low + 0.2)
        assert probabilities[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.05)


def test_a_label_without_positives_is_improbable():
    scores, targets = imbalanced(500, seed=0)
    targets[:, 5] = False
    decision = Decision.fit(scores, targets, multi_label=True, seed=0)
    assert decision.probabilities(scores)[:, 5].mean() < 0.02


def test_fit_is_a_function_of_held_out_arrays_alone():
    """No test label can reach it: these are its parameters, and each text is decided by itself."""
    parameters = list(inspect.signature(Decision.fit).parameters)
    assert parameters == ["scores", "targets", "multi_label", "seed", "groups"]
    scores, targets = imbalanced(300, seed=0)
    kept = scores.copy(), targets.copy()
    first = Decision.fit(scores, targets, multi_label=True, seed=3)
    fresh, _ = imbalanced(50, seed=1)
    together = first.predict(fresh)
    alone = np.concatenate([first.predict(row[None]) for row in fresh])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(scores, kept[0])
    np.testing.assert_array_equal(targets, kept[1])
    again = Decision.fit(scores, targets, multi_label=True, seed=3)
    assert again.to_json() == first.to_json()


@pytest.mark.parametrize("multi_label", [True, False])
def test_json_gives_the_same_numbers_back(multi_label):
    scores, targets = one_label_each(120, 5, seed=0)
    decision = Decision.fit(scores, targets, multi_label=multi_label, seed=0)
    opened = Decision.from_json(decision.to_json())
    np.testing.assert_array_equal(opened.probabilities(scores), decision.probabilities(scores))
    np.testing.assert_array_equal(opened.predict(scores), decision.predict(scores))
    assert opened.describe() == decision.describe()
    assert opened.cross_validated_micro_f1 == decision.cross_validated_micro_f1


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("n_rows", [1, 2, 7, 40])
@pytest.mark.parametrize("kind", ["constant", "noise", "huge"])
@pytest.mark.parametrize("labels", ["none", "one", "all of one"])
def test_thin_data_is_survived(multi_label, n_rows, kind, labels):
    rng = np.random.default_rng(0)
    scores = {
        "constant": np.full((n_rows, 3), 0.25),
        "noise": rng.normal(size=(n_rows, 3)),
        "huge": 1e30 * rng.normal(size=(n_rows, 3)),
    }[kind]
    targets = np.zeros((n_rows, 3), bool)
    if labels == "one":
        targets[0, 1] = True
    elif labels == "all of one":
        targets[:, 2] = True
    decision = Decision.fit(scores, targets, multi_label=multi_label, seed=0)
    probabilities = decision.probabilities(scores)
    assert ((probabilities >= 0) & (probabilities <= 1)).all()
    assert decision.predict(scores).shape == decision.predict(scores).shape
    assert decision.predict(scores[:0]).shape == (0, 3)
    assert Decision.from_json(decision.to_json()).describe() == decision.describe()


def test_constant_scores_per_label_choose_the_frequent_label():
    targets = np.eye(3, dtype=bool)[[0] * 60 + [1] * 25 + [2] * 15]
    scores = np.tile(targets.mean(axis=0), (100, 1))
    decision = Decision.fit(scores, targets, multi_label=True, seed=0)
    assert decision.predict(scores).all(axis=0).tolist() == [True, False, False]


def test_what_cannot_be_decided_is_said():
    scores, targets = imbalanced(20, seed=0)
    with pytest.raises(DataError, match=r"\(20, 12\).*\(20, 3\)"):
        Decision.fit(scores, targets[:, :3], multi_label=True, seed=0)
    with pytest.raises(DataError):
        Decision.fit(scores[:0], targets[:0], multi_label=True, seed=0)
    scores[3, 4] = np.nan
    with pytest.raises(TrainingError, match="1 of 240"):
        Decision.fit(scores, targets, multi_label=True, seed=0)
    for text in ("", "[]", "{}", '{"multi_label": true, "rule": {"odd": 1}}'):
        with pytest.raises(CheckpointError):
            Decision.from_json(text)


def rare_with_an_outlier() -> tuple[np.ndarray, np.ndarray]:
    """Labels whose scores hardly vary, one with a negative far above its four positives."""
    rng = np.random.default_rng(6)
    targets = rng.random((2000, 8)) < np.geomspace(0.3, 0.002, 8)
    scores = rng.normal(size=(2000, 8)) * 0.25 - 1 + 1.5 * targets
    narrow = 0.04 * rng.exponential(size=(2000, 4)) + targets[:, -4:] * 0.05 * rng.random((2000, 4))
    scores[:, -4:] = narrow - 1
    scores[0, -4:], targets[0, -4:] = 0.28, False
    scores[1:5, -1], targets[1:5, -1] = [-0.9, -0.85, -1, -0.84], True
    return scores, targets


def separable() -> tuple[np.ndarray, np.ndarray]:
    scores, targets = imbalanced(400, seed=4)
    scores[:, 0] += 20 * targets[:, 0]
    return scores, targets


@pytest.mark.parametrize("make", [rare_with_an_outlier, separable])
def test_logistic_curve_minimises_its_loss(make):
    """The gradient of log-loss plus pull vanishes, also where plain Newton steps swing for ever."""
    scores, targets = make()
    common, own = fit_logistic(scores, targets, (float("inf"), 0.1))
    deviation, mean = scores.std(), scores.mean()
    z, gap = (scores - mean) / deviation, own.probabilities(scores) - targets
    away_slope = (own.slope - common.slope) * deviation
    away_bias = (own.bias + own.slope * mean) - (common.bias + common.slope * mean)
    assert np.abs((gap * z).sum(axis=0) + 0.1 * away_slope).max() < 1e-2
    assert np.abs(gap.sum(axis=0) + 0.1 * away_bias).max() < 1e-2


def test_folds_spread_every_label():
    _, targets = imbalanced(600, seed=5)
    folds = deal_folds(targets, 3, seed=0)
    assert np.bincount(folds).max() - np.bincount(folds).min() <= 12
    per_fold = np.stack([targets[folds == fold].sum(axis=0) for fold in range(3)])
    frequent_last = targets.sum(axis=0).argsort()
    assert (np.ptp(per_fold, axis=0)[frequent_last[:4]] <= 1).all()
    assert set(folds) == {0, 1, 2}


def test_groups_stay_in_one_fold_and_labels_are_still_spread():
    rng = np.random.default_rng(3)
    groups = np.sort(rng.integers(0, 150, 400)) * 7 + 3  # any numbers will do
    targets = np.eye(3, dtype=bool)[rng.choice(3, 400, p=[0.6, 0.3, 0.1])]
    folds = deal_folds(targets, 4, 0, groups)
    assert all(len(set(folds[groups == group])) == 1 for group in groups)
    for j in range(3):
        shares = np.bincount(folds[targets[:, j]], minlength=4) / targets[:, j].sum()
        assert shares.min() > 0.18 and shares.max() < 0.32
    np.testing.assert_array_equal(
        deal_folds(targets, 4, 0), deal_folds(targets, 4, 0, np.arange(400))
    )
    two = deal_folds(targets, 5, 0, np.arange(400) < 300)  # fewer groups than folds: none empty
    assert set(two) == {0, 1}
