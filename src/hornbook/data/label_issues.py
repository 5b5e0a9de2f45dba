"""Find labels that are probably wrong, after confident learning (Northcutt et al. 2021).

Each text is judged by a model that was fitted to all others: ridge regression on latent semantic
vectors, whose leave-one-out predictions have a closed form, so that N fits cost as much as one.
Another label is suggested where its probability is nearly as high as is usual for texts that carry
it, and a given one doubted where its probability is as low as is usual for texts that don't.

Letters in shapes: N texts, L labels, D latent dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hornbook.data.duplicates import normalised
from hornbook.data.examples import Example, targets_of

D_LATENT = 800
N_FEATURES = 30_000
N_TEXTS = 20_000  # at most so many are examined, drawn at random; bounds time and memory
PENALTY = 1.0
SUGGESTED_FROM = 0.8  # of the usual probability of a label among the texts that carry it
MISSING_AT_LEAST = 0.7  # probability from which a label may be said to be missing
DOUBTED_BELOW = 0.25  # of the same
SCALES = (1, 2, 4, 6, 8, 10, 12, 16, 24, 32)


@dataclass(frozen=True, slots=True)
class Doubt:
    """A row, the labels that it should perhaps have, and how probable the given ones are.

    probability: the least of a given label's and, with several labels, of another's absence.
    """

    row: int
    suggested: list[str]
    probability: float


def find_label_issues(
    examples: Sequence[Example], *, multi_label: bool, seed: int = 0
) -> list[Doubt]:
    """Rows whose labels are improbable, the least probable first.

    With several labels a text, a label too many and a label missing both count. The label of a
    single text is never doubted, for nothing else tells what it means.
    """
    rows = list(range(len(examples)))
    if len(rows) > N_TEXTS:
        rows = sorted(np.random.default_rng(seed).choice(rows, N_TEXTS, replace=False).tolist())
    label_names = sorted({label for i in rows for label in examples[i].labels})
    if len(label_names) < 2 or len(rows) < 10:
        return []
    targets = targets_of([examples[i] for i in rows], label_names)
    if targets.all():  # several labels, and each text has all of them
        return []
    scores = _left_out_scores([examples[i].document.full for i in rows], targets, seed)
    find = doubts_of_several if multi_label else _doubts_of_one
    suggested, probability, order = find(targets, scores)
    return [
        Doubt(
            rows[i],
            [label_names[j] for j in np.flatnonzero(suggested[i])],
            float(probability[i]),
        )
        for i in order
    ]


def _left_out_scores(texts: list[str], targets: np.ndarray, seed: int) -> np.ndarray:
    """Scores (N, L), each text's by the model fitted to all others: near 1 yes, near 0 no.

    Source: the hat matrix identity, e.g. Hastie, Tibshirani and Friedman 2009, equation 7.64.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    vectorizer = TfidfVectorizer(
        analyzer=_words,
        sublinear_tf=True,
        min_df=2 if len(texts) >= 1000 else 1,
        max_features=N_FEATURES,
        dtype=np.float32,
    )
    weights = vectorizer.fit_transform(texts)
    d_latent = max(1, min(D_LATENT, len(texts) // 2, weights.shape[1] - 1))
    latent = TruncatedSVD(d_latent, n_iter=2, random_state=seed).fit_transform(weights)
    inputs = np.c_[normalize(latent), np.ones(len(texts))].astype(np.float64)  # (N, D + 1)
    gram = inputs.T @ inputs
    gram[np.diag_indices(d_latent)] += PENALTY  # the intercept, last, is not penalised
    solved = np.linalg.solve(gram, inputs.T).T  # (N, D + 1)
    leverage = (solved * inputs).sum(axis=1, keepdims=True)  # (N, 1)
    predicted = inputs @ (solved.T @ targets)  # (N, L)
    return (predicted - leverage * targets) / np.maximum(1 - leverage, 1e-6)


def _words(text: str) -> list[str]:
    return normalised(text).split() or ["\0"]  # so that a text without words is no special case


def _doubts_of_one(
    targets: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels suggested (N, L), probability of the given ones (N,), doubted rows in order."""
    given = targets.argmax(axis=1)
    each = np.arange(len(given))
    probability = min(
        (_softmax(scale * scores) for scale in SCALES),
        key=lambda p: -np.log(np.maximum(p[each, given], 1e-9)).mean(),
    )
    return doubts_by_probability(targets, probability)


def doubts_by_probability(
    targets: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same from calibrated probabilities (N, L) of one label a text, of texts not learnt."""
    given = targets.argmax(axis=1)
    each = np.arange(len(given))
    own = probability[each, given]
    usual = (probability * targets).sum(axis=0) / np.maximum(targets.sum(axis=0), 1)
    confident = np.where(probability >= SUGGESTED_FROM * usual, probability, -1.0)
    confident[:, targets.sum(axis=0) == 0] = -1.0  # what is usual for a label that none has?
    other = confident.argmax(axis=1)
    doubted = (
        (confident.max(axis=1) > 0)
        & (other != given)
        & (own < DOUBTED_BELOW * usual[given])  # never of a label's only text: that is the usual
    )
    suggested = np.zeros_like(targets)
    suggested[each, other] = True
    rows = np.flatnonzero(doubted)
    return suggested, own, rows[np.argsort((own / usual[given])[rows], kind="stable")]


def doubts_of_several(
    targets: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_doubts_of_one`, for targets with several labels a row: each label is a yes or no."""
    from sklearn.linear_model import LogisticRegression

    # One curve for all labels: a rare one has too few texts for a curve of its own.
    curve = LogisticRegression(C=100).fit(scores.reshape(-1, 1), targets.ravel())
    probability = curve.predict_proba(scores.reshape(-1, 1))[:, 1].reshape(scores.shape)
    n_with = targets.sum(axis=0)
    usual_with = (probability * targets).sum(axis=0) / n_with
    usual_without = (probability * ~targets).sum(axis=0) / np.maximum(len(targets) - n_with, 1)
    enough = np.maximum(SUGGESTED_FROM * usual_with, MISSING_AT_LEAST)
    missing = ~targets & (probability >= enough)
    wrong = targets & (probability <= usual_without) & (n_with > 1)
    suggested = (targets & ~wrong) | missing
    doubted = (missing | wrong).any(axis=1) & suggested.any(axis=1)
    agreement = np.where(targets, probability, 1 - probability).min(axis=1)
    rows = np.flatnonzero(doubted)
    return suggested, agreement, rows[np.argsort(agreement[rows], kind="stable")]


def _softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
