"""DoRA: a layer's direction changes by LoRA, its rows' lengths are learnt beside it (Liu et al.
2024, "DoRA: Weight-Decomposed Low-Rank Adaptation", equation 5).

    W x   becomes   m * (W + scale * B A) x / |W + scale * B A|       | | of each row

The length is taken as a constant on the way back (section 4.3). It is found without making a
matrix of the layer's size:  |W + sBA|^2 = |W|^2 + 2 s <W A^T, B> + s^2 <B A A^T, B>, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.adapters.fused import Part
from hornbook.adapters.low_rank import Linear, LowRank, LowRankConfig


class Dora(LowRank):
    """magnitude: m of the changed rows, in their order; at first the rows' own lengths, so that a
    fresh change is none."""

    squares: Tensor

    def __init__(self, base: Linear, config: LowRankConfig, parts: Sequence[Part]) -> None:
        super().__init__(base, config, parts)
        changed = [base.weight[p.begin : p.end] for p in parts]
        squares = torch.cat([rows.detach().float().square().sum(1) for rows in changed])
        self.register_buffer("squares", squares, persistent=False)
        self.magnitude = nn.Parameter(self.lengths(base))

    def forward(self, x: Tensor, base: Linear) -> Tensor:
        """The layer with its changed rows. x: (..., d_in) -> (..., d_out)."""
        y = base(x)
        if not self.training or self.config.dropout == 0.0:
            seen, product = x, y if base.bias is None else y - base.bias
        else:
            seen = F.dropout(x, self.config.dropout)
            product = base(seen) if base.bias is None else base(seen) - base.bias
        stretch = self.stretch(base).to(y.dtype)
        low = F.linear(seen, self.a.to(y.dtype))
        n_rows = [p.end - p.begin for p in self.parts]
        added = torch.zeros_like(y)
        for part, h, b, m in zip(
            self.parts,
            low.chunk(len(self.parts), -1),
            self.b.to(y.dtype).split(n_rows),
            stretch.split(n_rows),
            strict=True,
        ):
            rows = slice(part.begin, part.end)
            change = F.linear(h, b * self.config.scale)
            added[..., rows] = (m - 1) * product[..., rows] + m * change
        return y + added

    def stretch(self, base: Linear) -> Tensor:
        """m / |W + scale * B A| of the changed rows."""
        return self.magnitude / self.lengths(base)

    @torch.no_grad()
    def lengths(self, base: Linear) -> Tensor:
        """|W + scale * B A| of the changed rows."""
        across = F.linear(self.a, base.weight.to(self.a.dtype)).T
        squares, begin, scale = [], 0, self.config.scale
        for i, (part, a, b) in enumerate(zip(self.parts, *self.by_part(), strict=True)):
            n_rows = part.end - part.begin
            own = slice(i * self.config.rank, (i + 1) * self.config.rank)
            crossed = (across[part.begin : part.end, own] * b).sum(1)
            changed = ((b @ (a @ a.T)) * b).sum(1)
            squares.append(
                self.squares[begin : begin + n_rows] + 2 * scale * crossed + scale**2 * changed
            )
            begin += n_rows
        return torch.cat(squares).clamp_(min=0).sqrt_()

    def into(self, weight: Tensor) -> Tensor:
        """A weight (d_out, d_in) with the change in it: a new one."""
        changed, begin = weight.clone(), 0
        for part, delta in self.delta():
            rows, n_rows = slice(part.begin, part.end), part.end - part.begin
            turned = weight[rows].float() + delta
            m = self.magnitude[begin : begin + n_rows] / turned.norm(dim=1)
            changed[rows] = (m[:, None] * turned).to(weight.dtype)
            begin += n_rows
        return changed
