"""Support vector machines over TF-IDF features: the strongest of the classical techniques."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.svm import LinearSVC

from hornbook.compare.linear import LinearModel
from hornbook.compare.linear_search import LinearSearch, Recipe
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block
from hornbook.data.examples import Document, Labelled


def _svm(strength: float) -> LinearSVC:
    # A tolerance of 1e-2 gives the same F1 as 1e-4, in two thirds of the time.
    return LinearSVC(C=strength, tol=1e-2, random_state=0)


WORDS = (Block("full", "word", 1, 1), Block("title", "word", 1, 1, weight=0.5))
PAIRS = Block("full", "word", 2, 2, weight=0.5)
FOURS = Block("full", "char_wb", 4, 4, min_df=3, weight=0.5)
CHARACTERS = Block("full", "char_wb", 3, 5, min_df=3, weight=0.7)
RECIPE = Recipe(
    features=(WORDS, (*WORDS, FOURS), (*WORDS, FOURS, PAIRS), (*WORDS, PAIRS, CHARACTERS)),
    strengths=(1.0, 0.3, 3.0),
    make=_svm,
)


class TfidfSvm:
    """Linear support vector machines (squared hinge, one per label) over n-grams."""

    name: ClassVar[str] = "tfidf-svm"
    summary: ClassVar[str] = "linear SVM per label over TF-IDF of word and character n-grams"
    needs_members: ClassVar[bool] = False

    def __init__(self, model: LinearModel | None = None) -> None:
        self._model = model

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Held out is every row, by cross-validation, where the budget allows it."""
        self._model, held_out = LinearSearch(train, validation, context, RECIPE).run()
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        """Distances from the separating planes (N, L) float32."""
        assert self._model is not None, "fit or load before scores"
        return self._model.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._model is not None, "fit before save"
        self._model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> TfidfSvm:
        return cls(LinearModel.load(folder))
