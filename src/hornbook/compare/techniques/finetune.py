"""Fine-tune MiniLM: all weights that the budget can train."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np

from hornbook.compare.neural import FittedClassifier, fit_classifier, rebuild, save_head
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert, save_bert
from hornbook.models.bert import Bert
from hornbook.nn.layout import Ragged
from hornbook.recipes.finetune import Settings
from hornbook.text.tokenizer import Tokenizer

SETTINGS = Settings(lr=3e-4)


class Finetune:
    """MiniLM with a linear head over the mean of its token vectors; probe first, then train."""

    name: ClassVar[str] = "finetune"
    summary: ClassVar[str] = "MiniLM, its weights trained further after a linear probe"
    needs_members: ClassVar[bool] = False

    def __init__(self, fitted: FittedClassifier[Bert] | None = None) -> None:
        self._fitted = fitted

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        context.report("loading")
        folder = find_model("minilm")
        trunk, _ = load_bert(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        self._fitted, held_out = fit_classifier(
            trunk, tokenizer, Ragged.mean, train, validation, context, SETTINGS
        )
        self.settings = self._fitted.settings
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._fitted is not None, "fit or load before scores"
        return self._fitted.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._fitted is not None, "fit before save"
        save_bert(folder, self._fitted.trunk)
        self._fitted.tokenizer.save(folder / "tokenizer.json")
        save_head(folder, self._fitted.model.head, self._fitted.max_tokens)

    @classmethod
    def load(cls, folder: Path) -> Finetune:
        trunk, _ = load_bert(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        return cls(rebuild(trunk, Ragged.mean, tokenizer, folder))
