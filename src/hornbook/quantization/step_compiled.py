"""A Llama's step in 4 bits, all blocks in one compiled call: a few rows, each a text's next token.

Between two products lie some microseconds of work; a call from Python takes as long. What a row
becomes depends on nothing beside it.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import float32, njit, prange

from hornbook.quantization import between_compiled as between
from hornbook.quantization import tiles_compiled as tiles
from hornbook.quantization.between_compiled import _exp, _mix_of_group
from hornbook.quantization.tiles_compiled import (
    product_of_4,
    product_of_4_together,
    row_to_grouped_bytes,
    to_grouped_bytes,
)

_one: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy"}
_serial = njit(**_one)
_parallel = njit(**_one, parallel=True)
Array = Any


def _sum_of_sources() -> int:
    """numba asks this file alone whether what it kept of `step` is still right: what the others
    say becomes a part of the key."""
    return zlib.crc32(b"".join(Path(str(m.__file__)).read_bytes() for m in (between, tiles)))


@_serial
def _norm(x, gain, epsilon, z, x8, steps, sums):
    """RMSNorm of each row, as grouped bytes."""
    for t in range(x.shape[0]):
        squares = float32(0)
        for j in range(x.shape[1]):
            squares += x[t, j] * x[t, j]
        factor = float32(1) / np.sqrt(squares / float32(x.shape[1]) + float32(epsilon))
        for j in range(x.shape[1]):
            z[j] = x[t, j] * factor * gain[j]
        row_to_grouped_bytes(z, x8[t], steps[t], sums[t])


@_serial
def _turn_and_keep(heads, cos, sin, keys, values, slots, positions):
    """Queries and keys to their position's angle; keys and values into the cache."""
    n_kv_heads, d_head = keys.shape[1], keys.shape[3]
    half = d_head // 2
    for t in range(heads.shape[0]):
        n_heads = heads.shape[1] // d_head - 2 * n_kv_heads
        for i in range(n_heads + n_kv_heads):
            head = heads[t, i * d_head : (i + 1) * d_head]
            for j in range(half):
                a, b = head[j], head[half + j]
                head[j] = a * cos[t, j] - b * sin[t, j]
                head[half + j] = b * cos[t, j] + a * sin[t, j]
        for g in range(n_kv_heads):
            first = (n_heads + g) * d_head
            for j in range(d_head):
                keys[slots[t], g, positions[t], j] = heads[t, first + j]
                values[slots[t], g, positions[t], j] = heads[t, first + n_kv_heads * d_head + j]


@_serial
def _mix(heads, keys, values, slots, positions, out):
    """What each row's queries find."""
    for t in range(heads.shape[0]):
        s = slots[t]
        for g in range(keys.shape[1]):
            _mix_of_group(heads[t], keys[s], values[s], positions[t] + 1, g, out[t])


@_parallel
def _mix_together(heads, keys, values, slots, positions, out):
    n_kv_heads = keys.shape[1]
    for i in prange(heads.shape[0] * n_kv_heads):
        t, g = i // n_kv_heads, i % n_kv_heads
        s = slots[t]
        _mix_of_group(heads[t], keys[s], values[s], positions[t] + 1, g, out[t])


@_serial
def _gate(wide, z, x8, steps, sums):
    """SwiGLU of each row, gates first, as grouped bytes."""
    d_ff = x8.shape[1]
    for t in range(wide.shape[0]):
        for j in range(d_ff):
            opened = wide[t, j]
            z[j] = opened / (float32(1) + _exp(-opened)) * wide[t, d_ff + j]
        row_to_grouped_bytes(z, x8[t], steps[t], sums[t])


@_serial
def _add(x, y):
    for t in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[t, j] += y[t, j]


@_serial
def _product(matrix, i, x8, steps, sums, out, together):
    if together:
        product_of_4_together(matrix[0][i], matrix[1][i], x8, steps, sums, out)
    else:
        product_of_4(matrix[0][i], matrix[1][i], x8, steps, sums, out)


def _made(key: int) -> Any:
    """`step` does all blocks. x: (T, E), in place; norms: (L, 2, E), their gains; matrices: qkv,
    out, gate and up, down, each tiles (L, n_tiles, G, 256) and scales (L, n_tiles, G, 2, 16); cos,
    sin: (T, D/2); keys, values: of each layer (n_slots, G, room, D); slots, positions: (T,).
    together: on several threads; looking_together: attention too. (Flags, as numba keeps no
    function that was handed another for the next run of the program.)
    """

    @njit(**_one, cache=True)
    def step(
        x: Array,
        norms: Array,
        matrices: tuple[tuple[Array, Array], ...],
        cos: Array,
        sin: Array,
        keys: tuple[Array, ...],
        values: tuple[Array, ...],
        slots: Array,
        positions: Array,
        epsilon: float,
        together: bool,
        looking_together: bool,
    ) -> None:
        if key < 0:
            return
        qkv, out, gate_up, down = matrices
        n_rows, d_model = x.shape
        d_ff = 32 * down[0].shape[2]
        z, wide_z = np.empty(d_model, np.float32), np.empty(d_ff, np.float32)
        x8, wide8 = np.empty((n_rows, d_model), np.int8), np.empty((n_rows, d_ff), np.int8)
        steps = np.empty((n_rows, d_model // 32), np.float32)
        sums = np.empty((n_rows, d_model // 32), np.int32)
        wide_steps = np.empty((n_rows, d_ff // 32), np.float32)
        wide_sums = np.empty((n_rows, d_ff // 32), np.int32)
        heads = np.empty((n_rows, 16 * qkv[0].shape[1]), np.float32)
        y = np.empty((n_rows, 16 * out[0].shape[1]), np.float32)
        wide = np.empty((n_rows, 16 * gate_up[0].shape[1]), np.float32)
        mixed = np.empty((n_rows, d_model), np.float32)
        for i in range(norms.shape[0]):
            _norm(x, norms[i, 0], epsilon, z, x8, steps, sums)
            _product(qkv, i, x8, steps, sums, heads, together)
            _turn_and_keep(heads, cos, sin, keys[i], values[i], slots, positions)
            if looking_together:
                _mix_together(heads, keys[i], values[i], slots, positions, mixed)
            else:
                _mix(heads, keys[i], values[i], slots, positions, mixed)
            to_grouped_bytes(mixed, x8, steps, sums)
            _product(out, i, x8, steps, sums, y, together)
            _add(x, y)
            _norm(x, norms[i, 1], epsilon, z, x8, steps, sums)
            _product(gate_up, i, x8, steps, sums, wide, together)
            _gate(wide, wide_z, wide8, wide_steps, wide_sums)
            _product(down, i, wide8, wide_steps, wide_sums, y, together)
            _add(x, y)

    return step


step = _made(_sum_of_sources())
