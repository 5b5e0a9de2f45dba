"""The feed-forward layer (Vaswani et al. 2017, section 3.3), with the activation passed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
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


class SquaredReLUFeedForward(nn.Module):
    """Widen, max(x, 0)^2 (So et al. 2021, "Primer", section 4.1), narrow. In and out: (..., E).

    On a processor a piece of tokens goes all the way through before the next: what lies between the
    two products stays in the cache, and only the rectified part is kept for the way back.
    """

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        bare = type(self.up) is nn.Linear and type(self.down) is nn.Linear  # no adapter on them
        if bare and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            return _InPieces.apply(x, self.up.weight, self.down.weight)
        return self.down(self.up(x).relu().square())


N_ROWS = 1024  # tokens a piece: fewer would leave two threads little to share


class _InPieces(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, up: Tensor, down: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        kept = rows.new_empty(len(rows), len(up))
        out = torch.empty_like(rows)
        squares = rows.new_empty(min(N_ROWS, len(rows)), len(up))
        for piece, rectified, y in zip(rows.split(N_ROWS), kept.split(N_ROWS), out.split(N_ROWS)):
            torch.mm(piece, up.T, out=rectified).relu_()
            square = torch.mul(rectified, rectified, out=squares[: len(piece)])
            torch.mm(square, down.T, out=y)
        ctx.save_for_backward(rows, kept, up, down)
        return out.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows, kept, up, down = ctx.saved_tensors
        g_rows = g.reshape(rows.shape)
        g_x, g_up, g_down = torch.empty_like(rows), torch.zeros_like(up), torch.zeros_like(down)
        wide = rows.new_empty(min(N_ROWS, len(rows)), len(up))
        pieces = (t.split(N_ROWS) for t in (rows, kept, g_rows, g_x))
        for piece, rectified, g_y, g_piece in zip(*pieces):
            between = wide[: len(piece)]
            g_down.addmm_(g_y.T, torch.mul(rectified, rectified, out=between))
            torch.mm(g_y, down, out=between).mul_(rectified)
            torch.mm(between, up, out=g_piece)
            g_up.addmm_(between.T, piece)
        # The 2 of the square's derivative, once at the end where it costs least.
        return g_x.mul_(2).view_as(g), g_up.mul_(2), g_down
