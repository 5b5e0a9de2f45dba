"""Products of a signed byte a number: rows of inputs, each with a step of its own, and a matrix
with a step for each output.

    y[t, o] = step[t] * scale[o] * sum_i x8[t, i] * values[o, i]

The sum is of whole numbers, so that it is the same in any order: a row's result doesn't depend on
how many others are multiplied beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORTH_IT = 1.0  # times as fast as float32; at less bytes are multiplied as floats


class ByteMatrix(nn.Module):
    """A matrix (d_out, d_in) as int8, a scale an output: a row's largest weight is the 127th."""

    values: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        values, scales = _rounded(weight)
        self.register_buffer("values", values)
        self.register_buffer("scales", scales)
        self._sums: Sums | None = None

    @property
    def sums(self) -> Sums:
        """The product with bytes."""
        if self._sums is None:  # not before it is needed: a file may fill the values
            self._sums = choose_kernel().prepare(self.values)
        return self._sums

    def rows(self, indices: Tensor) -> Tensor:
        """Some rows as float32: (...) -> (..., d_in)."""
        return self.values[indices] * self.scales[indices].unsqueeze(-1)


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    if weight.is_meta:  # arithmetic without numbers would import 800 modules, 70 MB of them
        values = torch.empty(weight.shape, dtype=torch.int8, device="meta")
        return values, torch.empty(len(weight), device="meta")
    scales = weight.abs().amax(1).clamp(min=1e-12) / 127
    return (weight / scales[:, None]).round().to(torch.int8), scales


class Sums(Protocol):
    """int8 (T, d_in) -> whole sums (T, d_out), written into `out` where it is given."""

    dtype: torch.dtype  # of the sums: int32, or float32

    def __call__(self, x8: Tensor, out: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Kernel:
    """A way to multiply, its name, and why it was chosen."""

    name: str
    prepare: Callable[[Tensor], Sums]  # int8 (d_out, d_in) -> its product
    reason: str


class Reference:
    """The definition: what a faster kernel must equal."""

    dtype = torch.int32

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __call__(self, x8: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(x8.int(), self._values.int().T, out=out)


class AsFloats:
    """In float32, where nothing multiplies bytes: four times the memory, rounded above 2^24."""

    dtype = torch.float32

    def __init__(self, values: Tensor) -> None:
        self._turned = values.float().T

    def __call__(self, x8: Tensor, out: Tensor | None = None) -> Tensor:
        return torch.mm(x8.float(), self._turned, out=out)


class AsBytes:
    """oneDNN's product on the processor's 8-bit instructions; needs no copy of the weights."""

    dtype = torch.int32

    def __init__(self, values: Tensor) -> None:
        self._turned = values.T

    def __call__(self, x8: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            return torch._int_mm(x8, self._turned)
        return torch._int_mm(x8, self._turned, out=out)


@lru_cache(maxsize=1)
def choose_kernel() -> Kernel:
    """Bytes where this torch and this processor make them pay, else floats."""
    if not hasattr(torch, "_int_mm"):
        return Kernel("floats", AsFloats, "this torch doesn't multiply bytes")
    speedup = _speedup()
    measured = f"products of bytes measured at {speedup:.1f}x the speed of float32"
    if speedup < WORTH_IT:
        return Kernel("floats", AsFloats, measured)
    return Kernel("bytes", AsBytes, measured)


@torch.inference_mode()
def _speedup() -> float:
    """The geometric mean over one row and many."""
    weight = torch.ones(1024, 576)
    values = weight.to(torch.int8)
    product, ratio = AsBytes(values), 1.0
    for n in (1, 128):
        x = torch.ones(n, 576)
        x8 = x.to(torch.int8)
        product(x8), F.linear(x, weight)  # the first calls build kernels
        floats = min(_seconds(lambda x=x: F.linear(x, weight)) for _ in range(12))  # type: ignore[misc]
        ratio *= floats / min(_seconds(lambda x8=x8: product(x8)) for _ in range(12))  # type: ignore[misc]
    return ratio**0.5


def _seconds(run: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
