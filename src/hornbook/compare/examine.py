"""A closer look at the test: scores per label, confusions, hardest and mislabelled texts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from hornbook.compare.judge import Judge, Verdicts
from hornbook.evaluation.metrics import confusion_counts, label_table
from hornbook.records import Confusion, HardText, LabelScore

_MOST = 20  # texts, and confusions a technique, that a reader is shown
_SURE, _DOUBTFUL = 0.8, 0.1  # mean probability of the suggested and of the given label
_EXCERPT = 600  # letters


def per_label(judge: Judge, verdicts: Verdicts) -> list[LabelScore]:
    """Precision, recall, F1 and support of each label, the most frequent first."""
    table = label_table(judge.targets, verdicts.predictions)
    scores = [
        LabelScore(label=label, support=int(n), precision=float(p), recall=float(r), f1=float(f))
        for label, n, p, r, f in zip(
            judge.problem.label_names, table.support, table.precision, table.recall, table.f1
        )
    ]
    return sorted(scores, key=lambda s: -s.support)


def confusions(judge: Judge, verdicts: Verdicts) -> list[Confusion]:
    """Which label is given in place of which, the most frequent first."""
    counts = confusion_counts(judge.targets, verdicts.predictions)
    names = judge.problem.label_names
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST]
    pairs = zip(*np.unravel_index(order, counts.shape))
    return [
        Confusion(truth=names[i], predicted=names[j], count=int(counts[i, j]))
        for i, j in pairs
        if counts[i, j]
    ]


def hardest(judge: Judge, verdicts: Mapping[str, Verdicts]) -> list[HardText]:
    """Test texts that most techniques get wrong; ties by the leader's doubt of the true label.

    verdicts: by technique, the leader first.
    """
    wrong = _wrong(judge, verdicts)
    leader = next(iter(verdicts.values()))
    truth = _truth_probability(judge, leader.probabilities)
    order = np.lexsort((truth, -wrong))[:_MOST]
    return [
        _hard_text(judge, i, leader.predictions[i], int(wrong[i]), len(verdicts), truth[i])
        for i in order
        if wrong[i]
    ]


def mislabelled(judge: Judge, verdicts: Mapping[str, Verdicts]) -> list[HardText]:
    """Test texts whose label most techniques contradict, in agreement and with high probability.

    Either a label not given has a mean probability of at least .8, or, in its place or not, the
    one given has at most .1; and more than half of the techniques are wrong in that same label.
    Texts with a label that no training text has are left out: there the techniques know nothing.
    """
    if len(verdicts) < 3:
        return []
    leader = next(iter(verdicts.values()))
    mean = np.mean([v.probabilities for v in verdicts.values()], axis=0)
    share = np.mean([v.predictions for v in verdicts.values()], axis=0)
    suggested = (share > 0.5) & (mean >= _SURE)
    doubted = judge.targets & (share < 0.5) & (mean <= _DOUBTFUL)
    added = suggested & ~judge.targets
    # A text with nothing left to say for it is hard, not mislabelled: something must be suggested.
    contradicted = added.any(1) | (doubted.any(1) & suggested.any(1))
    contradicted &= ~judge.unseen.any(1)
    strength = np.where(added, mean, 0).max(1) + np.where(doubted, 1 - mean, 0).max(1)
    wrong = _wrong(judge, verdicts)
    truth = _truth_probability(judge, leader.probabilities)
    rows = [i for i in np.argsort(-strength, kind="stable") if contradicted[i]][:_MOST]
    return [
        _hard_text(
            judge,
            i,
            suggested[i] | (judge.targets[i] & ~doubted[i]) & judge.problem.multi_label,
            int(wrong[i]),
            len(verdicts),
            truth[i],
        )
        for i in rows
    ]


def _wrong(judge: Judge, verdicts: Mapping[str, Verdicts]) -> np.ndarray:
    """How many techniques have each text not exactly right: (N,)."""
    wrong = [(judge.beside_truth(v.predictions) != judge.truth).any(1) for v in verdicts.values()]
    return np.sum(wrong, axis=0)


def _truth_probability(judge: Judge, probabilities: np.ndarray) -> np.ndarray:
    """The least probability of a text's true labels (N,); of having none, where it has none."""
    every = np.concatenate([probabilities, np.zeros(judge.unseen.shape)], axis=1)
    least = np.where(judge.truth, every, 1.0).min(axis=1)
    return np.where(judge.truth.any(1), least, 1.0 - probabilities.max(axis=1))


def _hard_text(
    judge: Judge, i: int, predicted: np.ndarray, n_wrong: int, n_techniques: int, probability: float
) -> HardText:
    example = judge.test[i]
    text = example.document.full
    return HardText(
        id=example.id,
        text=text if len(text) <= _EXCERPT else text[:_EXCERPT] + " …",
        truth=sorted(example.labels),
        predicted=[judge.problem.label_names[j] for j in np.flatnonzero(predicted)],
        n_wrong=n_wrong,
        n_techniques=n_techniques,
        probability=float(np.clip(probability, 0, 1)),
    )
