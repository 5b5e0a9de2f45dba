"""ALiBi (Press et al. 2022): a score falls with the distance of the two tokens, at a slope a head.

Nothing is added to embeddings and nothing turned, so that a model may read further than it was
trained on. Both ways, as an encoder looks, the distance is |i - j| (Portes et al. 2023).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.nn.layout import Padded, Ragged, rectangle


def slopes(n_heads: int) -> list[float]:
    """2 ** (-8 i / H) for heads i = 1 ... H, section 3; for an H that is no power of two those of
    the next lower one, and every other of the next higher one's, as in the paper's code."""
    lower = 2 ** int(math.log2(n_heads))
    found = [2 ** (-8 * i / lower) for i in range(1, lower + 1)]
    return found + [2 ** (-4 * i / lower) for i in range(1, 2 * (n_heads - lower), 2)]


class Alibi(nn.Module):
    """The slopes of a model's heads; called with a layout, gives one whose scores are lowered."""

    slopes: Tensor

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.register_buffer("slopes", torch.tensor(slopes(n_heads)), persistent=False)

    def forward(self, layout: Padded | Ragged) -> Lowered:
        return Lowered(layout, self.slopes)


class Lowered:
    """A layout in which attention to what is d tokens away has slope * d taken from its score."""

    def __init__(self, layout: Padded | Ragged, slopes: Tensor) -> None:
        self._layout = layout
        places = torch.arange(layout.longest(), device=slopes.device)
        self._distance = (places[:, None] - places).abs()  # (T, T)
        self._bias = -slopes[:, None, None] * self._distance  # (H, T, T)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layout, name)

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """As `Layout.attend`. In and out: (..., H, D)."""
        bias = self._bias
        if window is not None:
            bias = bias.masked_fill(self._distance > window, -math.inf)
        if causal:
            bias = bias.masked_fill(torch.ones_like(self._distance).triu(1).bool(), -math.inf)
        bias = bias.to(q.dtype)
        if isinstance(self._layout, Padded):
            itself = torch.eye(q.shape[1], dtype=torch.bool, device=q.device)
            near = self._layout.mask[:, None, None, :] | itself  # (B, 1, T, S)
            return rectangle(q, k, v, bias.masked_fill(~near, -math.inf), dropout=dropout)
        out = []
        sizes = [length * n for length, n in self._layout.runs]
        parts = zip(self._layout.runs, q.split(sizes), k.split(sizes), v.split(sizes), strict=True)
        for (length, n), *qkv in parts:
            q_, k_, v_ = (x.unflatten(0, (n, length)) for x in qkv)
            out.append(rectangle(q_, k_, v_, bias[:, :length, :length], dropout=dropout))
        return torch.cat([run.flatten(0, 1) for run in out])
