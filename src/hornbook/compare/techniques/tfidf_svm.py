"""Support vector machines over TF-IDF features: the strongest of the classical techniques."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from sklearn.svm import LinearSVC

from hornbook.compare.linear import LinearModel, fit_tuned
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.tfidf import Block
from hornbook.data.examples import Document, Labelled

BLOCKS = (Block("full", "word", 1, 2), Block("title", "word", 1, 2, weight=0.5))
STRENGTHS = (1.0, 3.0)


class TfidfSvm:
    """Linear support vector machines (squared hinge, one per label) over word n-grams."""

    name: ClassVar[str] = "tfidf-svm"
    summary: ClassVar[str] = "TF-IDF of word n-grams, linear SVM per label, C by cross-validation"
    needs_members: ClassVar[bool] = False

    def __init__(self, model: LinearModel | None = None) -> None:
        self._model = model

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        self._model, held_out, _ = fit_tuned(
            train, validation, context, blocks=BLOCKS, make=_svm, strengths=STRENGTHS
        )
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._model is not None, "fit or load before scores"
        return self._model.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._model is not None, "fit before save"
        self._model.save(folder)

    @classmethod
    def load(cls, folder: Path) -> TfidfSvm:
        return cls(LinearModel.load(folder))


def _svm(strength: float) -> LinearSVC:
    return LinearSVC(C=strength, random_state=0)
