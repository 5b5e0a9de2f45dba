"""Rotary positions (Su et al. 2021, "RoFormer", section 3.2.2): a query meets a key at an angle
that depends on how far apart they stand, and on nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hornbook.errors import ConfigError


@dataclass(frozen=True)
class Rotation:
    """Turns pairs of features by an angle each. cos and sin: (..., 1, D), their halves alike.

    Feature i is paired with feature i + D/2, as in transformers' models (the paper pairs
    neighbours, which is the same up to an order of the weights). Rows of `sin` carry the sign of
    the turn, so that both halves are one multiply-add.
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn heads (..., H, D)."""
        return torch.addcmul(x * self.cos, x.roll(x.shape[-1] // 2, -1), self.sin)


class Rotary(torch.nn.Module):
    """The angles of all positions of a model, and the rotation of a batch's tokens.

    direction: 1 turns a feature pair (a, b) to (a cos - b sin, b cos + a sin), -1 the other way.
    Raises ConfigError when the heads' width is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self, d_head: int, context_length: int, *, base: float = 10000.0, direction: int = 1
    ) -> None:
        super().__init__()
        if d_head % 2:
            raise ConfigError(
                f"rotary positions turn pairs of features; a head of {d_head} has one too many",
                hint=f"Choose d_model = n_heads * {d_head - 1} or n_heads * {d_head + 1}.",
            )
        speeds = 1 / base ** (torch.arange(0, d_head, 2).float() / d_head)
        angles = torch.arange(context_length).float()[:, None, None] * speeds  # (T, 1, D/2)
        sin = direction * angles.sin()
        self.register_buffer("cos", angles.cos().repeat(1, 1, 2), persistent=False)
        self.register_buffer("sin", torch.cat([-sin, sin], -1), persistent=False)

    def forward(self, positions: Tensor) -> Rotation:
        """The rotation of tokens at `positions` (...)."""
        return Rotation(self.cos[positions], self.sin[positions])
