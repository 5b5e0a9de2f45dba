"""Language modelling: guess the next token (Radford et al. 2019, section 2, equation 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hornbook.nn.layout import Layout, Ragged
from hornbook.nn.losses import IGNORE, LossSum, cross_entropy_sum


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


def loss_of(model: nn.Module, batch: NextTokenBatch) -> LossSum:
    """Cross-entropy over all tokens that have a next one, in nats."""
    return cross_entropy_sum(model(batch), batch.targets)
