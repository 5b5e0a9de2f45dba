"""Matrices cut into tiles of 16 outputs by 32 inputs, as the processor multiplies bytes.

One instruction multiplies 64 unsigned bytes with 64 signed ones and adds each four products to one
of 16 sums (Intel's VNNI: VPDPBUSD). So 16 outputs lie side by side, four inputs of each:

    4 bits    256 bytes a tile: (4, 16, 4), inputs 8c ... 8c+3 in the low halves of the bytes of
              row c, 8c+4 ... 8c+7 in the high ones; a scale and a middle for each output
    8 bits    512 bytes a tile: (8, 16, 4), each byte 128 above its value

Inputs have bytes too, with a step for each 32 of them: a feature that is far larger than the rest
spoils its 32, not all (GGML's Q8_1 does the same). A tile's sum is of whole numbers; the tiles of
an output are added in their order: a row's result depends on nothing beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OUTPUTS, INPUTS = 16, 32  # of a tile


@dataclass(frozen=True)
class GroupedBytes:
    """Rows of inputs as bytes. x8: (T, d_in) int8; steps: (T, G), byte * step is the number;
    sums: (T, G) int32, of each group's bytes."""

    x8: Tensor
    steps: Tensor
    sums: Tensor


def to_grouped_bytes(x: Tensor) -> GroupedBytes:
    """Each group's largest number becomes 127 or -127. x: (T, d_in) float32."""
    grouped = x.unflatten(1, (-1, INPUTS))
    largest = grouped.abs().amax(2, keepdim=True).clamp(min=1e-30)
    x8 = (grouped * (127 / largest)).round_().to(torch.int8)
    return GroupedBytes(x8.flatten(1), (largest / 127).squeeze(2), x8.sum(2, dtype=torch.int32))


def tiles_of_halves(values: Tensor) -> Tensor:
    """Values 0 ... 15 (d_out, d_in) -> (n_tiles, G, 256) uint8; outputs are filled up with 0."""
    quads = _quads(values)  # (n_tiles, G, 8, 16, 4)
    low, high = quads.unflatten(2, (4, 2)).unbind(3)
    return (low | high << 4).flatten(2).contiguous()


def halves_of_tiles(tiles: Tensor, d_out: int) -> Tensor:
    """The way back: (d_out, d_in) uint8."""
    packed = tiles.unflatten(2, (4, OUTPUTS, 4))
    return _rows(torch.stack([packed & 15, packed >> 4], 3).flatten(2, 3), d_out)


def tiles_of_bytes(values: Tensor) -> Tensor:
    """Values -127 ... 127 (d_out, d_in) -> (n_tiles, G, 512) uint8."""
    return (_quads(values.view(torch.uint8)) ^ 128).flatten(2)  # its highest bit: 128 more


def bytes_of_tiles(tiles: Tensor, d_out: int) -> Tensor:
    """The way back: (d_out, d_in) int8."""
    return (_rows(tiles.unflatten(2, (8, OUTPUTS, 4)), d_out) ^ 128).view(torch.int8)


def rows_of_tiles(tiles: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Some rows of a matrix in bytes: (N,) -> (N, d_in) int8.

    By numpy: torch would wake a thread of its own, which then waits, turning, on the core where the
    next product's thread should run.
    """
    quads = tiles.reshape(*tiles.shape[:2], 8, OUTPUTS, 4)
    values = quads[indices // OUTPUTS, :, :, indices % OUTPUTS]  # (N, G, 8, 4)
    return (values.reshape(len(indices), -1) ^ 128).view(np.int8)


def beside(scales: Tensor) -> Tensor:
    """A number for each output and group, (d_out, G, ...) -> (n_tiles, G, ..., 16)."""
    filled = F.pad(scales.movedim(0, -1), (0, -len(scales) % OUTPUTS))
    return filled.unflatten(-1, (-1, OUTPUTS)).movedim(-2, 0).contiguous()


def from_beside(scales: Tensor, d_out: int) -> Tensor:
    """The way back."""
    return scales.movedim(0, -2).flatten(-2)[..., :d_out].movedim(-1, 0)


def _quads(values: Tensor) -> Tensor:
    missing = -len(values) % OUTPUTS
    filled = F.pad(values, (0, 0, 0, missing)) if missing else values
    tiles = filled.unflatten(1, (-1, 8, 4)).unflatten(0, (-1, OUTPUTS))  # (n, 16, G, 8, 4)
    return tiles.permute(0, 2, 3, 1, 4)


def _rows(quads: Tensor, d_out: int) -> Tensor:
    return quads.permute(0, 3, 1, 2, 4).flatten(2).flatten(0, 1)[:d_out]
