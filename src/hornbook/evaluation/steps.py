"""What a training step of each family does, for a dry run: which loss, over which tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.evaluation.dry_run import Step
from hornbook.models import MODELS
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import nats_of

HIDDEN_SHARE = {"bert": 0.15, "modern-bert": 0.30}  # of tokens that a masked model has to guess


def step_of(family: str, *, sharded: bool = False) -> Step:
    """How `family` is trained. Raises UnknownNameError for one that isn't in MODELS.

    The loss goes in rounds (`nn.rounds`), but for a model whose weights are `sharded`: its call
    ends in all logits.
    """
    build = MODELS.load(family)
    if family in HIDDEN_SHARE:
        return Step(
            build=lambda config: _Masked(build(config)),
            trunk=_encoded(HIDDEN_SHARE[family]),
            head=_masked_loss,
            alike=family != "modern-bert",
        )
    trunk = _translated if family == "encoder-decoder" else _read
    head = _whole_loss if sharded else _next_token_loss
    return Step(build=build, trunk=trunk, head=head)


def _documents(batch_size: int, length: int) -> tuple[Tensor, Ragged]:
    tokens = torch.zeros(batch_size * length, dtype=torch.long)
    return tokens, Ragged([length] * batch_size)


def _read(model: nn.Module, batch_size: int, length: int) -> Tensor:
    return model(*_documents(batch_size, length))


def _encoded(share: float) -> Callable[[nn.Module, int, int], Tensor]:
    """An encoder's states of the hidden tokens."""

    def states(model: Any, batch_size: int, length: int) -> Tensor:
        tokens, layout = _documents(batch_size, length)
        hidden = torch.arange(max(1, round(share * len(tokens))))
        return model.trunk(tokens, layout, wanted=hidden)

    return states


def _translated(model: nn.Module, batch_size: int, length: int) -> Tensor:
    """Source and target of the same length."""
    source, target = _documents(batch_size, length), _documents(batch_size, length)
    return model(*source, *target)


def _next_token_loss(model: nn.Module, hidden: Tensor) -> Tensor:
    decoder: Any = model
    targets = torch.zeros(len(hidden), dtype=torch.long)
    return nats_of(decoder.logits, hidden, targets, vocab_size=decoder.config.vocab_size)


def _whole_loss(model: nn.Module, hidden: Tensor) -> Tensor:
    decoder: Any = model
    return _cross_entropy(decoder.logits(hidden))


def _masked_loss(model: Any, hidden: Tensor) -> Tensor:
    return _cross_entropy(model.head(hidden, model.token_embedding()))


def _cross_entropy(logits: Tensor) -> Tensor:
    targets = torch.zeros(logits.shape[0], dtype=torch.long)
    return F.cross_entropy(logits.float(), targets, reduction="sum")


class _Masked(nn.Module):
    """An encoder with its head, as `tasks.masked_lm` puts them together."""

    def __init__(self, trunk: Any) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = trunk.masked_lm_head()
        self.token_embedding = trunk.token_embedding
