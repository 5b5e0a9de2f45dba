"""Products of unsigned 8-bit inputs with signed 8-bit weights: a readable one and oneDNN's.

    y = gelu?(scale * (weight @ (x - zero)) + bias)      and, if asked, y rounded to 8 bits again

oneDNN's runs on the processor's VNNI instructions (four 8-bit products an addition), three to four
times as fast as float32. It is used where torch has it, where it adds right (processors with AVX2
and no VNNI add two products in 16 bits, which large ones overflow, and say nothing), and where a
timing shows that it pays.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

WORTH_IT = 1.25  # faster than float32 by this factor, or it is not worth its rounding


@dataclass(frozen=True)
class Grid:
    """Which real number an unsigned byte b stands for: (b - zero) * step."""

    step: float
    zero: int


@dataclass(frozen=True)
class IntegerWeight:
    """A matrix (d_out, d_in) as int8 with one scale an output row, and the layer's bias."""

    values: Tensor
    scales: Tensor
    bias: Tensor

    @classmethod
    def round(cls, weight: Tensor, bias: Tensor) -> IntegerWeight:
        """To the nearest of 255 values, the row's largest weight being the 127th."""
        scales = weight.abs().amax(1).clamp(min=1e-12) / 127
        return cls((weight / scales[:, None]).round().to(torch.int8), scales, bias)


Product = Callable[[Tensor], Tensor]
"""uint8 (T, d_in) -> float32 (T, d_out), or uint8 where it was prepared with an output grid."""

Prepare = Callable[[IntegerWeight, Grid, bool, Grid | None], Product]
"""(weight, the input's grid, GELU after it?, the output's grid or None for float32) -> product."""


@dataclass(frozen=True)
class Kernel:
    """A way to multiply, its name, and why it was chosen."""

    name: str
    prepare: Prepare
    reason: str


def reference(weight: IntegerWeight, grid: Grid, gelu: bool, out: Grid | None) -> Product:
    """The definition, in float32: what a faster kernel must equal, and the way where none is."""
    matrix = weight.values.float() * weight.scales[:, None]

    def product(x: Tensor) -> Tensor:
        y = F.linear((x.float() - grid.zero) * grid.step, matrix, weight.bias)
        y = F.gelu(y) if gelu else y
        return y if out is None else (y / out.step + out.zero).round().clamp(0, 255).byte()

    return product


def onednn(weight: IntegerWeight, grid: Grid, gelu: bool, out: Grid | None) -> Product:
    """The same in one call: product, bias, GELU and rounding while the sums are in registers."""
    packed = torch.ops.onednn.qlinear_prepack(weight.values, None)
    zeros = torch.zeros(len(weight.scales), dtype=torch.int64)
    step, zero = (1.0, 0) if out is None else (out.step, out.zero)
    dtype = torch.float32 if out is None else torch.uint8
    after = "gelu" if gelu else "none"

    def product(x: Tensor) -> Tensor:
        return torch.ops.onednn.qlinear_pointwise(
            x, grid.step, grid.zero, packed, weight.scales, zeros, weight.bias,
            step, zero, dtype, after, [], "none",
        )  # fmt: skip

    return product


@lru_cache(maxsize=1)
def choose_kernel() -> Kernel:
    """oneDNN's product where this torch and this processor make it pay, else the reference."""
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return Kernel("reference", reference, "this torch has no 8-bit product of oneDNN")
    if not adds_right():
        reason = "oneDNN's 8-bit products overflow on this processor, which has no VNNI"
        return Kernel("reference", reference, reason)
    speedup = _speedup()
    measured = f"8-bit products measured at {speedup:.1f}x the speed of float32"
    if speedup < WORTH_IT:
        return Kernel("reference", reference, f"{measured}: float32 would be as fast")
    return Kernel("onednn", onednn, measured)


@torch.inference_mode()
def adds_right() -> bool:
    """Whether oneDNN's sums of the largest products are the reference's, on this processor."""
    weight = IntegerWeight.round(torch.tensor([[1.0], [-1.0]]).expand(2, 64), torch.zeros(2))
    x = torch.full((4, 64), 255, dtype=torch.uint8)
    fast, exact = (p(weight, Grid(1.0, 0), False, None)(x) for p in (onednn, reference))
    return torch.allclose(fast, exact)


@torch.inference_mode()
def _speedup() -> float:
    n_tokens, d_model, d_ff = 1024, 384, 1536
    weight, bias = torch.ones(d_ff, d_model), torch.zeros(d_ff)
    x = torch.ones(n_tokens, d_model)
    product = onednn(IntegerWeight.round(weight, bias), Grid(1.0, 128), False, None)
    x8 = x.byte()
    product(x8), F.linear(x, weight, bias)  # the first calls build kernels
    seconds = {}
    for name, run in (
        ("float", lambda: F.linear(x, weight, bias)),
        ("int8", lambda: product(x8)),
    ):
        seconds[name] = min(_seconds(run) for _ in range(4))
    return seconds["float"] / seconds["int8"]


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
