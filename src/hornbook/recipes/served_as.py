"""What a model does behind the server's API: write texts, embed them, or label them.

role(opened)               # "write", "embed" or "classify"
label_scores(opened)       # what `serving.served.Served.add_classifier` takes
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import nn

from hornbook.bundle import Bundle
from hornbook.data.examples import Document, Example, Problem
from hornbook.embeddings.encoder import TextEncoder
from hornbook.errors import ConfigError
from hornbook.models.bert import Bert
from hornbook.models.heads import SequenceClassifier
from hornbook.models.modern_bert import ModernBert
from hornbook.nn.precision import choose_precision
from hornbook.recipes.apply import USES, head_as_data
from hornbook.recipes.apply_plain import card_of, text_encoder
from hornbook.recipes.kinds import KINDS
from hornbook.tasks.classify import Classify
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.next_sentence import BertPretraining

Role = Literal["write", "embed", "classify"]


def role(opened: Bundle) -> Role:
    """By what it was fine-tuned to, or by the head it has.

    Raises ConfigError for what the API has no route for: tags, answers in a source, pairs, numbers.
    """
    card, model = card_of(opened), opened.model
    task = None if card is None else card["task"]
    if task in ("classify", "embed"):
        return task
    if task in (None, "fill") and isinstance(model, MaskedLM | BertPretraining):
        return "embed"  # by its trunk, as any BERT is
    if task is None and isinstance(model, SequenceClassifier):
        return "classify"
    if task is None and isinstance(model, Bert | ModernBert):
        return "embed"
    if not isinstance(model, nn.Module) or hasattr(model, "logits"):
        return "write"
    does = f"was fine-tuned to {task}" if task else f"is a {type(model).__name__}"
    works = f" This one: hornbook run {task} {opened.name} …" if task in USES else ""
    raise ConfigError(
        f"{opened.name} {does}, for which the API has no route",
        hint=f"Serve a decoder, a sentence encoder or a classifier.{works}",
    )


class LabelScores:
    """A fine-tuned classifier, as the server asks it: scores first, then what follows from them."""

    def __init__(self, model: nn.Module, task: Classify) -> None:
        self.problem = Problem(
            tuple(task.label_names), task.problem == "multi_label_classification"
        )
        self._device = choose_precision().device
        self._model, self._task = model.to(self._device).eval(), task

    def scores(self, texts: Sequence[str]) -> np.ndarray:
        """Logits, (N, L) float32."""
        items = self._task.items([Example(Document(text), ()) for text in texts])
        return self._task.logits(self._model, items, device=self._device)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The labels given, (N, L) bool: of several by the decision layer, else the best."""
        if self.problem.multi_label:
            return self._task.decide(scores)[0]
        return np.eye(scores.shape[1], dtype=bool)[scores.argmax(1)]

    def calibrate(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities, (N, L)."""
        if self.problem.multi_label:
            return self._task.decide(scores)[1]
        powers = np.exp(scores - scores.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)


def label_scores(opened: Bundle) -> LabelScores:
    """Raises ConfigError for a model that gives a number instead of labels."""
    card, kind = card_of(opened), KINDS.load("classify")
    task: Any = (
        kind.reopen(card, opened) if card else kind.make(opened, head_as_data("classify", opened))
    )
    if task.problem == "regression":
        raise ConfigError(
            f"{opened.name} gives a number, for which the API has no route",
            hint=f"hornbook run classify {opened.name} …",
        )
    return LabelScores(task.build(opened), task)


def vectors(opened: Bundle) -> tuple[TextEncoder, tuple[int, ...]]:
    """A sentence encoder, and the sizes below its own that its vectors may be cut to."""
    card = card_of(opened) or {}
    if isinstance(opened.model, MaskedLM | BertPretraining):
        opened = replace(opened, model=opened.model.trunk)
    encoder: TextEncoder = text_encoder(opened)
    return encoder, tuple(n for n in card.get("sizes") or () if n < encoder.model.config.d_model)
