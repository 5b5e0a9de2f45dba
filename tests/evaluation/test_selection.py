"""Which texts to label next: unsure ones, unlike one another; and that they teach more."""

from __future__ import annotations

import numpy as np
import pytest

from hornbook.evaluation.selection import margins, select

UNSURE, SURE = (0.5, -0.5), (0.02, -0.02)


def test_copies_are_not_both_taken_and_certain_texts_come_last():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(3, 16))
    near = a + 0.01 * rng.normal(size=16)
    features = np.stack([c, a, near, b, c])
    errors = np.array([SURE, UNSURE, UNSURE, UNSURE, SURE])
    taken = select(errors, features, 5)
    assert {*taken[:2]} in ({1, 3}, {2, 3})
    assert set(taken[3:]) & {0, 4} and set(taken) == set(range(5))
    assert select(errors, features, 2) == taken[:2]


def test_it_is_farthest_first_over_the_gradients_written_out():
    rng = np.random.default_rng(1)
    errors, features = rng.normal(size=(40, 3)), rng.normal(size=(40, 5))
    apart = features - features.mean(0)
    directions = apart / np.linalg.norm(apart, axis=1, keepdims=True)
    gradients = (errors[:, :, None] * directions[:, None, :]).reshape(40, -1)
    centres, expected = [np.zeros(15)], []
    for _ in range(8):
        far = np.stack([((gradients - c) ** 2).sum(1) for c in centres]).min(0)
        expected.append(int(far.argmax()))
        centres.append(gradients[expected[-1]])
    assert select(errors, features + 100, 8) == expected  # whatever all have in common


def test_margins_are_of_the_two_likeliest_or_of_the_least_sure_label():
    one = np.array([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]])
    np.testing.assert_allclose(margins(one, several=False), [0.2, 0.8])
    np.testing.assert_allclose(margins(np.array([[0.9, 0.6], [1.0, 0.0]]), several=True), [0.2, 1])


def test_picked_texts_teach_more_than_as_many_drawn_at_random():
    """Ten topics, most texts of three of them: a draw seldom meets the others."""
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    centres = 2.2 * rng.normal(size=(10, 20))
    shares = np.array([0.3, 0.3, 0.26] + [0.02] * 7)

    def draw(n, shares):
        y = rng.choice(10, n, p=shares)
        return centres[y] + 1.5 * rng.normal(size=(n, 20)), y

    pool, y = draw(600, shares)
    test, y_test = draw(500, np.full(10, 0.1))
    first = [int(np.flatnonzero(y == k)[0]) for k in range(10)]  # one of each is labelled
    others = np.setdiff1d(np.arange(600), first)

    def taught(more):
        rows = [*first, *more]
        model = linear.LogisticRegression(max_iter=300).fit(pool[rows], y[rows])
        return model, model.score(test, y_test)

    model, _ = taught([])
    probabilities = model.predict_proba(pool[others])
    guess = np.eye(10)[probabilities.argmax(1)]
    picked = others[select(probabilities - guess, pool[others], 30)]
    drawn = [taught(rng.choice(others, 30, replace=False))[1] for _ in range(10)]
    assert taught(picked)[1] > np.mean(drawn) + 0.02
