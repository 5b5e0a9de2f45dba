"""How well a model foresees a text: its loss over all of it, in a unit that models share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from hornbook.errors import DataError
from hornbook.nn.losses import LossSum


@torch.inference_mode()
def mean_loss(
    model: nn.Module, loss_of: Callable[[nn.Module, Any], LossSum], batches: Iterable[Any]
) -> tuple[float, int]:
    """The loss per target (nats) over all batches, divided once, and the number of targets.

    Leaves the model in the mode it was in. Raises DataError when no batch has a target.
    """
    was_training = model.training
    model.eval()
    total, n_targets = 0.0, 0
    try:
        for batch in batches:
            loss = loss_of(model, batch)
            total += float(loss.total)
            n_targets += loss.n_targets
    finally:
        model.train(was_training)
    if not n_targets:
        raise DataError("there is no target to predict", hint="Give more text to validate on.")
    return total / n_targets, n_targets


def bits_per_byte(loss: float, n_targets: int, n_bytes: int) -> float | None:
    """A loss (nats per target) so that models with other tokenizers can be compared.

    n_bytes: UTF-8 bytes of the text that the targets stand for; None where 0, not known.
    Source: Gao et al. 2020 (The Pile), section 3.1.
    """
    return loss * n_targets / math.log(2) / n_bytes if n_bytes else None
