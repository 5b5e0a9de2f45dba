"""The feed-forward layer (Vaswani et al. 2017, section 3.3), with the activation passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.autograd import Function


class FeedForward(nn.Module):
    """Widen, bend, narrow again. In and out: (..., E)."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        activation: Callable[[Tensor], Tensor],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=bias)
        self.down = nn.Linear(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class GatedFeedForward(nn.Module):
    """Widen twice, bend one, let it gate the other (Shazeer 2020). In and out: (..., E).

    `gate_up` holds both matrices, the gate's first, as one product. No biases.
    """

    def __init__(self, d_model: int, d_ff: int, *, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.gate_up = nn.Linear(d_model, 2 * d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, -1)
        return self.down(self.activation(gate) * up)


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2 (So et al. 2021, "Primer", section 4.1)."""
    return _SquaredReLU.apply(x)


class _SquaredReLU(Function):
    """One tensor kept and one product backwards, where torch keeps two and takes four passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        kept = x.relu()
        ctx.save_for_backward(kept)
        return kept * kept

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (kept,) = ctx.saved_tensors
        return (g * kept).mul_(2)
