"""Logistic regression over TF-IDF of words: the simple baseline."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression

from hornbook.compare.linear import LinearModel
from hornbook.compare.linear_search import LinearSearch, Recipe
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block
from hornbook.data.examples import Document, Labelled


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(
        C=strength, solver="liblinear", dual=True, tol=1e-2, max_iter=1000, random_state=0
    )


RECIPE = Recipe(features=((Block("full", "word", 1, 1),),), strengths=(30.0, 100.0), make=_logistic)


class TfidfLogreg:
    """Logistic regression, one per label, over single words."""

    name: ClassVar[str] = "tfidf-logreg"
    summary: ClassVar[str] = "logistic regression per label over TF-IDF of words"
    needs_members: ClassVar[bool] = False

    def __init__(self, model: LinearModel | None = None) -> None:
        self._model = model

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Held out is every row, by cross-validation, where the budget allows it."""
        self._model, held_out = LinearSearch(train, validation, context, RECIPE).run()
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        """Log-odds (N, L) float32."""
        assert self._model is not None, "fit or load before scores"
        return self._model.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._model is not None, "fit before save"
        self._model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> TfidfLogreg:
        return cls(LinearModel.load(folder))
