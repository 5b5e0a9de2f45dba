"""Matrices in tiles, with their products: what the layers of a quantised model hold.

Made of what a file holds, and read back for one: a matrix lies in memory once.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornbook.quantization import tiles as t


@lru_cache(maxsize=1)
def is_compiled() -> bool:
    """Whether this machine multiplies tiles: numba is installed, the processor has VNNI."""
    if find_spec("numba") is None:
        return False
    from hornbook.quantization import tiles_compiled

    return tiles_compiled.is_right()


def fits(d_in: int, group: int = t.INPUTS) -> bool:
    """Whether a matrix with so many inputs, a scale for each `group` of them, can be tiled here."""
    return group == t.INPUTS and d_in % t.INPUTS == 0 and is_compiled()


class HalfTiles:
    """4 bits. values: (d_out, d_in), 0 ... 15; scales: (G, d_out, 2) bfloat16, scale and middle."""

    def __init__(self, values: Tensor, scales: Tensor) -> None:
        self.shape = values.shape
        self.tiles = t.tiles_of_halves(values).numpy()
        beside = t.beside(scales.to(torch.bfloat16).transpose(0, 1))  # (n_tiles, G, 2, 16)
        self.scales = beside.view(torch.int16).numpy().view("uint16")

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) float32 -> (T, d_out)."""
        from hornbook.quantization import tiles_compiled as compiled

        multiply = compiled.product_of_4_together if several() else compiled.product_of_4
        return _multiplied(multiply, self.tiles, self.scales, x, self.shape)

    def values(self) -> Tensor:
        return t.halves_of_tiles(torch.from_numpy(self.tiles), self.shape[0])

    def scales_and_middles(self) -> Tensor:
        """As they were given."""
        scales = torch.from_numpy(self.scales.view("int16")).view(torch.bfloat16)
        return t.from_beside(scales, self.shape[0]).transpose(0, 1).contiguous()


class ByteTiles:
    """8 bits. values: (d_out, d_in) int8; scales: (d_out,) float32."""

    def __init__(self, values: Tensor, scales: Tensor) -> None:
        self.shape = values.shape
        self.tiles = t.tiles_of_bytes(values).numpy()
        self._beside = t.beside(scales.float()).flatten().numpy()

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) float32 -> (T, d_out)."""
        from hornbook.quantization import tiles_compiled as compiled

        multiply = compiled.product_of_8_together if several() else compiled.product_of_8
        return _multiplied(multiply, self.tiles, self._beside, x, self.shape)

    def rows(self, indices: Tensor) -> Tensor:
        """Some rows as float32: (...) -> (..., d_in)."""
        flat = indices.flatten().numpy()
        values = t.rows_of_tiles(self.tiles, flat) * self._beside[flat][:, None]
        return torch.from_numpy(values).unflatten(0, indices.shape)

    def values(self) -> Tensor:
        return t.bytes_of_tiles(torch.from_numpy(self.tiles), self.shape[0])

    def scales(self) -> Tensor:
        return torch.from_numpy(self._beside)[: self.shape[0]].clone()


def several() -> bool:
    """Whether several threads may be used, and are wanted."""
    from hornbook.quantization.between_compiled import is_parallel

    return torch.get_num_threads() > 1 and is_parallel()


def _multiplied(
    multiply: Any, tiles: Any, scales: Any, x: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """What is compiled gets addresses, and looks at no size: they are looked at here."""
    from hornbook.quantization import tiles_compiled as compiled

    d_out, d_in = shape
    if x.ndim != 2 or x.shape[1] != d_in:
        raise ValueError(f"inputs {tuple(x.shape)} for a matrix of {d_in} inputs")
    n_groups = d_in // t.INPUTS
    x8 = np.empty((len(x), d_in), np.int8)
    steps = np.empty((len(x), n_groups), np.float32)
    sums = np.empty((len(x), n_groups), np.int32)
    out = np.empty((len(x), t.OUTPUTS * len(tiles)), np.float32)
    compiled.to_grouped_bytes(x.detach().float().contiguous().numpy(), x8, steps, sums)
    multiply(tiles, scales, x8, steps, sums, out)
    return torch.from_numpy(out)[:, :d_out]
