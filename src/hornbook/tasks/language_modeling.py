"""Language modelling: guess the next token (Radford et al. 2019, section 2, equation 1).

Of all tokens (`NextTokenBatch`), or of those marked as to be learnt, such as an assistant's answers
(`MarkedBatch`): then the head reads only the places that are followed by one. With a vocabulary of
49,152 a token's logits and their gradients are as many numbers as ten layers of a small model keep
of it, and a prompt's are for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hornbook.nn.layout import Layout, Ragged
from hornbook.nn.losses import IGNORE, LossSum, cross_entropy_of, cross_entropy_sum


@dataclass(frozen=True)
class NextTokenBatch:
    """tokens: (T,) documents end to end; targets: (T,) the next one, IGNORE at a document's end."""

    tokens: Tensor
    layout: Ragged
    targets: Tensor


def collate(documents: Sequence[Sequence[int]], device: str = "cpu") -> NextTokenBatch:
    """Lay documents end to end, longest first. No target crosses from one into the next."""
    ordered = sorted(documents, key=len, reverse=True)
    tokens = torch.tensor([t for d in ordered for t in d])
    targets = torch.tensor([t for d in ordered for t in [*d[1:], IGNORE]])
    layout = Ragged([len(d) for d in ordered], device)
    return NextTokenBatch(tokens.to(device), layout, targets.to(device))


def windows(tokens: Tensor, targets: Tensor) -> NextTokenBatch:
    """Rows of one length (B, T), with their targets (B, T), as a batch end to end."""
    layout = Ragged([tokens.shape[1]] * len(tokens), tokens.device)
    return NextTokenBatch(tokens.flatten(), layout, targets.flatten())


class Decoder(Protocol):
    """What a trunk offers to be a language model; every decoder in `models` does."""

    config: Any

    def __call__(self, tokens: Tensor, layout: Layout) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...


class LanguageModel(nn.Module):
    """A decoder with its head: batch -> logits (T, V)."""

    def __init__(self, trunk: Decoder) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, batch: NextTokenBatch) -> Tensor:
        return self.trunk.logits(self.trunk(batch.tokens, batch.layout))

    def loss(self, batch: NextTokenBatch) -> LossSum:
        """As `loss_of`; the logits of many tokens are never all there (`nn.rounds`)."""
        return cross_entropy_of(
            self.trunk.logits,
            self.trunk(batch.tokens, batch.layout),
            batch.targets,
            vocab_size=self.trunk.config.vocab_size,
        )


def loss_of(model: nn.Module, batch: NextTokenBatch) -> LossSum:
    """Cross-entropy over all tokens that have a next one, in nats."""
    if type(model) is LanguageModel:  # one whose weights are sharded answers to calls alone
        return model.loss(batch)
    return cross_entropy_sum(model(batch), batch.targets)


@dataclass(frozen=True)
class Marked:
    """A text as token ids (T,), and which of them are to be guessed (T,); never the first."""

    tokens: np.ndarray
    learnt: np.ndarray


@dataclass(frozen=True)
class MarkedBatch:
    """Texts end to end, of which some tokens are to be guessed.

    tokens: (T,). places: (P,), where the model stands when it guesses; targets: (P,), the token
    that comes after each. owners: (P,), of which text, by its number among those laid.
    """

    tokens: Tensor
    layout: Ragged
    places: Tensor
    targets: Tensor
    owners: Tensor


def lay(texts: Sequence[Marked], device: torch.device | str = "cpu") -> MarkedBatch:
    """Lay marked texts end to end, longest first. Attention and targets stay within each."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i].tokens))
    lengths = [len(texts[i].tokens) for i in order]
    tokens = np.concatenate([texts[i].tokens for i in order])
    guessed = np.flatnonzero(np.concatenate([texts[i].learnt for i in order]))
    owners = np.repeat(order, lengths)[guessed]
    rows = (
        torch.as_tensor(x.astype(np.int64)) for x in (tokens, guessed - 1, tokens[guessed], owners)
    )
    tokens_, places, targets, owners_ = (row.to(device) for row in rows)
    return MarkedBatch(tokens_, Ragged(lengths, device), places, targets, owners_)


def token_log_probs(
    model: Any,
    tokens: Tensor,
    layout: Layout,
    places: Tensor,
    targets: Tensor,
    *,
    most: int = 2**24,
) -> Tensor:
    """The log-probability, in nats, of each target (P,) at its place (P,) among the tokens: (P,).

    model: a `Decoder`. Logits are made at `places` alone, at
    most `most` of them at once (64 MB); where that takes several rounds, each is computed again on
    the way back instead of being kept.
    """
    hidden = model(tokens, layout).flatten(0, -2).index_select(0, places)

    def log_probs(hidden: Tensor, targets: Tensor) -> Tensor:
        return -F.cross_entropy(model.logits(hidden).float(), targets, reduction="none")

    n_rows = max(1, most // model.config.vocab_size)
    if len(places) <= n_rows:
        return log_probs(hidden, targets)
    rounds = zip(hidden.split(n_rows), targets.split(n_rows), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([log_probs(*part) for part in rounds])
    return torch.cat([checkpoint(log_probs, *part, use_reentrant=False) for part in rounds])


def marked_loss(model: nn.Module, batch: MarkedBatch) -> LossSum:
    """Cross-entropy over the tokens that are to be guessed, in nats."""
    decoder: Any = model
    hidden = decoder(batch.tokens, batch.layout).flatten(0, -2).index_select(0, batch.places)
    return cross_entropy_of(
        decoder.logits, hidden, batch.targets, vocab_size=decoder.config.vocab_size
    )
