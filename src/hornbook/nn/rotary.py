"""Rotary positions (Su et al. 2021, "RoFormer", section 3.2.2): a query meets a key at an angle
that depends on how far apart they stand, and on nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from hornbook.errors import ConfigError


@dataclass(frozen=True)
class Rotation:
    """Turns pairs of features by an angle each. cos: (..., 1, D), its halves alike; sin: half that.

    Feature i is paired with feature i + D/2, as in transformers' models (the paper pairs
    neighbours, which is the same up to an order of the weights).
    """

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Turn heads (..., H, D)."""
        return _Turn.apply(x, self.cos.to(x.dtype), self.sin.to(x.dtype))


@dataclass(frozen=True)
class Stretch:
    """Slower turns, for a context longer than the first one a model was trained on.

    Pairs that turn fewer than `slow` times within the first context turn `factor` times slower,
    those of more than `fast` turns as before, the ones between by a mixture of both. Source: Llama
    3.1, `apply_scaling` in the llama-models repository.
    """

    factor: float
    slow: float
    fast: float
    first_context: int

    def __call__(self, speeds: Tensor) -> Tensor:
        """Angles a position, in radians, before and after."""
        turns = self.first_context * speeds / (2 * math.pi)
        kept = ((turns - self.slow) / (self.fast - self.slow)).clamp(0, 1)
        return speeds * (kept + (1 - kept) / self.factor)


def speeds_of(d_head: int, base: float) -> Tensor:
    """By how much each pair of a head's features turns from a position to the next: (D/2,)."""
    return 1 / base ** (torch.arange(0, d_head, 2).float() / d_head)


class Rotary(nn.Module):
    """The angles of all positions of a model, and the rotation of a batch's tokens.

    stretch: for a model of a lengthened context. direction: 1 turns a feature pair (a, b) to
    (a cos - b sin, b cos + a sin), -1 the other way.
    Raises ConfigError when the heads' width is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        d_head: int,
        context_length: int,
        *,
        base: float = 10000.0,
        stretch: Stretch | None = None,
        direction: int = 1,
    ) -> None:
        super().__init__()
        if d_head % 2:
            raise ConfigError(
                f"rotary positions turn pairs of features; a head of {d_head} has one too many",
                hint=f"Choose d_model = n_heads * {d_head - 1} or n_heads * {d_head + 1}.",
            )
        speeds = speeds_of(d_head, base)
        if stretch:
            speeds = stretch(speeds)
        angles = torch.arange(context_length).float()[:, None, None] * speeds  # (T, 1, D/2)
        self.register_buffer("cos", angles.cos().repeat(1, 1, 2), persistent=False)
        self.register_buffer("sin", direction * angles.sin(), persistent=False)

    def forward(self, positions: Tensor) -> Rotation:
        """The rotation of tokens at `positions` (...)."""
        return Rotation(self.cos[positions], self.sin[positions])


class _Turn(Function):
    """The derivative of a turn is the turn back: half of what torch's steps would cost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turned(g, cos, -sin), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    y = x * cos
    y[..., :half].addcmul_(b, sin, value=-1)
    y[..., half:].addcmul_(a, sin)
    return y
