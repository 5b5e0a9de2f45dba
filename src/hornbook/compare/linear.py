"""One linear scorer per label over TF-IDF features: fitted side by side, tuned by cross-validation.

Shared by the techniques that differ only in loss and features. Letters in shapes: N documents,
F features, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from safetensors.numpy import load_file, save_file

from hornbook.compare.decision import Decision
from hornbook.compare.folds import deal_folds
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block, Counted, Tfidf, count, inverse_frequencies, weigh
from hornbook.data.examples import Document, Labelled
from hornbook.errors import CheckpointError

MakeEstimator = Callable[[float], Any]  # strength C -> an unfitted binary sklearn classifier
N_FOLDS = 3


class LinearModel:
    """Features, weights (F, L) and offsets (L,): what is saved and what gives scores."""

    def __init__(self, features: Tfidf, weights: np.ndarray, offsets: np.ndarray) -> None:
        self.features, self.weights, self.offsets = features, weights, offsets

    def scores(self, documents: Sequence[Document]) -> np.ndarray:
        """Scores (N, L) float32."""
        if not documents:
            return np.zeros((0, len(self.offsets)), np.float32)
        return linear_scores(self.features.transform(documents), self.weights, self.offsets)

    def save(self, folder: Path) -> None:
        """features.json and weights.safetensors."""
        (folder / "features.json").write_text(self.features.to_json(), encoding="utf-8")
        idf = {f"idf.{i}": values for i, values in enumerate(self.features.idf)}
        save_file(
            {"weights": self.weights, "offsets": self.offsets, **idf},
            folder / "weights.safetensors",
        )

    @classmethod
    def load(cls, folder: Path) -> LinearModel:
        """Raises CheckpointError when a file is missing, corrupt or does not fit the other."""
        try:
            arrays = load_file(folder / "weights.safetensors")
            idf = [arrays[f"idf.{i}"] for i in range(len(arrays) - 2)]
            text = (folder / "features.json").read_text(encoding="utf-8")
            features = Tfidf.from_json(text, idf)
            weights, offsets = arrays["weights"], arrays["offsets"]
        except Exception as error:
            raise CheckpointError(
                f"the saved linear model in {folder} cannot be read: {error}",
                hint="Its files are incomplete or corrupt; fit the technique again.",
            ) from error
        return cls(features, weights, offsets)


def fit_tuned(
    train: Labelled,
    validation: Labelled,
    context: Context,
    *,
    blocks: Sequence[Block],
    make: MakeEstimator,
    strengths: Sequence[float],
) -> tuple[LinearModel, HeldOut, float]:
    """Choose the strength by cross-validation over all rows, then fit to all of them.

    Returns the model, out-of-fold scores of every row, and the strength chosen.
    """
    everything = train + validation
    targets, multi_label = everything.targets, context.problem.multi_label
    context.report("counting n-grams")
    counted = count(blocks, everything.documents)
    folds = deal_folds(targets, min(N_FOLDS, len(everything)), context.seed)
    parts = [_fold_features(counted, folds, fold) for fold in range(folds.max() + 1)]
    best: tuple[float, float, np.ndarray] | None = None
    for strength in strengths:
        scores = np.zeros(targets.shape, np.float32)
        for fold, features in enumerate(parts):
            context.report(f"C={strength:g}, fold {fold + 1}/{len(parts)}")
            inside, outside = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            weights, offsets = fit_one_vs_rest(features[inside], targets[inside], make, strength)
            scores[outside] = linear_scores(features[outside], weights, offsets)
        decision = Decision.fit(scores, targets, multi_label=multi_label, seed=context.seed)
        score = decision.cross_validated_micro_f1
        if best is None or score > best[0]:
            best = (score, strength, scores)
        context.report(f"C={strength:g} done", best[0])
    assert best is not None
    context.report(f"final fit, C={best[1]:g}", best[0])
    features = Tfidf.of(counted)
    matrix = weigh(features.blocks, [part.counts for part in counted], features.idf)
    weights, offsets = fit_one_vs_rest(matrix, targets, make, best[1])
    held_out = HeldOut(np.arange(len(everything)), best[2])
    return LinearModel(features, weights, offsets), held_out, best[1]


def fit_one_vs_rest(
    features: sp.csr_matrix, targets: np.ndarray, make: MakeEstimator, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """A binary classifier per label; weights (F, L) and offsets (L,) float32.

    A label that all rows or none carry gets a constant score.
    """
    features = features.astype(np.float64)  # what liblinear takes: converted once, not once a label

    def fit_label(j: int) -> tuple[np.ndarray, float]:
        target = targets[:, j]
        if target.all() or not target.any():
            return np.zeros(features.shape[1], np.float32), 1.0 if target.any() else -1.0
        fitted = make(strength).fit(features, target)
        return fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0])

    fitted = Parallel(n_jobs=-1, prefer="threads")(
        delayed(fit_label)(j) for j in range(targets.shape[1])
    )
    weights = np.ascontiguousarray(np.stack([w for w, _ in fitted], axis=1))
    return weights, np.array([b for _, b in fitted], np.float32)


def linear_scores(features: sp.csr_matrix, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Features (N, F) times weights (F, L) plus offsets (L,), float32."""
    return np.asarray(features @ weights, np.float32) + offsets


def _fold_features(counted: list[Counted], folds: np.ndarray, fold: int) -> sp.csr_matrix:
    idf = inverse_frequencies(counted, np.flatnonzero(folds != fold))
    return weigh([part.block for part in counted], [part.counts for part in counted], idf)
