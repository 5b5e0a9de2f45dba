"""The change that LoRA learns of one layer (Hu et al. 2021, section 4.1), alone, without the layer.

    W x   becomes   W x + scale * B A x        A: (rank, d_in), B: (d_out, rank)

A fused layer is several matrices over one another; each adapted one has an A and a B of its own:

    | Wq |       | Bq       |  | Aq |          a: (n_parts * rank, d_in), the A's over one another
    | Wk | x  +  |    Bk    |  | Ak | x        b: (changed rows, rank), the B's over one another
    | Wv |       |       Bv |  | Av |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hornbook.adapters.fused import Part
from hornbook.errors import ConfigError
from hornbook.quantization.four_bits import FourBitLinear

Linear = nn.Linear | FourBitLinear


@dataclass(frozen=True)
class LowRankConfig:
    """alpha: 2 * rank when None. rank_stabilized: divide alpha by sqrt(rank) instead of rank
    (Kalajdzievski 2023, "rsLoRA"). dropout: of the inputs that the change sees, a probability.

    Raises ConfigError for a rank below 1 or a dropout that is no probability.
    """

    rank: int
    alpha: float | None = None
    dropout: float = 0.0
    rank_stabilized: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(
                f"LoRA's rank is {self.rank}", hint="It must be at least 1; 8 to 32 is usual."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(
                f"the adapter's dropout is {self.dropout}", hint="From 0 to below 1; .05 is usual."
            )

    @property
    def scale(self) -> float:
        alpha = 2 * self.rank if self.alpha is None else self.alpha
        return alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)


class LowRank(nn.Module):
    """scale * B A x on rows of a layer's output. A starts as Kaiming-uniform noise and B as zeros,
    so that a fresh change is none. parts: the changed rows, in order, none twice."""

    def __init__(self, base: Linear, config: LowRankConfig, parts: Sequence[Part]) -> None:
        super().__init__()
        self.config, self.parts = config, tuple(parts)
        d_in, n_rows = base.in_features, sum(p.end - p.begin for p in parts)
        self.a = nn.Parameter(torch.empty(len(parts) * config.rank, d_in))
        self.b = nn.Parameter(torch.zeros(n_rows, config.rank))
        # As each A alone would be drawn: the bound depends on d_in only.
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor, base: Linear) -> Tensor:
        """The layer's output and the change. x: (..., d_in) -> (..., d_out)."""
        rows = x.flatten(0, -2)
        y = base(rows)
        seen = F.dropout(rows, self.config.dropout, self.training)
        a, b = self.a.to(y.dtype), self.b.to(y.dtype)
        y = _Add.apply(y, seen.to(y.dtype), a, b, self.parts, self.config.scale)
        return y.unflatten(0, x.shape[:-1])

    def delta(self) -> list[tuple[Part, Tensor]]:
        """scale * B A of each part: what would be added to its rows of the weight."""
        return [
            (part, self.config.scale * b @ a)
            for part, a, b in zip(self.parts, *self.by_part(), strict=True)
        ]

    def by_part(self) -> tuple[list[Tensor], list[Tensor]]:
        """The A's (rank, d_in) and the B's (rows of the part, rank)."""
        n_rows = [p.end - p.begin for p in self.parts]
        return list(self.a.split(self.config.rank)), list(self.b.split(n_rows))

    def into(self, weight: Tensor) -> Tensor:
        """A weight (d_out, d_in) with the change in it: a new one."""
        changed = weight.clone()
        for part, delta in self.delta():
            changed[part.begin : part.end] += delta.to(weight.dtype)
        return changed


class _Add(Function):
    """y += scale * (x A^T) B^T, part by part, in place: nothing of y's size is made on the way.

    y: (T, d_out), x: (T, d_in). Kept for the way back: x, which the layer has anyway, and x A^T.
    """

    @staticmethod
    def forward(
        ctx: Any, y: Tensor, x: Tensor, a: Tensor, b: Tensor, parts: Sequence[Part], scale: float
    ) -> Tensor:
        low = torch.mm(x, a.T, out=x.new_empty(len(x), len(a)))  # in y's format, autocast or not
        for part, h, b_part in _cut(parts, low, b):
            y[:, part.begin : part.end].addmm_(h, b_part.T, alpha=scale)
        ctx.mark_dirty(y)
        ctx.save_for_backward(x, low, a, b)
        ctx.parts, ctx.scale = parts, scale
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, low, a, b = ctx.saved_tensors
        g_low, g_b, begin = torch.empty_like(low), torch.empty_like(b), 0
        rank = b.shape[1]
        for i, (part, h, b_part) in enumerate(_cut(ctx.parts, low, b)):
            g_part = g[:, part.begin : part.end]
            torch.mm(g_part, b_part, out=g_low[:, i * rank : (i + 1) * rank])
            torch.mm(g_part.T, h, out=g_b[begin : begin + len(b_part)])
            begin += len(b_part)
        g_low *= ctx.scale
        g_x = g_low @ a if ctx.needs_input_grad[1] else None
        return g, g_x, g_low.T @ x, g_b.mul_(ctx.scale), None, None


def _cut(parts: Sequence[Part], low: Tensor, b: Tensor) -> list[tuple[Part, Tensor, Tensor]]:
    """Each part with its columns of x A^T and its rows of B."""
    n_rows = [p.end - p.begin for p in parts]
    return list(zip(parts, low.chunk(len(parts), 1), b.split(n_rows), strict=True))
