"""The optimiser of a fine-tuning run: which weights move, and at which rates."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.training.optimizers import AnyOptimizer, adamw, adamw_in_8_bits, decay_groups


def make_optimizer(model: nn.Module, settings: AdaptSettings, factor: float = 1.0) -> AnyOptimizer:
    """AdamW over what is trainable, at the settings' rates times `factor`."""
    assert settings.lr is not None
    scale = rate_of(model, layer_decay=settings.layer_decay, head=settings.head_lr_scale)
    rates: dict[str, Any] = {
        "lr": settings.lr * factor,
        "weight_decay": settings.weight_decay,
        "lr_scale": scale,
    }
    if settings.optimizer == "adamw-8bit":
        return adamw_in_8_bits(model, **rates)
    return adamw(decay_groups(model.named_parameters(), **rates))


def rate_of(model: nn.Module, *, layer_decay: float, head: float) -> Callable[[str], float]:
    """A parameter's rate over the run's: `head` for a head, less with each block below it."""
    block = re.compile(r"(?:.*\.)?(?:blocks|encoder|decoder)\.(\d+)\.")
    found = [int(m[1]) for name, _ in model.named_parameters() if (m := block.match(name))]
    n_blocks = max(found, default=-1) + 1

    def scale(name: str) -> float:
        if name.startswith("head."):
            return head
        if m := block.match(name):
            return layer_decay ** (n_blocks - 1 - int(m[1]))
        below = "tokens" in name or "positions" in name or "embedding" in name
        return layer_decay**n_blocks if below else 1.0

    return scale


def width(model: Any) -> int:
    """The width of a model's hidden states."""
    trunk = getattr(model, "trunk", model)
    return int(getattr(trunk.config, "d_model", 768))
