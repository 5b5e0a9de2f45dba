"""What labels get of texts without content, worked by hand; and how far shares are from true."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from hornbook.tasks.calibration import calibration_error, cross_fitted, fit_softmax
from hornbook.tasks.label_bias import log_odds_apart, log_preferences


def test_shares_are_divided_by_those_of_texts_without_content():
    """The example of the module: .6 and .4, of a model that gives nothing .8 and .2."""
    off = log_preferences(np.log([[0.8, 0.2]]))
    shares = softmax(np.log([0.6, 0.4]) - off)
    assert shares == pytest.approx([0.75 / 2.75, 2 / 2.75])


def test_the_shares_of_several_texts_without_content_are_averaged():
    """Means of .8 and .4, of .2 and .6; scores may be moved by any number, row by row."""
    free = np.log([[0.8, 0.2], [0.4, 0.6]]) + np.array([[5.0], [-700.0]])
    assert np.exp(log_preferences(free)) == pytest.approx([0.6, 0.4])


@pytest.mark.parametrize("seed", range(5))
def test_a_label_that_is_high_for_every_text_no_longer_wins_always(seed):
    """Whatever is added to a label's scores, of all texts alike, makes no difference."""
    rng = np.random.default_rng(seed)
    texts, free, liked = rng.normal(size=(40, 4)), rng.normal(size=(3, 4)) / 9, np.zeros(4)
    liked[seed % 4] = 30.0
    assert (np.argmax(texts + liked, axis=1) == seed % 4).all()
    mended = texts + liked - log_preferences(np.tile(free[0], (3, 1)) + liked)
    fair = texts - log_preferences(np.tile(free[0], (3, 1)))
    np.testing.assert_allclose(softmax(mended, axis=1), softmax(fair, axis=1), atol=1e-9)
    assert len(set(mended.argmax(axis=1))) == 4


def test_log_odds_are_brought_together_and_their_level_stays():
    """Means -3 and -5: the first label is 1 above -4, the second 1 below."""
    off = log_odds_apart([[-2.0, -6.0], [-4.0, -4.0]])
    assert off.tolist() == [1.0, -1.0]


def test_the_error_is_the_mean_distance_of_accuracy_from_confidence():
    """Four texts of .9, three right: |.75 - .9|; one of .6, wrong: |0 - .6|; over five texts."""
    shares = np.array([[0.9, 0.1]] * 4 + [[0.6, 0.4]])
    right = np.array([0, 0, 0, 1, 1])
    assert calibration_error(shares, right) == pytest.approx((4 * 0.15 + 0.6) / 5)
    assert calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_a_temperature_mends_shares_that_are_too_sure():
    """Three in four are right, the model says nearly 1: log 3 is the logit that says .75."""
    labels = np.arange(80) % 2
    targets = np.where(np.arange(80) % 8 < 6, labels, 1 - labels)
    scores = np.where(labels[:, None] == [0, 1], 10.0, 0.0)
    one_hot = targets[:, None] == [0, 1]
    fitted = fit_softmax(scores, one_hot, with_bias=False)
    assert fitted.slope == pytest.approx([np.log(3) / 10] * 2, rel=0.02)
    assert calibration_error(softmax(scores, axis=1), targets) == pytest.approx(0.25, abs=1e-3)
    assert calibration_error(cross_fitted(scores, one_hot), targets) < 0.02


def test_no_row_is_judged_by_a_temperature_that_it_had_a_part_in():
    """The one text that the model gets wrong is surest where it was not learnt from."""
    scores = np.array([[4.0, 0.0]] * 6)
    targets = np.array([[True, False]] * 5 + [[False, True]])
    own = fit_softmax(scores, targets, with_bias=False).probabilities(scores)
    crossed = cross_fitted(scores, targets)
    assert crossed[5, 0] > own[5, 0] + 0.05
