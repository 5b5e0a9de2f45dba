"""Losses as a sum and a count, so that whoever adds them up divides once.

A mean per micro-batch weighs a short batch's targets more than a long one's; accumulating means is
the mistake that made gradient accumulation change results for years (transformers issue 34191).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from hornbook.nn.rounds import summed_in_rounds

IGNORE = -100  # the target that carries no loss


@dataclass(frozen=True)
class LossSum:
    """A loss summed over targets, in nats, and how many targets there were."""

    total: Tensor  # scalar
    n_targets: int


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> LossSum:
    """Cross-entropy of class ids. logits: (..., V), targets: (...) ints, IGNORE carries no loss."""
    logits, targets = logits.flatten(0, -2).float(), targets.flatten()
    total = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    return LossSum(total, int((targets != IGNORE).sum()))


def cross_entropy_of(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    *,
    vocab_size: int,
    smoothing: float = 0.0,
) -> LossSum:
    """As `cross_entropy_sum` of `logits_of(hidden)`; of many tokens they are never all there.

    hidden: (T, E); targets: (T,) ints, IGNORE carries no loss. smoothing: the share of each target
    that is spread over the vocabulary (Szegedy et al. 2016, section 7).
    """
    total = nats_of(logits_of, hidden, targets, vocab_size=vocab_size, smoothing=smoothing)
    return LossSum(total, int((targets != IGNORE).sum()))


def nats_of(
    logits_of: Callable[[Tensor], Tensor],
    hidden: Tensor,
    targets: Tensor,
    *,
    vocab_size: int,
    smoothing: float = 0.0,
) -> Tensor:
    """The sum alone of `cross_entropy_of`, a scalar."""

    def loss_of(rows: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            logits_of(rows).float(),
            targets,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=smoothing,
        )

    return summed_in_rounds(loss_of, hidden, targets, vocab_size=vocab_size)


def binary_cross_entropy_sum(logits: Tensor, targets: Tensor) -> LossSum:
    """Independent yes-or-no per label. logits and targets: (N, L); the count is of documents."""
    total = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="sum")
    return LossSum(total, len(targets))
