"""Logistic regression over TF-IDF of words: the simple baseline that is hard to beat by much."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.linear_model import LogisticRegression

from hornbook.compare.linear import LinearModel, fit_tuned
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block
from hornbook.data.examples import Document, Labelled

BLOCKS = (Block("full", "word", 1, 2),)
STRENGTHS = (10.0, 100.0)


class TfidfLogreg:
    """Logistic regression, one per label, over word n-grams."""

    name: ClassVar[str] = "tfidf-logreg"
    summary: ClassVar[str] = (
        "TF-IDF of word n-grams, logistic regression per label, C by cross-validation"
    )
    needs_members: ClassVar[bool] = False

    def __init__(self, model: LinearModel | None = None) -> None:
        self._model = model

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        self._model, held_out, _ = fit_tuned(
            train, validation, context, blocks=BLOCKS, make=_logistic, strengths=STRENGTHS
        )
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._model is not None, "fit or load before scores"
        return self._model.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._model is not None, "fit before save"
        self._model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> TfidfLogreg:
        return cls(LinearModel.load(folder))


def _logistic(strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, solver="liblinear", random_state=0)
