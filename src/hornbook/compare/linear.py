"""One linear scorer per label over TF-IDF features: fitted side by side, saved without a pickle.

Letters in shapes: N documents, F features, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from joblib import Parallel, delayed
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from hornbook.compare.tfidf import Tfidf
from hornbook.data.examples import Document
from hornbook.errors import CheckpointError

MakeEstimator = Callable[[float], Any]  # strength C -> an unfitted binary sklearn classifier


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
            _check_fit(features, weights, offsets)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"the saved linear model in {folder} cannot be read: {error}",
                hint="Its files are incomplete or corrupt; fit the technique again.",
            ) from error
        return cls(features, weights, offsets)


def _check_fit(features: Tfidf, weights: np.ndarray, offsets: np.ndarray) -> None:
    """Raises ValueError where the parts of a saved model are not of one model."""
    sizes = [len(vocabulary) for vocabulary in features.vocabularies]
    if [idf.shape for idf in features.idf] != [(n,) for n in sizes]:
        shapes = [idf.shape for idf in features.idf]
        raise ValueError(f"vocabularies of {sizes} entries have frequencies of shapes {shapes}")
    if any(len(set(v)) != len(v) for v in features.vocabularies):
        raise ValueError("an entry stands twice in a vocabulary")
    if offsets.ndim != 1 or weights.shape != (sum(sizes), len(offsets)):
        raise ValueError(
            f"weights {weights.shape} fit neither {sum(sizes)} features nor offsets {offsets.shape}"
        )


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
