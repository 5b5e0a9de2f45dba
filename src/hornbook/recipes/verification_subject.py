"""What is verified: a model with texts to read, a loss over them, and what it says of each.

A decoder guesses next tokens, an encoder hidden words, an encoder-decoder one text from another. A
head is given made-up labels, for what is asked is whether two ways to the same number agree.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.bundle import Bundle
from hornbook.data.examples import Document
from hornbook.errors import ConfigError, DataError
from hornbook.interop.catalogue import CATALOGUE, where
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.models.heads import ChoiceScorer, SequenceClassifier, TokenClassifier
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Layout, Ragged
from hornbook.nn.losses import LossSum, binary_cross_entropy_sum
from hornbook.quantization.weights import is_quantized
from hornbook.tasks import language_modeling, seq2seq
from hornbook.tasks.fill import Fill
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

# Of unlike lengths, or a mean of means would pass for a mean.
TEXTS = (
    "A hornbook was a child's first book: a leaf of paper with the alphabet, pasted on a wooden "
    "paddle and kept clean under a thin sheet of horn, so that many hands could learn from it.",
    "It rained.",
    "The ship left the harbour at noon, and nobody on the quay knew when she would be back.",
    "Two and two are four.",
    "Prices of wheat, corn and oats rose again in May, while those of copper and tin fell.",
    "Who wrote this letter, and why was it never sent?",
    "She tuned the old piano herself, string by string, until the house had had enough of it.",
)
LONGEST = 64  # tokens of a text
Tokens = Sequence[int]
_OF_TEXTS = SequenceClassifier | ChoiceScorer  # a row of logits each


@dataclass(frozen=True)
class Laid:
    """Texts in one tensor, in their order. segments: None, all are first texts."""

    inputs: Tensor
    layout: Layout
    each: Callable[[Tensor], list[Tensor]]  # what was computed of the tokens, text by text
    segments: None = None


Lay = Callable[[Sequence[Tokens]], Laid]


def end_to_end(texts: Sequence[Tokens]) -> Laid:
    lengths = [len(text) for text in texts]
    flat = torch.tensor([token for text in texts for token in text])
    return Laid(flat, Ragged(lengths), lambda computed: list(computed.split(lengths)))


def side_by_side(texts: Sequence[Tokens]) -> Laid:
    """In a rectangle, short ones filled up on the right."""
    inputs, layout = seq2seq.side_by_side(texts, "cpu")
    lengths = [len(text) for text in texts]
    return Laid(inputs, layout, lambda computed: [row[:n] for row, n in zip(computed, lengths)])


@dataclass(frozen=True)
class Subject:
    """items: texts as the loss takes them. loss: of some of them, a sum and a count. read: what the
    model says of each, laid in one way or another. opened: what it was opened as."""

    kind: str
    model: nn.Module
    opened: Bundle
    items: Sequence[Any]
    loss: Callable[[nn.Module, Sequence[Any]], LossSum]
    read: Callable[[nn.Module, Sequence[Any], Lay], list[Tensor]]
    writes: bool = False


def subject_of(opened: Bundle) -> Subject:
    """Raises ConfigError for a model that learns nothing: counts, or weights in 8 or 4 bits."""
    model = opened.model
    if not isinstance(model, nn.Module) or is_quantized(model):
        made_of = "bytes" if isinstance(model, nn.Module) else "counts"
        raise ConfigError(
            f"{opened.name or 'this model'} is made of {made_of}: it has no weights that learn",
            hint="Name a network that learns, such as the one it was quantized from.",
        )
    model.float().eval()
    if isinstance(model, EncoderDecoder):
        return _translator(model, opened)
    if isinstance(model, TokenClassifier | _OF_TEXTS):
        return _classifier(model, opened)
    if hasattr(getattr(model, "trunk", model), "masked_lm_head"):
        return _encoder(opened)
    return _decoder(model, opened)


def _texts(opened: Bundle) -> list[list[int]]:
    """TEXTS as token ids, cut to what the model reads. Raises DataError where they come to none."""
    context = getattr(getattr(opened.model, "config", None), "context_length", LONGEST)
    # One less: an encoder-decoder's target has a token before or behind it.
    found = opened.tokenizer.encode(TEXTS, max_tokens=min(LONGEST, context - 1))
    found = [tokens for tokens in found if len(tokens) > 1]
    if len(found) < 4:
        raise DataError(
            f"{opened.name or 'this model'}'s tokenizer knows nothing of plain English",
            hint="Exactness is looked at on English sentences; this model can't read them.",
        )
    return found


def _decoder(model: Any, opened: Bundle) -> Subject:
    def loss(model: nn.Module, items: Sequence[Tokens]) -> LossSum:
        return language_modeling.LanguageModel(model).loss(language_modeling.collate(items))  # type: ignore[arg-type]

    def read(model: Any, items: Sequence[Tokens], lay: Lay) -> list[Tensor]:
        laid = lay(items)
        return laid.each(model.logits(model(laid.inputs, laid.layout)))

    return Subject("decoder", model, opened, _texts(opened), loss, read, writes=True)


def _encoder(opened: Bundle) -> Subject:
    """With its head for hidden words, a fresh one where it was saved without."""
    task = Fill.make(opened, Parts("verify", (), ()))
    model = task.build(opened).eval()

    def loss(model: nn.Module, items: Sequence[Any]) -> LossSum:
        return task.loss(model, task.collate(items))

    def read(model: Any, items: Sequence[Any], lay: Lay) -> list[Tensor]:
        laid = lay([item.tokens for item in items])
        return laid.each(model.trunk(laid.inputs, laid.layout))

    items = task.items([Document(text) for text in TEXTS])
    return Subject("encoder", model, opened, items, loss, read)


def _classifier(model: Any, opened: Bundle) -> Subject:
    """Each of the L logits is to be high or low, as the token's (or the text's) number has it."""

    def loss(model: nn.Module, items: Sequence[Tokens]) -> LossSum:
        laid = end_to_end(items)
        logits = model(laid)  # (T, L), or (N, L)
        numbers = laid.inputs
        if isinstance(model, _OF_TEXTS):
            numbers = torch.tensor([sum(tokens) for tokens in items])
        targets = (numbers[:, None] + torch.arange(logits.shape[1])) % 2
        return binary_cross_entropy_sum(logits, targets)

    def read(model: nn.Module, items: Sequence[Tokens], lay: Lay) -> list[Tensor]:
        laid = lay(items)
        logits = model(laid)
        return list(logits) if isinstance(model, _OF_TEXTS) else laid.each(logits)

    return Subject("classifier", model, opened, _texts(opened), loss, read)


def _translator(model: EncoderDecoder, opened: Bundle) -> Subject:
    """Each text is to become the next one."""
    start, end = seq2seq.bounds(opened.tokenizer)
    texts = _texts(opened)
    pairs = list(zip(texts, [*texts[1:], texts[0]], strict=True))

    def loss(model: Any, items: Sequence[tuple[Tokens, Tokens]]) -> LossSum:
        return seq2seq.Seq2Seq(model).loss(seq2seq.collate(items, start=start, end=end))

    def read(model: Any, items: Sequence[tuple[Tokens, Tokens]], lay: Lay) -> list[Tensor]:
        source, target = lay([s for s, _ in items]), lay([t for _, t in items])
        hidden = model(source.inputs, source.layout, target.inputs, target.layout)
        return target.each(model.logits(hidden))

    return Subject("encoder-decoder", model, opened, pairs, loss, read)


def smallest_installed() -> str | None:
    """The catalogue's smallest model that is on this machine."""
    here = [entry for name, entry in CATALOGUE.items() if where(name) is not None]
    return min(here, key=lambda entry: entry.n_parameters).name if here else None


def tiny() -> Bundle:
    """A decoder of random weights, for a machine without models."""
    tokenizer = train_tokenizer("bpe", lambda: TEXTS, 300)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Llama(LlamaConfig(tokenizer.vocab_size, 96, 2, 4, d_model=32, d_ff=64))
    return Bundle(model, tokenizer, "llama", name="a tiny random llama")
