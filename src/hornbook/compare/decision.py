"""From scores to labels, the same way for every technique, learnt on held-out scores alone.

Single-label: the most probable label. Multi-label: thresholds. Which kind (one for all labels or
one a label, on the raw score or on the calibrated probability, with or without the rule that every
text gets a label) is chosen by cross-validation over the held-out scores and then fitted to all of
them. Nothing here takes a test label: `fit` is a function of the arrays it is given.

Letters in shapes: M held-out rows, N rows, L labels. Sources: Yang 2001 (thresholds per label and
a guard for rare labels), Lipton et al. 2014 (the best threshold for F1 is half of the F1 reached).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from hornbook.compare.calibration import Calibration, fit_logistic, fit_softmax
from hornbook.errors import CheckpointError, DataError, TrainingError

N_FOLDS = 5
RARE = 5  # a label with fewer held-out positives takes the global threshold


On = Literal["score", "probability"]
SCALES: tuple[On, ...] = ("score", "probability")


@dataclass(frozen=True)
class Rule:
    """A kind of thresholding: what `Decision.fit` chooses among.

    on: the raw score or the calibrated logit. shrinkage: None for one global threshold; else the
    number of positives at which a label's own threshold counts as much as the global one.
    """

    on: On
    shrinkage: float | None
    at_least_one: bool

    def fit(self, values: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Thresholds (L,) for values (M, L) and targets (M, L) bool."""
        shared, f1 = _global_threshold(values, targets, self.at_least_one)
        if self.shrinkage is None:
            return np.full(values.shape[1], shared)
        own = _label_thresholds(values, targets, f1, shared)
        positives = targets.sum(axis=0)
        weight = np.where(positives < RARE, 0.0, positives / (positives + self.shrinkage))
        return weight * own + (1 - weight) * shared

    def apply(self, values: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Labels (N, L) bool for values (N, L)."""
        chosen = values >= thresholds
        if self.at_least_one and len(values):
            empty = np.flatnonzero(~chosen.any(axis=1))
            chosen[empty, values[empty].argmax(axis=1)] = True
        return chosen


RULES = tuple(
    Rule(on, shrinkage, at_least_one)
    for on, shrinkage, at_least_one in product(SCALES, (None, 10.0, 50.0), (True, False))
)


@dataclass(frozen=True, eq=False)
class Decision:
    """A fitted decision layer: calibration, thresholds and how well they did in cross-validation.

    rule: None in the single-label case. thresholds: (L,), on the scale that the rule names.
    """

    calibration: Calibration
    rule: Rule | None
    thresholds: np.ndarray
    cross_validated_micro_f1: float
    cross_validated_macro_f1: float

    @property
    def multi_label(self) -> bool:
        return self.calibration.multi_label

    @classmethod
    def fit(
        cls, scores: np.ndarray, targets: np.ndarray, *, multi_label: bool, seed: int
    ) -> Decision:
        """Learn from held-out scores (M, L) and their targets (M, L) bool.

        seed: draws the folds. Raises DataError where the shapes differ or there are no rows,
        TrainingError where a score is not finite.
        """
        scores, targets = np.asarray(scores, np.float64), np.asarray(targets, bool)
        if scores.ndim != 2 or scores.shape != targets.shape or 0 in scores.shape:
            raise DataError(
                f"cannot fit a decision to scores {scores.shape} and targets {targets.shape}",
                hint="Both must be (rows, labels) with at least one row and one label.",
            )
        _check_finite(scores)
        folds = np.random.default_rng(seed).permutation(len(scores)) % min(N_FOLDS, len(scores))
        fit = _fit_multi if multi_label else _fit_single
        return fit(scores, targets, folds)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, L) float64 of scores (N, L)."""
        _check_finite(np.asarray(scores))
        return self.calibration.probabilities(scores)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Labels (N, L) bool of scores (N, L); single-label: exactly one a row."""
        _check_finite(np.asarray(scores))
        if self.rule is None:
            return _one_hot_argmax(self.calibration.logits(scores))
        return self.rule.apply(_values(self.rule, self.calibration, scores), self.thresholds)

    def describe(self) -> str:
        """The decision in words, e.g. "global threshold 0.31, at least one label"."""
        if self.rule is None:
            biased = bool(self.calibration.bias.any())
            return "most probable label" + (", label biases" if biased else "")
        on_probability = self.rule.on == "probability"
        shown = _sigmoid(self.thresholds) if on_probability else self.thresholds
        if self.rule.shrinkage is None:
            words = f"global threshold {shown[0]:.2f}"
        else:
            words = f"thresholds per label {shown.min():.2f} to {shown.max():.2f}"
        words += " on the probability" if on_probability else " on the score"
        return words + (", at least one label" if self.rule.at_least_one else "")

    def to_json(self) -> str:
        """All of it as JSON; `from_json` gives back the same numbers."""
        rule = None
        if self.rule is not None:
            rule = {
                "on": self.rule.on,
                "shrinkage": self.rule.shrinkage,
                "at_least_one": self.rule.at_least_one,
            }
        return json.dumps(
            {
                "multi_label": self.multi_label,
                "rule": rule,
                "slope": self.calibration.slope.tolist(),
                "bias": self.calibration.bias.tolist(),
                "thresholds": self.thresholds.tolist(),
                "cross_validated_micro_f1": self.cross_validated_micro_f1,
                "cross_validated_macro_f1": self.cross_validated_macro_f1,
                "in_words": self.describe(),
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str) -> Decision:
        """Read what `to_json` wrote. Raises CheckpointError when it is something else."""
        try:
            saved = json.loads(text)
            return cls(
                Calibration(
                    bool(saved["multi_label"]),
                    np.array(saved["slope"], np.float64),
                    np.array(saved["bias"], np.float64),
                ),
                None if saved["rule"] is None else Rule(**saved["rule"]),
                np.array(saved["thresholds"], np.float64),
                float(saved["cross_validated_micro_f1"]),
                float(saved["cross_validated_macro_f1"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"the saved decision cannot be read: {error!r}",
                hint="decision.json is written by Decision.to_json; fit the technique again.",
            ) from error


def _fit_single(scores: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> Decision:
    """Temperature alone, or with biases where these raise accuracy by more than the noise."""
    outcomes = []
    for with_bias in (False, True):
        predicted = np.zeros_like(targets)
        for fold in range(folds.max() + 1):
            inside, outside = _split(folds, fold)
            calibration = fit_softmax(scores[inside], targets[inside], with_bias=with_bias)
            predicted[outside] = _one_hot_argmax(calibration.logits(scores[outside]))
        outcomes.append(Outcome.of(predicted, targets))
    plain, biased = outcomes
    gain, noise = biased.micro_f1 - plain.micro_f1, biased.noise_against(plain)
    with_bias = gain > noise
    chosen = biased if with_bias else plain
    calibration = fit_softmax(scores, targets, with_bias=with_bias)
    nothing = np.zeros(scores.shape[1])
    return Decision(calibration, None, nothing, chosen.micro_f1, chosen.macro_f1)


def _fit_multi(scores: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> Decision:
    """Cross-validate every rule, choose one, and fit it to all rows."""
    calibration = fit_logistic(scores, targets)
    predicted = {rule: np.zeros_like(targets) for rule in RULES}
    for fold in range(folds.max() + 1):
        inside, outside = _split(folds, fold)
        part = fit_logistic(scores[inside], targets[inside], start=calibration)
        for rule in RULES:
            thresholds = rule.fit(_values(rule, part, scores[inside]), targets[inside])
            values = _values(rule, part, scores[outside])
            predicted[rule][outside] = rule.apply(values, thresholds)
    outcomes = {rule: Outcome.of(predicted[rule], targets) for rule in RULES}
    best = max(outcomes.values(), key=lambda outcome: outcome.micro_f1)
    # Rules within the noise of the best in micro-F1 are equals there: macro-F1 decides among them.
    equals = {
        rule: outcome
        for rule, outcome in outcomes.items()
        if best.micro_f1 - outcome.micro_f1 <= outcome.noise_against(best)
    }
    rule = max(equals, key=lambda r: (equals[r].macro_f1, equals[r].micro_f1))
    thresholds = rule.fit(_values(rule, calibration, scores), targets)
    return Decision(calibration, rule, thresholds, outcomes[rule].micro_f1, outcomes[rule].macro_f1)


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a way of deciding did on rows that it wasn't fitted to. influence: (M,), see `of`."""

    micro_f1: float
    macro_f1: float
    influence: np.ndarray

    @classmethod
    def of(cls, predicted: np.ndarray, targets: np.ndarray) -> Outcome:
        """Score predictions (M, L) bool; macro-F1 is over the labels that have a positive.

        Micro-F1 is a ratio of sums over rows, so that a row's influence on it is linear to first
        order; the influences' squares add up to the squared standard error.
        """
        hit = predicted & targets
        size_of_row = predicted.sum(axis=1) + targets.sum(axis=1)
        twice_hits = 2 * hit.sum(axis=1)
        size = max(int(size_of_row.sum()), 1)
        micro = float(twice_hits.sum() / size)
        per_label = 2 * hit.sum(axis=0) / np.maximum(predicted.sum(axis=0) + targets.sum(axis=0), 1)
        present = targets.any(axis=0)
        macro = float(per_label[present].mean()) if present.any() else 0.0
        return cls(micro, macro, (twice_hits - micro * size_of_row) / size)

    def noise_against(self, other: Outcome) -> float:
        """Standard error of the difference in micro-F1, both scored on the same rows."""
        return float(np.sqrt(((self.influence - other.influence) ** 2).sum()))


def _global_threshold(
    values: np.ndarray, targets: np.ndarray, at_least_one: bool
) -> tuple[float, float]:
    """The one threshold with the greatest micro-F1 on values (M, L), and that micro-F1.

    Exact: under the at-least-one rule the top label of each row is given anyway, and only the
    others are in question.
    """
    asked = np.ones(values.shape, bool)
    sure_hits = n_sure = 0
    if at_least_one:
        top = values.argmax(axis=1)
        rows = np.arange(len(values))
        asked[rows, top] = False
        sure_hits, n_sure = int(targets[rows, top].sum()), len(values)
    order = np.argsort(-values[asked])
    ordered, hits = values[asked][order], np.cumsum(targets[asked][order])
    n_given = n_sure + np.arange(len(ordered) + 1)
    f1 = 2 * (sure_hits + np.concatenate([[0], hits])) / np.maximum(n_given + targets.sum(), 1)
    return _cut(ordered, f1)


def _label_thresholds(
    values: np.ndarray, targets: np.ndarray, f1: float, shared: float
) -> np.ndarray:
    """Per label the threshold that serves micro-F1 best, given that the whole reaches `f1`.

    With the total fixed, giving a label to a text pays if it is right with probability above
    f1 / 2, so that each label maximises 2 * hits - f1 * given on its own. (L,)
    """
    own = np.full(values.shape[1], shared)
    for j in np.flatnonzero(targets.sum(axis=0) >= RARE):
        order = np.argsort(-values[:, j])
        hits = np.concatenate([[0], np.cumsum(targets[order, j])])
        own[j], _ = _cut(values[order, j], 2 * hits - f1 * np.arange(len(hits)))
    return own


def _cut(ordered: np.ndarray, gain: np.ndarray) -> tuple[float, float]:
    """Where to cut values in falling order, given the gain of taking the first 0, 1, 2, ...

    The cut lies midway between two different values; the best gain comes with it.
    """
    if not len(ordered):
        return 0.0, float(gain[0])
    possible = np.ones(len(gain), bool)
    possible[1:-1] = ordered[:-1] > ordered[1:]
    k = int(np.where(possible, gain, -np.inf).argmax())
    if k == 0:
        return float(np.nextafter(ordered[0], np.inf)), float(gain[0])
    if k == len(ordered):
        return float(ordered[-1]), float(gain[k])
    # The mean of two neighbouring floats may round to the lower one, which must stay out.
    middle = (ordered[k - 1] + ordered[k]) / 2
    return float(middle if middle > ordered[k] else ordered[k - 1]), float(gain[k])


def _values(rule: Rule, calibration: Calibration, scores: np.ndarray) -> np.ndarray:
    if rule.on == "probability":
        return calibration.logits(scores)
    return np.asarray(scores, np.float64)


def _split(folds: np.ndarray, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit to and rows to score; with a single row there is nothing to hold out."""
    outside = folds == fold
    return (outside if outside.all() else ~outside), outside


def _one_hot_argmax(values: np.ndarray) -> np.ndarray:
    chosen = np.zeros(values.shape, bool)
    chosen[np.arange(len(values)), values.argmax(axis=1)] = True
    return chosen


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -500, 500)))


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise TrainingError(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers",
            hint="The technique's model has diverged; a smaller learning rate may help.",
        )
