"""From scores to labels, the same way whoever gave them, learnt on held-out scores alone.

Single-label: the most probable label. Multi-label: each label whose calibrated probability reaches
a threshold. How much labels share of their calibration and of their thresholds, and whether every
text gets at least one label, is chosen by cross-validation over the held-out scores and then fitted
to all of them. Nothing here takes a test label: `fit` is a function of the arrays it is given.

Letters in shapes: M held-out rows, N rows, L labels.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
from scipy.special import expit, logit

from hornbook.errors import CheckpointError, DataError, TrainingError
from hornbook.tasks.calibration import Calibration, fit_logistic, fit_softmax
from hornbook.tasks.folds import deal_folds
from hornbook.tasks.thresholds import expected_f1_thresholds, global_threshold

N_FOLDS = 5
HIGHEST_PRICE = 0.003  # of micro-F1, for more macro-F1
PULLS = (0.1, 1.0, float("inf"))


@dataclass(frozen=True)
class Rule:
    """A way to turn scores into several labels: what `Decision.fit` chooses among.

    pull: how strongly labels share one calibration curve, infinite for one curve. own: 0 for one
    threshold for all labels, 1 for one a label, between for a mean of the two (of log-odds).
    """

    pull: float
    own: float
    at_least_one: bool

    def apply(self, logits: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Labels (N, L) bool for calibrated logits (N, L) and thresholds (L,) on them."""
        chosen = logits >= thresholds
        if self.at_least_one and len(logits):
            empty = np.flatnonzero(~chosen.any(axis=1))
            chosen[empty, logits[empty].argmax(axis=1)] = True
        return chosen


RULES = tuple(Rule(*parts) for parts in product(PULLS, (0.0, 0.5, 1.0), (True, False)))


@dataclass(frozen=True, eq=False)
class Decision:
    """A fitted decision layer: calibration, thresholds and how well they did in cross-validation.

    rule: None in the single-label case. thresholds: (L,), on calibrated logits; 0 without a rule.
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
        cls,
        scores: np.ndarray,
        targets: np.ndarray,
        *,
        multi_label: bool,
        seed: int,
        groups: np.ndarray | None = None,
    ) -> Decision:
        """Learn from held-out scores (M, L) and their targets (M, L) bool.

        seed: draws the folds. groups: (M,), equal for rows that stay in one fold. Raises DataError
        where the shapes differ or there are no rows, TrainingError where a score is not finite.
        """
        scores, targets = np.asarray(scores, np.float64), np.asarray(targets, bool)
        if scores.ndim != 2 or scores.shape != targets.shape or 0 in scores.shape:
            raise DataError(
                f"cannot fit a decision to scores {scores.shape} and targets {targets.shape}",
                hint="Both must be (rows, labels) with at least one row and one label.",
            )
        _check_finite(scores)
        folds = deal_folds(targets, min(N_FOLDS, len(scores)), seed, groups)
        return (
            _fit_multi(scores, targets, folds)
            if multi_label
            else _fit_single(scores, targets, folds)
        )

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Calibrated probabilities (N, L) float64 of scores (N, L)."""
        _check_finite(np.asarray(scores))
        return self.calibration.probabilities(scores)

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Labels (N, L) bool of scores (N, L); single-label: exactly one a row."""
        _check_finite(np.asarray(scores))
        logits = self.calibration.logits(scores)
        if self.rule is None:
            return _one_hot_argmax(logits)
        return self.rule.apply(logits, self.thresholds)

    def describe(self) -> str:
        """The decision in words, e.g. "global threshold 0.31, at least one label"."""
        if self.rule is None:
            biased = bool(self.calibration.bias.any())
            return "most probable label" + (", weighed by label" if biased else "")
        shown = expit(self.thresholds)
        if self.rule.own == 0:
            words = f"global threshold {shown[0]:.2f}"
        else:
            words = f"thresholds per label, {shown.min():.2f} to {shown.max():.2f}"
        return words + (", at least one label" if self.rule.at_least_one else "")

    def to_json(self) -> str:
        """All of it as JSON; `from_json` gives back the same numbers."""
        return json.dumps(
            {
                "in_words": self.describe(),
                "multi_label": self.multi_label,
                "rule": None if self.rule is None else asdict(self.rule),
                "slope": self.calibration.slope.tolist(),
                "bias": self.calibration.bias.tolist(),
                "thresholds": self.thresholds.tolist(),
                "cross_validated_micro_f1": self.cross_validated_micro_f1,
                "cross_validated_macro_f1": self.cross_validated_macro_f1,
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
                hint="decision.json is written by Decision.to_json; fit it again.",
            ) from error


def _fit_single(scores: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> Decision:
    """Temperature alone, or with biases where these raise accuracy by more than the noise."""
    outcomes = []
    for with_bias in (False, True):
        predicted = np.zeros_like(targets)
        for inside, outside in _splits(folds):
            part = fit_softmax(scores[inside], targets[inside], with_bias=with_bias)
            predicted[outside] = _one_hot_argmax(part.logits(scores[outside]))
        outcomes.append(Outcome.of(predicted, targets))
    plain, biased = outcomes
    with_bias = biased.micro_f1 - plain.micro_f1 > biased.noise_against(plain)
    chosen = biased if with_bias else plain
    calibration = fit_softmax(scores, targets, with_bias=with_bias)
    nothing = np.zeros(scores.shape[1])
    return Decision(calibration, None, nothing, chosen.micro_f1, chosen.macro_f1)


def _fit_multi(scores: np.ndarray, targets: np.ndarray, folds: np.ndarray) -> Decision:
    """Cross-validate every rule, choose one, and fit it to all rows."""
    calibrations = fit_logistic(scores, targets, PULLS)
    predicted = {rule: np.zeros_like(targets) for rule in RULES}
    for inside, outside in _splits(folds):
        parts = fit_logistic(scores[inside], targets[inside], PULLS, start=calibrations)
        for rule, (part, thresholds) in _fit_rules(parts, scores[inside], targets[inside]).items():
            predicted[rule][outside] = rule.apply(part.logits(scores[outside]), thresholds)
    outcomes = {rule: Outcome.of(predicted[rule], targets) for rule in RULES}
    best = max(outcomes.values(), key=lambda outcome: outcome.micro_f1)
    # Rules within the noise of the best in micro-F1 are equals there: macro-F1 decides among them.
    # The noise of a small set is large, so that there is a price beyond which it isn't paid.
    equals = {
        rule: outcome
        for rule, outcome in outcomes.items()
        if best.micro_f1 - outcome.micro_f1 <= min(outcome.noise_against(best), HIGHEST_PRICE)
    }
    rule = max(equals, key=lambda r: (equals[r].macro_f1, equals[r].micro_f1))
    calibration, thresholds = _fit_rules(calibrations, scores, targets)[rule]
    outcome = outcomes[rule]
    return Decision(calibration, rule, thresholds, outcome.micro_f1, outcome.macro_f1)


def _fit_rules(
    calibrations: tuple[Calibration, ...], scores: np.ndarray, targets: np.ndarray
) -> dict[Rule, tuple[Calibration, np.ndarray]]:
    """Each rule's calibration and thresholds (L,) from scores (M, L)."""
    fitted = {}
    for pull, calibration in zip(PULLS, calibrations, strict=True):
        logits = calibration.logits(scores)
        # Log-odds beyond 30 are as good as certain, and infinite ones could not be averaged.
        own = np.clip(logit(expected_f1_thresholds(expit(logits))), -30, 30)
        shared = {a: global_threshold(logits, targets, at_least_one=a) for a in (True, False)}
        for rule in RULES:
            if rule.pull == pull:
                thresholds = rule.own * own + (1 - rule.own) * shared[rule.at_least_one]
                fitted[rule] = calibration, thresholds
    return fitted


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


def _splits(folds: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per fold the rows to fit to and those to score; a single row has to serve as both."""
    outsides = [folds == fold for fold in np.unique(folds)]
    return [(~outside if not outside.all() else outside, outside) for outside in outsides]


def _one_hot_argmax(values: np.ndarray) -> np.ndarray:
    chosen = np.zeros(values.shape, bool)
    chosen[np.arange(len(values)), values.argmax(axis=1)] = True
    return chosen


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise TrainingError(
            f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite numbers",
            hint="The model has diverged; a smaller learning rate may help.",
        )
