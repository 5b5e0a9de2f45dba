"""4-bit weights, a scale and a least value for each group of inputs: torch's product of a few rows,
and a readable one.

    w = least + scale * b,   b = 0 ... 15           (GGML's Q4_1)

A weight takes .63 bytes at groups of 32. Where the processor multiplies tiles of bytes (`tiled`),
inputs are bytes too; elsewhere torch's packed product takes a few rows, and for many the matrix is
unpacked, part by part, and multiplied as floats.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.quantization import tiled

N_FEW = 16  # rows up to which the packed product is the faster one
N_AT_ONCE = 1024  # outputs unpacked at a time
_ALLOWED = (32, 64, 128, 256)


class GroupedLinear(nn.Module):
    """A linear layer in 4 bits: (..., d_in) -> (..., d_out).

    packed: (d_out, d_in / 2) uint8, the first half of a row's inputs in the low bits. scales:
    (d_in / group, d_out, 2) bfloat16, scale and the value that b = 8 stands for.
    Raises ConfigError for a group that torch doesn't know or that doesn't divide d_in.
    """

    packed: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None, group: int) -> None:
        super().__init__()
        d_out, d_in = weight.shape
        if group not in _ALLOWED or d_in % group:
            fitting = [g for g in _ALLOWED if d_in % g == 0]
            raise ConfigError(
                f"groups of {group} don't fit a layer of {d_in} inputs",
                hint=f"Take one of {fitting}." if fitting else "Take 8 bits.",
            )
        self.group, self.shape = group, (d_out, d_in)
        packed, scales = _packed(weight, group)
        self.register_buffer("packed", packed)
        self.register_buffer("scales", scales)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())
        self._ready: Tensor | None = None  # as torch's product wants it
        self._tiles: tiled.HalfTiles | None = None

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if x.device.type == "cpu" and tiled.fits(self.shape[1], self.group):
            y = self.tiles.product(rows)
        elif len(rows) <= N_FEW and is_packed_faster():
            y = self._few(rows)
        else:
            y = self._many(rows)
        y = y.to(x.dtype) if self.bias is None else y.to(x.dtype).add_(self.bias)
        return y.reshape(*x.shape[:-1], -1)

    @property
    def tiles(self) -> tiled.HalfTiles:
        """The matrix in tiles, in which it then lies alone. Only where `tiled.fits`."""
        if self._tiles is None:
            self._tiles = tiled.HalfTiles(self._values(), self.scales)
            self.packed, self.scales = self.packed[:0].clone(), self.scales[:0].clone()
        return self._tiles

    def _few(self, rows: Tensor) -> Tensor:
        if self._ready is None:
            self._ready = _as_torch_packs(self._values())
            if self.shape[0] % 64 == 0 and outputs_together() is not None:
                self.packed = self.packed[:0].clone()  # once is enough: it can be read back
        product = torch.ops.aten._weight_int4pack_mm_for_cpu
        return product(rows.bfloat16(), self._ready, self.group, self.scales)

    def _many(self, rows: Tensor) -> Tensor:
        """The definition."""
        y = rows.new_empty(len(rows), self.shape[0], dtype=torch.float32)
        for begin in range(0, self.shape[0], N_AT_ONCE):
            part = slice(begin, begin + N_AT_ONCE)
            torch.mm(rows.float(), self.weight(part).T, out=y[:, part])
        return y

    def weight(self, part: slice = slice(None)) -> Tensor:
        """The float matrix (d_out, d_in), or some of its rows."""
        scales, middles = self._scales()[:, part].float().permute(2, 1, 0).unsqueeze(-1)
        values = self._values(part).unflatten(1, (-1, self.group))
        return torch.addcmul(middles, values.float() - 8, scales).flatten(1)

    def _values(self, part: slice = slice(None)) -> Tensor:
        """0 ... 15 (d_out, d_in), or some rows of it."""
        if self._tiles is not None:
            return self._tiles.values()[part]
        if len(self.packed):
            packed = self.packed[part]
            return torch.cat([packed & 15, packed >> 4], 1)
        assert self._ready is not None
        return _read_back(self._ready, self.shape, outputs_together() or 64)[part]

    def _scales(self) -> Tensor:
        return self.scales if self._tiles is None else self._tiles.scales_and_middles()

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if not len(self.packed):
            destination[f"{prefix}packed"] = _two_in_a_byte(self._values())
            destination[f"{prefix}scales"] = self._scales()

    def _load_from_state_dict(self, *given: Any) -> None:
        if not len(self.packed):  # back to the form of the file, which is then filled
            self.packed, self.scales = _two_in_a_byte(self._values()), self._scales()
            self._tiles = self._ready = None
        super()._load_from_state_dict(*given)


def _packed(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    if weight.is_meta:  # arithmetic without numbers would import 800 modules, 70 MB of them
        d_out, d_in = weight.shape
        packed = torch.empty(d_out, d_in // 2, dtype=torch.uint8, device="meta")
        shape = (d_in // group, d_out, 2)
        return packed, torch.empty(shape, dtype=torch.bfloat16, device="meta")
    values, scales = _rounded(weight, group)
    return _two_in_a_byte(values), scales


def _two_in_a_byte(values: Tensor) -> Tensor:
    low, high = values.chunk(2, 1)
    return low | high << 4


def _rounded(weight: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """To the nearest of 16 values between a group's least and largest."""
    grouped = weight.unflatten(1, (-1, group))
    least, largest = grouped.aminmax(dim=2, keepdim=True)
    scale = ((largest - least) / 15).clamp(min=1e-12).bfloat16().float()
    middle = (least + 8 * scale).bfloat16().float()  # the rounding below makes up for this one
    values = ((grouped - middle) / scale + 8).round_().clamp_(0, 15).to(torch.uint8)
    scales = torch.cat([scale, middle], 2).transpose(0, 1).contiguous().bfloat16()
    return values.flatten(1), scales


def _as_torch_packs(values: Tensor) -> Tensor:
    return torch.ops.aten._convert_weight_to_int4pack_for_cpu(values.int(), 1)


def _read_back(ready: Tensor, shape: tuple[int, int], together: int) -> Tensor:
    """What `_as_torch_packs` was given. The format is the processor's: blocks of outputs, in each
    all inputs, for each input half of the outputs in the low bits and half in the high ones."""
    d_out, d_in = shape
    blocks = ready.view(torch.uint8).view(d_out // together, d_in, together // 2)
    return torch.cat([blocks & 15, blocks >> 4], 2).transpose(1, 2).reshape(d_out, d_in)


@lru_cache(maxsize=1)
def outputs_together() -> int | None:
    """Outputs in a block of torch's format on this processor; None where it is another format."""
    shape = (128, 64)
    values = torch.randint(0, 16, shape, generator=torch.Generator().manual_seed(0)).byte()
    ready = _as_torch_packs(values)
    if ready.nbytes != values.numel() // 2:
        return None
    found = (n for n in (64, 32) if torch.equal(_read_back(ready, shape, n), values))
    return next(found, None)


@lru_cache(maxsize=1)
def is_packed_faster() -> bool:
    """Whether torch has the packed product for this processor, and it beats float32 at one row."""
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return False
    with torch.inference_mode():
        layer = GroupedLinear(torch.randn(2048, 1024), None, 32)
        x, weight = torch.randn(1, 1024), torch.randn(2048, 1024)
        layer._few(x), F.linear(x, weight)  # the first calls pack and build kernels
        packed = min(_seconds(lambda: layer._few(x)) for _ in range(4))
        return packed < min(_seconds(lambda: F.linear(x, weight)) for _ in range(4))


def _seconds(run: object) -> float:
    start = time.perf_counter()
    run()  # type: ignore[operator]
    return time.perf_counter() - start
