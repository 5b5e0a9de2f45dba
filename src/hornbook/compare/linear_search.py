"""Features and strength of a linear technique, chosen by cross-validation within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic

import numpy as np

from hornbook.compare.linear import LinearModel, MakeEstimator, fit_one_vs_rest, linear_scores
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block, Counted, Tfidf, count, inverse_frequencies, weigh
from hornbook.data.examples import Labelled
from hornbook.errors import BudgetError, DataError
from hornbook.tasks.decision import Decision
from hornbook.tasks.folds import deal_folds

N_FOLDS = 3
SAFE = 0.8  # of what is left of the budget: so much is planned for
WORTH = 0.001  # of micro-F1: what a later trial must gain to be taken
UNSEEN = 6.0  # features not counted yet are taken to be so many times the first ones


@dataclass(frozen=True)
class Recipe:
    """What a linear technique tries: kinds of features, cheap first; strengths C, usual first.

    make: gives an unfitted binary classifier of a strength.
    """

    features: Sequence[tuple[Block, ...]]
    strengths: Sequence[float]
    make: MakeEstimator


@dataclass(frozen=True, eq=False)
class Trial:
    """Features and a strength, the held-out scores (N, L) and micro-F1 that they reached."""

    blocks: tuple[Block, ...]
    strength: float
    scores: np.ndarray
    micro_f1: float


class LinearSearch:
    """Climbs from kind to kind of features while that pays, then tries other strengths.

    Trials that would not end within the budget are left out; how long one takes is foreseen from
    the entries of its feature matrix and the seconds that earlier ones took for each of theirs.
    """

    def __init__(
        self, train: Labelled, validation: Labelled, context: Context, recipe: Recipe
    ) -> None:
        self._rows, self._context, self._recipe = train + validation, context, recipe
        self._is_validation = np.arange(len(self._rows)) >= len(train)
        self._counted: dict[Block, list[Counted]] = {}
        self._seconds_per_entry = 0.0

    def run(self) -> tuple[LinearModel, HeldOut]:
        """The best model, fitted to all rows, and scores by models that had not learnt the rows.

        Held out is every row, or validation alone where time is short. Raises BudgetError with an
        estimate when not even that can be done, DataError when no word is in two texts.
        """
        kinds, strengths = self._recipe.features, self._recipe.strengths
        folds = self._plan(kinds[0])
        best = self._try(kinds[0], strengths[0], folds)
        for blocks in kinds[1:]:
            if not self._affords(blocks, folds):
                break
            trial = self._try(blocks, strengths[0], folds)
            if trial.micro_f1 <= best.micro_f1 + WORTH:
                break
            best = trial
        for strength in strengths[1:]:
            if self._affords(best.blocks, folds):
                trial = self._try(best.blocks, strength, folds)
                best = trial if trial.micro_f1 > best.micro_f1 + WORTH else best
        self._context.report(f"final fit, C={best.strength:g}", best.micro_f1)
        counted = self._count(best.blocks)
        features = Tfidf.of(counted)
        matrix = weigh(features.blocks, [part.counts for part in counted], features.idf)
        weights, offsets = fit_one_vs_rest(
            matrix, self._rows.targets, self._recipe.make, best.strength
        )
        rows = np.flatnonzero(folds >= 0)
        return LinearModel(features, weights, offsets), HeldOut(rows, best.scores[rows])

    def _count(self, blocks: Sequence[Block]) -> list[Counted]:
        for block in blocks:
            if block not in self._counted:
                self._context.report(f"counting {block.describe()}")
                self._counted[block] = count(block, self._rows.documents)
        return [part for block in blocks for part in self._counted[block]]

    def _entries(self, blocks: Sequence[Block]) -> float:
        """Entries of the feature matrix; guessed where it has not been counted."""
        if all(block in self._counted for block in blocks):
            return sum(part.counts.nnz for part in self._count(blocks))
        return UNSEEN * self._entries(self._recipe.features[0])

    def _plan(self, blocks: tuple[Block, ...]) -> np.ndarray:
        """The fold (N,) in which a row is held out, -1 for never, as the budget allows.

        Fits a few labels to see how long all would take.
        """
        counted, targets = self._count(blocks), self._rows.targets
        if not counted:
            raise DataError(
                f"no word occurs in two of the {len(self._rows)} texts",
                hint="They are empty or have nothing in common; check the text column.",
            )
        features = weigh(
            [part.block for part in counted],
            [part.counts for part in counted],
            inverse_frequencies(counted),
        )
        some = np.unique(np.linspace(0, targets.shape[1] - 1, 6).astype(int))
        start = monotonic()
        fit_one_vs_rest(features, targets[:, some], self._recipe.make, self._recipe.strengths[0])
        seconds = (monotonic() - start) * targets.shape[1] / len(some)
        self._seconds_per_entry = seconds / max(features.nnz, 1)
        left = SAFE * self._context.budget.remaining()
        if seconds * (N_FOLDS + 1) < left and len(self._rows) >= N_FOLDS:
            return deal_folds(targets, N_FOLDS, self._context.seed, self._rows.groups)
        if seconds * 2 < left and self._is_validation.any():
            return np.where(self._is_validation, 0, -1)
        needed = self._context.budget.elapsed() + 2 * seconds / SAFE
        raise BudgetError(
            f"{self._context.budget.seconds:.0f} s are too few for {len(self._rows)} texts",
            hint=f"It would take about {needed:.0f} s: --budget {needed * 1.2:.0f}s",
        )

    def _affords(self, blocks: tuple[Block, ...], folds: np.ndarray) -> bool:
        """Whether a trial of these features, and then a fit of them to all rows, is in budget."""
        fits = folds.max() + 2
        seconds = fits * self._entries(blocks) * self._seconds_per_entry
        return seconds < SAFE * self._context.budget.remaining()

    def _try(self, blocks: tuple[Block, ...], strength: float, folds: np.ndarray) -> Trial:
        """Score each fold by a model of the others' rows, features weighed by them alone."""
        counted, targets = self._count(blocks), self._rows.targets
        kinds, counts = [part.block for part in counted], [part.counts for part in counted]
        scores = np.zeros(targets.shape, np.float32)
        start, n_folds = monotonic(), int(folds.max()) + 1
        for fold in range(n_folds):
            self._context.report(f"C={strength:g}, {len(kinds)} kinds, fold {fold + 1}/{n_folds}")
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            features = weigh(kinds, counts, inverse_frequencies(counted, inside))
            weights, offsets = fit_one_vs_rest(
                features[inside], targets[inside], self._recipe.make, strength
            )
            scores[outside] = linear_scores(features[outside], weights, offsets)
        entries = sum(matrix.nnz for matrix in counts) * n_folds
        self._seconds_per_entry = (monotonic() - start) / max(entries, 1)
        held_out = folds >= 0
        decision = Decision.fit(
            scores[held_out],
            targets[held_out],
            multi_label=self._context.problem.multi_label,
            seed=self._context.seed,
            groups=None if self._rows.groups is None else self._rows.groups[held_out],
        )
        micro_f1 = decision.cross_validated_micro_f1
        self._context.report(f"C={strength:g}, {len(kinds)} kinds", micro_f1)
        return Trial(blocks, strength, scores, micro_f1)
