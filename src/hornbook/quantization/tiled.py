"""Matrices in tiles, with their products: what the layers of a quantised model hold.

Made of what a file holds, and read back for one: a matrix lies in memory once.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

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
        self.scales = _shorts(t.beside(scales.transpose(0, 1)))  # (n_tiles, G, 2, 16)

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) float32 -> (T, d_out)."""
        from hornbook.quantization import tiles_compiled as compiled

        together = several() or len(x) > 1
        multiply = compiled.product_of_4_together if together else compiled.product_of_4
        return _multiplied(multiply, self.tiles, self.scales, x)[:, : self.shape[0]]

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
        self._beside = t.beside(scales).flatten().numpy()

    def product(self, x: Tensor) -> Tensor:
        """(T, d_in) float32 -> (T, d_out)."""
        from hornbook.quantization import tiles_compiled as compiled

        together = several() or len(x) > 1
        multiply = compiled.product_of_8_together if together else compiled.product_of_8
        return _multiplied(multiply, self.tiles, self._beside, x)[:, : self.shape[0]]

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


def _multiplied(multiply: Any, tiles: Any, scales: Any, x: Tensor) -> Tensor:
    from hornbook.quantization import tiles_compiled as compiled

    n_groups = x.shape[1] // t.INPUTS
    x8 = torch.empty(x.shape, dtype=torch.int8).numpy()
    steps = torch.empty(len(x), n_groups).numpy()
    sums = torch.empty(len(x), n_groups, dtype=torch.int32).numpy()
    out = torch.empty(len(x), t.OUTPUTS * len(tiles))
    compiled.to_grouped_bytes(x.float().contiguous().numpy(), x8, steps, sums)
    multiply(tiles, scales, x8, steps, sums, out.numpy())
    return out


def _shorts(scales: Tensor) -> Any:
    return scales.view(torch.int16).numpy().view("uint16")
