"""What differs between families when a language model is trained: page, sizes, task, optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hornbook.nn.layout import Padded
from hornbook.nn.losses import LossSum
from hornbook.recipes.dial import Resolved
from hornbook.tasks import language_modeling
from hornbook.tasks.language_modeling import LanguageModel, NextTokenBatch
from hornbook.training.optimizers import AnyOptimizer, adamw, decay_groups, muon_and_adamw

Collate = Callable[[np.ndarray, np.ndarray, str], Any]


@dataclass(frozen=True)
class Objective:
    """How windows become what a model learns from.

    collate: (tokens, targets, device), both (B, T) -> a batch; loss_of takes it.
    """

    model: nn.Module  # trunk and head, as the loss reads them
    collate: Collate
    loss_of: Callable[[nn.Module, Any], LossSum]
    writes: bool = True  # can continue a text

    @property
    def trunk(self) -> nn.Module:
        trunk = self.model.trunk
        assert isinstance(trunk, nn.Module)
        return trunk


def next_token(trunk: nn.Module) -> Objective:
    """A decoder and the next token (Radford et al. 2019, section 2)."""
    return Objective(LanguageModel(trunk), _rows, language_modeling.loss_of)


def _rows(tokens: np.ndarray, targets: np.ndarray, device: str) -> NextTokenBatch:
    ids = torch.from_numpy(tokens).to(device)
    return NextTokenBatch(
        ids, Padded(torch.ones_like(ids, dtype=torch.bool)), torch.from_numpy(targets).to(device)
    )


def build(settings: Resolved) -> Objective:
    """The model of a run with its first weights, and its objective. Seed torch beforehand."""
    if settings.family == "gpt":
        from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig

        return next_token(
            ModernGPT(
                ModernGPTConfig(
                    vocab_size=settings.vocab_size,
                    context_length=settings.context_length,
                    n_layers=settings.n_layers,
                    n_heads=settings.n_heads,
                    d_model=settings.d_model,
                    d_ff=4 * settings.d_model,
                )
            )
        )
    raise NotImplementedError(settings.family)


def make_optimizer(objective: Objective, settings: Resolved) -> AnyOptimizer:
    """Muon for the matrices of blocks and AdamW for the rest, or AdamW for all."""

    def scale(name: str) -> float:
        return settings.lr_head / settings.lr_embedding if "head." in name else 1.0

    named = list(objective.model.named_parameters())
    if settings.optimizer == "muon":
        return muon_and_adamw(
            named,
            muon_lr=settings.lr,
            muon_weight_decay=settings.weight_decay,
            lr=settings.lr_embedding,
            lr_scale=scale,
        )
    groups = decay_groups(named, lr=settings.lr, weight_decay=settings.weight_decay)
    return adamw(groups, betas=(0.9, 0.95))
