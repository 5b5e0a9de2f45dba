"""A weighted mean of techniques already fitted, in log-odds, with weights learnt on held-out rows.

Each member's calibrated log-odds enter a logistic model with one weight a member, none below zero,
drawn towards equal weights (stacking: Wolpert 1992, Breiman 1996): few parameters, because a
validation set is small. If cross-validation finds no gain over the best member, that one is taken
alone. The saved folder names its members by relative path, and so moves with its study.
Letters in shapes: R rows that all members share, K members, L labels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit

from hornbook.compare.predictor import Predictor
from hornbook.compare.technique import Context, HeldOut, Member
from hornbook.compare.techniques import BUILT_IN
from hornbook.data.examples import Document, Labelled
from hornbook.errors import CheckpointError, DataError
from hornbook.tasks.decision import Decision
from hornbook.tasks.folds import deal_folds

PULLS = (0.003, 0.03, 0.3)  # towards equal weights, per row
NEGLIGIBLE = 0.03  # a member with less of the total weight is not worth its time
N_FOLDS = 5


@dataclass(frozen=True)
class Weighted:
    """A member in use: where its model is, and how much its log-odds count."""

    name: str
    folder: Path
    weight: float


class Ensemble:
    """Mixes the log-odds of other techniques of the study."""

    name: ClassVar[str] = "ensemble"
    summary: ClassVar[str] = "weighted mean of the other techniques, weights by held-out log-loss"
    needs_members: ClassVar[bool] = True

    def __init__(self, members: list[Weighted] | None = None) -> None:
        self._members = members or []
        self._opened: list[Predictor] | None = None

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Learn the weights. Held out are the rows that all members share, scored crosswise.

        Raises DataError when there are fewer than two members to mix.
        """
        # Opening a user's own technique runs their file, which predicting must not do unasked.
        members = {name: m for name, m in context.members.items() if name in BUILT_IN}
        if len(members) < 2:
            raise DataError(
                f"an ensemble needs at least two finished techniques, got {len(members)}",
                hint="Run it together with others: --techniques tfidf-svm,finetune,ensemble",
            )
        multi_label = context.problem.multi_label
        rows = _shared_rows(members)
        log_odds = np.stack([_log_odds(m, rows, multi_label) for m in members.values()])
        whole = train + validation
        targets = whole.targets[rows]
        groups = None if whole.groups is None else whole.groups[rows]
        folds = deal_folds(targets, min(N_FOLDS, len(rows)), context.seed, groups)

        def judged(scores: np.ndarray) -> float:
            decision = Decision.fit(
                scores, targets, multi_label=multi_label, seed=context.seed, groups=groups
            )
            return decision.cross_validated_micro_f1

        alone = [judged(part) for part in log_odds]
        best = int(np.argmax(alone))
        kept = list(range(len(members)))
        while True:
            context.report(f"weighing {len(kept)} members", max(alone))
            scores, weights = _cross_fitted(log_odds[kept], targets, folds, multi_label)
            heavy = [k for k, w in zip(kept, weights) if w >= NEGLIGIBLE * weights.sum()]
            if len(heavy) == len(kept):
                break
            kept = heavy
        mixed = judged(scores)
        if mixed < alone[best]:
            kept, weights, scores = [best], np.ones(1), log_odds[best]
            context.report(f"no gain from mixing: {list(members)[best]} alone", alone[best])
        else:
            context.report("mixed", mixed)
        chosen = [list(members.values())[k] for k in kept]
        self._members = [
            Weighted(m.name, m.model_folder, float(w)) for m, w in zip(chosen, weights)
        ]
        self._opened = None
        self.settings = {member.name: round(member.weight, 4) for member in self._members}
        return HeldOut(rows, scores.astype(np.float32))

    def scores(self, documents: list[Document]) -> np.ndarray:
        """The weighted mean of the members' log-odds (N, L)."""
        if self._opened is None:
            self._opened = [Predictor.open(member.folder) for member in self._members]
        probabilities = {
            member.name: predictor.calibrate(predictor.scores(documents))
            for member, predictor in zip(self._members, self._opened, strict=True)
        }
        return self.mix(probabilities, self._opened[0].problem.multi_label)

    def mix(self, probabilities: Mapping[str, np.ndarray], multi_label: bool) -> np.ndarray:
        """Scores (N, L) from what the members gave: calibrated probabilities (N, L) by name."""
        parts = [m.weight * _odds_of(probabilities[m.name], multi_label) for m in self._members]
        return np.asarray(np.sum(parts, axis=0, dtype=np.float64), np.float32)

    def save(self, folder: Path) -> None:
        """ensemble.json: names, weights, and where the members are, as seen from the folder."""
        members = [
            {
                "name": member.name,
                "folder": Path(os.path.relpath(member.folder, folder)).as_posix(),
                "weight": member.weight,
            }
            for member in self._members
        ]
        text = json.dumps({"members": members}, indent=1)
        (folder / "ensemble.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """Raises CheckpointError when a member's model is no longer where it was."""
        path = folder / "ensemble.json"
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))["members"]
            members = [
                Weighted(str(m["name"]), folder / m["folder"], float(m["weight"])) for m in saved
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error!r}", hint="Fit the ensemble again."
            ) from error
        for member in members:
            if not member.folder.is_dir():
                raise CheckpointError(
                    f"the ensemble needs the model of '{member.name}' at {member.folder}",
                    hint="Keep the study's folder whole: an ensemble holds weights, not models.",
                )
        return cls(members)


def _shared_rows(members: Mapping[str, Member]) -> np.ndarray:
    """Rows that every member has scored while not having learnt from them, rising. (R,)"""
    shared: np.ndarray | None = None
    for member in members.values():
        rows = np.asarray(member.held_out.rows)
        shared = np.unique(rows) if shared is None else np.intersect1d(shared, rows)
    assert shared is not None
    return shared


def _log_odds(member: Member, rows: np.ndarray, multi_label: bool) -> np.ndarray:
    """The member's calibrated log-odds (R, L) of the rows named."""
    order = np.argsort(member.held_out.rows)
    found = order[np.searchsorted(np.asarray(member.held_out.rows)[order], rows)]
    return _odds_of(member.probabilities[found], multi_label)


def _odds_of(probabilities: np.ndarray, multi_label: bool) -> np.ndarray:
    """Log-odds, or log-probabilities where a row has one label; no certainty beyond 1e-6."""
    clipped = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return logit(clipped) if multi_label else np.log(clipped)


def _cross_fitted(
    log_odds: np.ndarray, targets: np.ndarray, folds: np.ndarray, multi_label: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mixed scores (R, L), each row by weights learnt without it, and the weights (K,) of all rows.

    The pull towards equal weights is the one with the least log-loss in cross-validation.
    """
    found: tuple[float, float, np.ndarray] | None = None
    for pull in PULLS:
        mixed, loss = np.zeros(targets.shape), 0.0
        for fold in np.unique(folds):
            outside = folds == fold
            inside = ~outside if not outside.all() else outside
            weights = _fit_weights(log_odds[:, inside], targets[inside], pull, multi_label)
            mixed[outside] = np.tensordot(weights, log_odds[:, outside], axes=1)
            loss += _log_loss(weights, log_odds[:, outside], targets[outside], multi_label)[0]
        if found is None or loss < found[0]:
            found = loss, pull, mixed
    assert found is not None
    return found[2], _fit_weights(log_odds, targets, found[1], multi_label)


def _fit_weights(
    log_odds: np.ndarray, targets: np.ndarray, pull: float, multi_label: bool
) -> np.ndarray:
    """Non-negative weights (K,) for log-odds (K, R, L): least log-loss plus the pull."""
    n_members, n_rows = log_odds.shape[:2]
    equal = np.full(n_members, 1 / n_members)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = _log_loss(weights, log_odds, targets, multi_label)
        away = weights - equal
        value += 0.5 * pull * n_rows * float(away @ away)
        return value / n_rows, (gradient + pull * n_rows * away) / n_rows

    bounds = [(0.0, None)] * n_members
    found = minimize(loss, equal, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found if found.sum() > 0 else equal


def _log_loss(
    weights: np.ndarray, log_odds: np.ndarray, targets: np.ndarray, multi_label: bool
) -> tuple[float, np.ndarray]:
    """Summed log-loss in nats of the mix, and its gradient by the weights (K,)."""
    mixed = np.tensordot(weights, log_odds, axes=1)
    if multi_label:
        value = float(np.logaddexp(0, np.where(targets, -mixed, mixed)).sum())
        gap = expit(mixed) - targets
    else:
        log_p = log_softmax(mixed, axis=1)
        labelled = targets.any(axis=1, keepdims=True)
        value = -float(np.where(targets, log_p, 0).sum())
        gap = (np.exp(log_p) - targets) * labelled
    return value, np.tensordot(log_odds, gap, axes=2)
