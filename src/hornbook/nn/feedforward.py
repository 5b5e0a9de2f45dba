"""The feed-forward layer (Vaswani et al. 2017, section 3.3), with the activation passed in."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class FeedForward(nn.Module):
    """Widen, bend, narrow again. In and out: (..., E)."""

    def __init__(self, d_model: int, d_ff: int, *, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))
