"""Losses as a sum and a count, so that whoever adds them up divides once.

A mean per micro-batch weighs a short batch's targets more than a long one's; accumulating means is
the mistake that made gradient accumulation change results for years (transformers issue 34191).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

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


def binary_cross_entropy_sum(logits: Tensor, targets: Tensor) -> LossSum:
    """Independent yes-or-no per label. logits and targets: (N, L); the count is of documents."""
    total = F.binary_cross_entropy_with_logits(logits.float(), targets.float(), reduction="sum")
    return LossSum(total, len(targets))
