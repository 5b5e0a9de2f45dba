"""Zero-shot by entailment: does a text entail "This text is about {label}."? Learn from no label.

The model is a classifier of pairs with a label "entailment", named with the technique
(`zero-shot-nli=runs/entail`); nobody tunes it here, nor the sentence. Training labels are used in
one place only, the decision layer's calibration, as for every other technique: its biases and
thresholds take the place of texts without content (Yin, Hay and Roth 2019).
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from hornbook import bundle as bundles
from hornbook import files
from hornbook.bundle import Bundle
from hornbook.compare.parts import read_settings
from hornbook.compare.technique import Context, HeldOut
from hornbook.compare.techniques.zero_shot import in_words
from hornbook.data.examples import Document, Labelled, Problem
from hornbook.errors import BudgetError, ConfigError
from hornbook.models.heads import SequenceClassifier
from hornbook.recipes.apply import scorer_of
from hornbook.recipes.apply_plain import Asked, card_of
from hornbook.recipes.label_scores import Scorer, ends_of

_SAMPLE, _AT_ONCE = 8, 64  # texts: timed first; asked about together


class ZeroShotNli:
    """Logits of entailment, of several labels a text against those of contradiction."""

    name: ClassVar[str] = "zero-shot-nli"
    summary: ClassVar[str] = "entailment of a sentence with the label's name; nothing learnt"
    needs_members: ClassVar[bool] = False

    def __init__(self) -> None:
        self._opened: Bundle | None = None
        self._scorer: Scorer | None = None
        self._labels: list[str] = []
        self._several = False

    def _take(self, opened: Bundle, labels: list[str], *, several: bool) -> None:
        self._opened, self._labels, self._several = opened, labels, several
        self._scorer = scorer_of(opened, Asked(several=several))

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Raises ConfigError for a model without a label "entailment", BudgetError where the
        texts take longer than there is."""
        context.report("loading the model")
        opened = bundles.open_model(context.model)
        holds, not_ = _ends(opened)
        if holds < 0:
            raise ConfigError(
                f"{context.model} is no classifier of pairs that has a label 'entailment'",
                hint="hornbook finetune pairs, on data with that label, makes one.",
            )
        several = context.problem.multi_label and not_ is not None
        self._take(opened, labels_in_words(context.problem), several=several)
        self.settings = {"model": Path(context.model).name}
        documents = validation.documents
        self._time(documents, context)
        parts = []
        for start in range(0, len(documents), _AT_ONCE):
            parts.append(self.scores(documents[start : start + _AT_ONCE]))
            context.report(f"asking {100 * start // len(documents)} %")
        rows = np.arange(len(train), len(train) + len(validation))
        return HeldOut(rows, np.concatenate(parts))

    def _time(self, documents: list[Document], context: Context) -> None:
        sample = documents[:: max(1, len(documents) // _SAMPLE)][:_SAMPLE]
        start = time.perf_counter()
        self.scores(sample)
        needed = (time.perf_counter() - start) * len(documents) / len(sample)
        left = context.budget.remaining()
        if needed > left:
            raise BudgetError(
                f"asking about {len(self._labels)} labels of {len(documents)} texts takes about "
                f"{needed:.0f} s here, and {max(0.0, left):.0f} s of the budget are left for it",
                hint=f"Give a budget of at least {needed * 1.5 + 10:.0f} s.",
            )

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._scorer is not None, "fit or load before scores"
        if not documents:
            return np.zeros((0, len(self._labels)), np.float32)
        asked = [(document.full, self._labels) for document in documents]
        return np.stack(self._scorer(asked)).astype(np.float32)

    def save(self, folder: Path) -> None:
        """The model with what it reads of a text, and the labels in words."""
        assert self._opened is not None, "fit before save"
        model = folder / "entailment"
        bundles.save(model, self._opened.model, self._opened.tokenizer)
        if (card := card_of(self._opened)) is not None:
            files.write_text(model / "task.json", json.dumps(card) + "\n")
        settings = {"labels": self._labels, "several": self._several}
        files.write_text(folder / "labels.json", json.dumps(settings) + "\n")

    @classmethod
    def load(cls, folder: Path) -> ZeroShotNli:
        """Raises CheckpointError when something is missing."""
        settings = read_settings(folder / "labels.json", "labels", "several")
        technique = cls()
        labels = [str(label) for label in settings["labels"]]
        opened = bundles.load(folder / "entailment")
        technique._take(opened, labels, several=bool(settings["several"]))
        return technique


def labels_in_words(problem: Problem) -> list[str]:
    """Each label as it stands in the sentence: `HUM` as "HUM: a person or a group of people"."""
    described = [(in_words(n), problem.label_descriptions.get(n, "")) for n in problem.label_names]
    return [": ".join(part for part in parts if part).rstrip(".") for parts in described]


def _ends(opened: Bundle) -> tuple[int, int | None]:
    """The numbers of entailment and contradiction among what the model tells apart."""
    card = card_of(opened)
    is_pairs = card is None or card["task"] == "pairs"
    if not isinstance(opened.model, SequenceClassifier) or not is_pairs:
        return -1, None
    return ends_of(opened.model.config.label_names)
