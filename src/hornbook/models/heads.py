"""Heads that stand on a trunk: a whole text's labels, each token's, a span's two ends, an
option's mark.

As transformers has them, so that what is trained here opens there with its head: of BERT, the first
token through the pooler, then a linear layer (Devlin et al. 2019, section 4); of a modern encoder,
the pooled tokens through a dense layer; of decoders, the last token and a linear layer without
bias.

A head is made by what its trunk is, so that a model is `Kind(trunk, config)`, and has `trunk`,
`head` and `config`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, Pooler
from hornbook.models.gpt import GPT
from hornbook.models.llama import Llama
from hornbook.models.modern_bert import ModernBert
from hornbook.models.modern_gpt import ModernGPT
from hornbook.nn.init import normal_
from hornbook.nn.layout import first_places

Problem = Literal[
    "single_label_classification",
    "multi_label_classification",
    "regression",
    "token",
    "span",
    "choice",
]


@dataclass(frozen=True)
class HeadConfig:
    """A trunk's config, and what the head on it tells apart.

    label_names: in the order of the logits; one for a regression. dropout: before the head. mean:
    of a modern encoder, whether its tokens' mean is read instead of its first token. pad_token: the
    id that fills short texts up elsewhere; here none are, but transformers finds a decoder's last
    token by it.
    """

    trunk: Any
    label_names: tuple[str, ...]
    problem: Problem = "single_label_classification"
    dropout: float = 0.0
    mean: bool = False
    pad_token: int | None = None

    @property
    def n_labels(self) -> int:
        return len(self.label_names)

    @property
    def n_layers(self) -> int:
        return self.trunk.n_layers

    @property
    def context_length(self) -> int:
        return self.trunk.context_length


class Texts(Protocol):
    """What a head's model reads of a batch. segments: (...) 0 or 1, None where all are 0."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def layout(self) -> Any: ...
    @property
    def segments(self) -> Tensor | None: ...


class BertHead(nn.Module):
    """First tokens through the pooler, then linear: (N, E) -> logits (N, L)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.pooler = Pooler(config.trunk.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.trunk.d_model, config.n_labels)
        normal_(self)

    def forward(self, first: Tensor) -> Tensor:
        return self.out(self.dropout(self.pooler(first)))


class ModernBertHead(nn.Module):
    """The first token, or the mean, through a dense layer: (N, E) -> logits (N, L)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        d_model = config.trunk.d_model
        self.dense = nn.Linear(d_model, d_model, bias=False)
        self.norm = nn.LayerNorm(d_model, eps=config.trunk.norm_epsilon, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(d_model, config.n_labels)
        normal_(self)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.out(self.dropout(self.norm(F.gelu(self.dense(pooled)))))


class DecoderHead(nn.Module):
    """The last token, which alone has read all: (N, E) -> logits (N, L)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.trunk.d_model, config.n_labels, bias=False)
        normal_(self)

    def forward(self, last: Tensor) -> Tensor:
        return self.out(self.dropout(last))


_OF_TEXTS: dict[type, Callable[[HeadConfig], nn.Module]] = {
    Bert: BertHead,
    ModernBert: ModernBertHead,
    GPT: DecoderHead,
    Llama: DecoderHead,
    ModernGPT: DecoderHead,
}
_OF_CHOICES: dict[type, Callable[[HeadConfig], nn.Module]] = {
    kind: _OF_TEXTS[kind] for kind in (Bert, ModernBert)
}


class SequenceClassifier(nn.Module):
    """A trunk and a head that reads whole texts: batch -> logits (N, L).

    Raises ConfigError for a trunk that has no such head.
    """

    def __init__(self, trunk: nn.Module, config: HeadConfig) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.head = head_for(trunk, _OF_TEXTS)(config)

    def forward(self, batch: Texts) -> Tensor:
        return self.head(pooled(self.trunk, batch, mean=self.config.mean))


MARK = ("mark",)  # the one output of an option


class ChoiceScorer(nn.Module):
    """An encoder and a head that marks a question with one of its options: batch -> (N, 1).

    How many options a question has is the batch's matter. Raises ConfigError for a trunk that has
    no such head: a decoder says itself how likely an option is.
    """

    def __init__(self, trunk: nn.Module, config: HeadConfig) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.head = head_for(trunk, _OF_CHOICES)(config)

    def forward(self, batch: Texts) -> Tensor:
        return self.head(pooled(self.trunk, batch, mean=self.config.mean))


class TokenHead(nn.Module):
    """Linear, token by token: hidden (..., E) -> logits (..., L)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(config.trunk.d_model, config.n_labels)
        normal_(self)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.out(self.dropout(hidden))


class ModernTokenHead(nn.Module):
    """Dense, then linear, token by token: hidden (..., E) -> logits (..., L)."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        d_model = config.trunk.d_model
        self.dense = nn.Linear(d_model, d_model, bias=False)
        self.norm = nn.LayerNorm(d_model, eps=config.trunk.norm_epsilon, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(d_model, config.n_labels)
        normal_(self)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.out(self.dropout(self.norm(F.gelu(self.dense(hidden)))))


_OF_TOKENS: dict[type, Callable[[HeadConfig], nn.Module]] = {
    Bert: TokenHead,
    ModernBert: ModernTokenHead,
}


class TokenClassifier(nn.Module):
    """An encoder and a head that reads each token: batch -> logits (T, L); (n, L) where only some
    tokens are `wanted` (`nn.layout.picked`).

    Raises ConfigError for a trunk that has no such head: a decoder's token has not read what comes
    after it.
    """

    def __init__(self, trunk: nn.Module, config: HeadConfig) -> None:
        super().__init__()
        self.trunk = trunk
        self.config = config
        self.head = head_for(trunk, _OF_TOKENS)(config)

    def forward(self, batch: Texts, wanted: Tensor | None = None) -> Tensor:
        return self.head(read(self.trunk, batch, wanted))


class SpanFinder(TokenClassifier):
    """An encoder and a head that says of each token how likely a span begins there, and ends there:
    batch -> logits (T, 2)."""


def pooled(trunk: nn.Module, batch: Texts, *, mean: bool = False) -> Tensor:
    """What a head reads of each text, (N, E): a decoder's last token, an encoder's first or mean.

    What its last block would compute of an encoder's other tokens is left out.
    """
    if not isinstance(trunk, Bert | ModernBert):
        return batch.layout.last(read(trunk, batch))
    if mean:
        return batch.layout.mean(read(trunk, batch))
    return read(trunk, batch, first_places(batch.layout, batch.inputs))


def read(trunk: nn.Module, batch: Texts, wanted: Tensor | None = None) -> Tensor:
    """A trunk's hidden states (..., E); segments are given to trunks that know them.

    wanted: of an encoder, the tokens to give (`nn.layout.picked`).
    """
    only = {} if wanted is None else {"wanted": wanted}
    if batch.segments is None or not isinstance(trunk, Bert):
        return trunk(batch.inputs, batch.layout, **only)
    return trunk(batch.inputs, batch.layout, batch.segments, **only)


def head_for(
    trunk: nn.Module, heads: dict[type, Callable[[HeadConfig], nn.Module]]
) -> Callable[[HeadConfig], nn.Module]:
    """Which head stands on this trunk. Raises ConfigError when none does."""
    if type(trunk) not in heads:
        raise ConfigError(
            f"no head of this kind stands on a {type(trunk).__name__}",
            hint=f"Name a model of one of these: {', '.join(sorted(t.__name__ for t in heads))}.",
        )
    return heads[type(trunk)]


def bare_trunk(model: Any) -> nn.Module:
    """The part of an opened model that a head stands on; its own head is left off.

    A decoder with a matrix of its own for next tokens loses it: transformers keeps none beside
    another head.
    """
    trunk = getattr(model, "trunk", model)
    if isinstance(trunk, Llama) and trunk.head is not None:
        trunk.head = None
        trunk.config = replace(trunk.config, tied_head=True)
    if isinstance(trunk, ModernGPT):
        return headless(trunk)
    return trunk


def headless(trunk: ModernGPT) -> ModernGPT:
    """A modern GPT without its matrix for next tokens: hidden states are all it gives."""
    if hasattr(trunk, "head"):
        del trunk.head
    return trunk
