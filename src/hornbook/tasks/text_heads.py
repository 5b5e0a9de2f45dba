"""A classifier out of any opened model: its trunk, and a head for whole texts on it; with one
output, what marks options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hornbook.interop.huggingface import pooler_in
from hornbook.models.bert import Bert
from hornbook.models.gpt import GPT
from hornbook.models.heads import (
    MARK,
    BertHead,
    ChoiceScorer,
    HeadConfig,
    Problem,
    SequenceClassifier,
    bare_trunk,
)
from hornbook.models.llama import Llama
from hornbook.models.modern_bert import ModernBert
from hornbook.models.modern_gpt import ModernGPT
from hornbook.tasks.next_sentence import BertPretraining

_PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>", "<|im_end|>", "</s>")


def text_classifier(
    bundle: Any,
    label_names: Sequence[str],
    problem: Problem,
    *,
    unread: np.ndarray | None = None,
) -> SequenceClassifier:
    """A model with these labels: the bundle's own where it has them, else a fresh head.

    A BERT's fresh head begins with the pooler that the file holds, as transformers' does. unread:
    (L,) logits of a text that nobody has read, which a fresh head with biases begins with. The
    bundle's model is taken over. Raises ConfigError for a trunk that has no such head.
    """
    model, names = bundle.model, tuple(label_names)
    if isinstance(model, SequenceClassifier) and (
        (model.config.label_names, model.config.problem) == (names, problem)
    ):
        return model
    pooler = _pooler(bundle)
    trunk = bare_trunk(model)
    config = HeadConfig(trunk.config, names, problem, pad_token=pad_token(bundle.tokenizer))
    classifier = SequenceClassifier(trunk, config)
    _begin_with(pooler, classifier.head)
    if unread is not None and (bias := getattr(classifier.head.out, "bias", None)) is not None:
        with torch.no_grad():
            bias.copy_(torch.from_numpy(unread))
    return classifier


def log_odds(targets: np.ndarray) -> np.ndarray:
    """Of each label, from all examples alone (Lin et al. 2017, section 3.3); (L,) of (N, L) bool.

    A head that begins at even odds has every text's rare labels pull the trunk's features the same
    way, to say no, until they are the same for all texts: MiniLM then learnt nothing of Reuters in
    two epochs. Half a text more on either side keeps labels of none and of all finite.
    """
    n_with = targets.sum(0)
    return np.log((n_with + 0.5) / (len(targets) - n_with + 0.5))


def choice_scorer(bundle: Any) -> ChoiceScorer:
    """A model that marks options: the bundle's own where it is one, else a fresh head, begun as
    `text_classifier`'s. Raises ConfigError for a decoder."""
    model = bundle.model
    if isinstance(model, ChoiceScorer):
        return model
    pooler = _pooler(bundle)
    trunk = bare_trunk(model)
    scorer = ChoiceScorer(trunk, HeadConfig(trunk.config, MARK, "choice"))
    _begin_with(pooler, scorer.head)
    return scorer


def marks_choices(model: Any) -> bool:
    """Whether a head that marks options can stand on this model, or does."""
    return isinstance(getattr(model, "trunk", model), Bert | ModernBert)


def _begin_with(pooler: dict[str, Any], head: Any) -> None:
    if pooler and isinstance(head, BertHead):
        head.pooler.load_state_dict(pooler)


def reads_last(model: Any) -> bool:
    """Whether a head on this model reads the last token: of decoders only that has read all."""
    return isinstance(getattr(model, "trunk", model), GPT | Llama | ModernGPT)


def pad_token(tokenizer: Any) -> int | None:
    """The token that other libraries fill short texts up with; none of ours ends a text."""
    found = (tokenizer.rust.token_to_id(token) for token in _PADDING)
    return next((token for token in found if token is not None), None)


def _pooler(bundle: Any) -> dict[str, Any]:
    """The pooler that came with an encoder, {} where none did."""
    model = bundle.model
    headed = isinstance(model, SequenceClassifier | ChoiceScorer)
    if headed and isinstance(model.head, BertHead):
        return model.head.pooler.state_dict()
    if isinstance(model, BertPretraining):
        return model.next_sentence.pooler.state_dict()
    path = getattr(bundle, "path", None)
    return pooler_in(path) if path is not None and (path / "config.json").is_file() else {}


def in_the_models_order(names: Sequence[str], model: Any) -> tuple[str, ...]:
    """A model that has these labels already keeps their order, and so its head."""
    if isinstance(model, SequenceClassifier) and set(model.config.label_names) == set(names):
        return model.config.label_names
    return tuple(names)
