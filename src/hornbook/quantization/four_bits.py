"""A frozen matrix in 4 bits, for an adapter to learn beside it (Dettmers et al. 2023, "QLoRA:
Efficient Finetuning of Quantized LLMs", sections 2 and 3).

    attach(model)     # linear layers of the blocks become FourBitLinear; there is no way back to
    restore(model)    # the lost bits, only to floats of the same numbers

A matrix that was in 4 bits already stays as it was (`quantization.even_steps`): 5 bits a weight,
and nothing is lost. All others become NF4: sixteen values, unevenly apart: quantiles of a normal
distribution, which weights about follow, so that each is used as often as any other; one of them is
exactly 0. A block of 64 weights shares one scale, its largest magnitude. Double quantisation keeps
these scales in 8 bits as well, in groups of 256, their mean apart: 4.13 bits a weight instead of
4.5.

The floats exist for some rows at a time only, forth and back. Where 64 does not divide the inputs a
block is the largest that does; scales that are rounded are so to torch's float8_e4m3. What rounding
costs most can be put back as a low-rank sum (`quantization.reconstruction`).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from hornbook.errors import ConfigError
from hornbook.quantization import even_steps

BLOCK = 64  # weights that share a scale
GROUP = 256  # scales that share a scale
N_SAMPLED = 1024  # numbers in a digest
N_AT_ONCE = 256  # rows that are floats at the same time
LARGEST_FLOAT8 = 448.0
BLOCK_LAYERS = r"(trunk\.)?(blocks|encoder|decoder)\.\d+\..*"
# Of the two outermost quantiles: the middle between those that 16 and 15 values would end at.
OFFSET = 0.5 * ((1 - 1 / 32) + (1 - 1 / 30))


@lru_cache(maxsize=1)
def levels() -> Tensor:
    """NF4's sixteen values, from -1 to 1 (section 3, equation 4): eight above 0, seven below, 0."""
    quantile = NormalDist().inv_cdf
    above = [quantile(0.5 + (OFFSET - 0.5) * i / 8) for i in range(8, 0, -1)]
    below = [-quantile(0.5 + (OFFSET - 0.5) * i / 7) for i in range(7, 0, -1)]
    values = torch.tensor(sorted([*above, 0.0, *below]))
    return values / values.abs().max()


@lru_cache(maxsize=2)
def _pairs(even: bool) -> Tensor:
    """(256, 2): the two values that a byte stands for, the first in its high bits."""
    byte = torch.arange(256)
    values = torch.arange(16.0) if even else levels()
    return values[torch.stack([byte >> 4, byte & 15], 1)]


class FourBitLinear(nn.Module):
    """A frozen linear layer in 4 bits: (..., d_in) -> (..., d_out).

    packed: (d_out, d_in / 2) uint8. scales: (d_out * d_in / block,) float32; or, quantised once
    more, the bytes of as many float8 numbers, with `steps` of each group and `middle`, the mean of
    all; or, of even steps, these in float16, with as many `lows` that are added. left (d_out, r),
    right (r, d_in): their product is added to the matrix; bfloat16, or None. digest: of the matrix
    that was rounded. Raises ConfigError for an odd number of inputs.
    """

    packed: Tensor
    scales: Tensor
    steps: Tensor | None
    middle: Tensor | None
    lows: Tensor | None
    left: Tensor | None
    right: Tensor | None
    bias: Tensor | None

    def __init__(self, base: nn.Linear, *, double: bool = True) -> None:
        super().__init__()
        self.out_features, self.in_features = base.weight.shape
        if self.in_features % 2:
            raise ConfigError(
                f"a layer of {self.in_features} inputs can't be packed two in a byte",
                hint="Leave it out of the targets.",
            )
        self.digest = digest(base.weight)
        steps = middle = lows = None
        if even := even_steps.found_in(base.weight):
            self.block = even_steps.BLOCK
            numbers, scales, lows = even.numbers, even.steps, even.lows
        else:
            self.block = math.gcd(BLOCK, self.in_features)
            weight = base.weight.detach().float()
            scales = weight.reshape(-1, self.block).abs().amax(1).clamp(min=1e-12)
            numbers = _nearest(weight, scales, self.block)
            if double:
                scales, steps, middle = _rounded(scales)
        self.register_buffer("packed", numbers[:, 0::2] << 4 | numbers[:, 1::2])
        self.register_buffer("scales", scales)
        self.register_buffer("steps", steps)
        self.register_buffer("middle", middle)
        self.register_buffer("lows", lows)
        self.register_buffer("left", None)
        self.register_buffer("right", None)
        self.register_buffer("bias", None if base.bias is None else base.bias.detach().clone())

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add a product to the matrix: (d_out, r) times (r, d_in), kept in bfloat16."""
        self.left, self.right = left.bfloat16(), right.bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        y = _Multiply.apply(x.flatten(0, -2), self)
        y = y if self.bias is None else y + self.bias.to(y.dtype)
        return y.unflatten(0, x.shape[:-1])

    @property
    def weight(self) -> Tensor:
        """The float matrix (d_out, d_in), all of it."""
        return self.rows(0, self.out_features)

    def rows(self, begin: int, end: int) -> Tensor:
        """Rows begin ... end of the float matrix."""
        per_row = self.in_features // self.block
        pairs = _pairs(self.lows is not None).to(self.packed.device)
        values = F.embedding(self.packed[begin:end].int(), pairs)
        scales = self._scales(begin * per_row, end * per_row)
        blocks = values.view(end - begin, per_row, self.block) * scales.view(-1, per_row, 1)
        if self.lows is not None:
            blocks += self.lows[begin * per_row : end * per_row].float().view(-1, per_row, 1)
        rows = blocks.flatten(1)
        if self.left is not None and self.right is not None:
            rows.addmm_(self.left[begin:end].float(), self.right.float())
        return rows

    def _scales(self, begin: int, end: int) -> Tensor:
        kept = self.scales[begin:end]
        if self.steps is None or self.middle is None:
            return kept.float()
        group = torch.arange(begin, end, device=kept.device) // GROUP
        return kept.view(torch.float8_e4m3fn).float() * self.steps[group] + self.middle

    def restored(self) -> nn.Linear:
        """A float layer of the same numbers."""
        layer = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.weight)
        bias = None if self.bias is None else nn.Parameter(self.bias.clone())
        layer.register_parameter("bias", bias)
        return layer.train(self.training)


class _Multiply(Function):
    """x W^T. The weight is frozen, so that nothing is kept: the way back unpacks it again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        y = x.new_empty(len(x), layer.out_features)
        for begin in range(0, layer.out_features, N_AT_ONCE):
            end = min(begin + N_AT_ONCE, layer.out_features)
            y[:, begin:end] = x @ layer.rows(begin, end).to(x.dtype).T
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, None]:
        layer = ctx.layer
        if not ctx.needs_input_grad[0]:
            return None, None
        g_x = g.new_zeros(len(g), layer.in_features)
        for begin in range(0, layer.out_features, N_AT_ONCE):
            end = min(begin + N_AT_ONCE, layer.out_features)
            g_x.addmm_(g[:, begin:end], layer.rows(begin, end).to(g.dtype))
        return g_x, None


def attach(
    model: nn.Module,
    *,
    targets: str = BLOCK_LAYERS,
    double: bool = True,
    rounded: Mapping[str, FourBitLinear] | None = None,
) -> list[str]:
    """Put 4 bits in the place of each linear layer whose name matches whole.

    double: scales in 8 bits too. rounded: layers that are in 4 bits already, by their names.
    Returns the names. Raises ConfigError when none matches.
    """
    linear = matching(model, targets)
    names, rounded = list(linear), rounded or {}
    for name in names:
        base = linear.pop(name)
        layer = rounded[name] if name in rounded else FourBitLinear(base, double=double)
        _put(model, name, layer.train(model.training))
    return names


def matching(model: nn.Module, targets: str = BLOCK_LAYERS) -> dict[str, nn.Linear]:
    """Linear layers whose names match whole. Raises ConfigError when none does."""
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    chosen = {name: layer for name, layer in linear.items() if re.fullmatch(targets, name)}
    if not chosen:
        raise ConfigError(
            f"no linear layer's name matches '{targets}'", hint=f"There are: {list(linear)[:12]}."
        )
    return chosen


def restore(model: nn.Module) -> None:
    """Put float layers of the same numbers back."""
    for name, part in list(model.named_modules()):
        if isinstance(part, FourBitLinear):
            _put(model, name, part.restored())


@torch.no_grad()
def digest(tensor: Tensor) -> str:
    """What tells a tensor from another: its shape and about a thousand of its numbers."""
    flat = tensor.detach().flatten()
    sampled = flat[:: max(1, flat.numel() // N_SAMPLED)].float().cpu().numpy().tobytes()
    return hashlib.sha256(f"{tuple(tensor.shape)}".encode() + sampled).hexdigest()


def _nearest(weight: Tensor, scales: Tensor, block: int) -> Tensor:
    """The number of the level that is nearest to each weight."""
    between = (levels()[1:] + levels()[:-1]) / 2
    scaled = weight.reshape(-1, block) / scales[:, None]
    return torch.bucketize(scaled, between.to(weight.device)).to(torch.uint8).view(weight.shape)


def _rounded(scales: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales about their mean as bytes of float8 numbers, a step for each group of them."""
    middle = scales.mean()
    about = F.pad(scales - middle, (0, -len(scales) % GROUP)).view(-1, GROUP)
    steps = about.abs().amax(1).clamp(min=1e-12) / LARGEST_FLOAT8
    rounded = (about / steps[:, None]).to(torch.float8_e4m3fn).flatten()[: len(scales)]
    # As bytes, which every transport between processes knows.
    return rounded.view(torch.uint8).clone(), steps, middle


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
