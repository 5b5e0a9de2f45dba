"""`between` for a few rows, compiled by numba: one call where torch makes a dozen.

A step of a small model for one token is 120 products of some microseconds each. A torch call costs
one microsecond before it computes anything, and between two products there are ten.

Arrays are numpy's view of the tensors; results are written into what is passed. A row's results
don't depend on the other rows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import float32, int32, njit, prange, threading_layer

_one: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_serial = njit(**_one)
_parallel = njit(**_one, parallel=True)
Array = Any


@_serial
def _exp(x):
    """e^x to 3e-7, by a polynomial (Cephes' expf), so that loops over it become vectors."""
    x = min(max(x, float32(-87)), float32(88))
    k = np.floor(x * float32(1.4426950408889634) + float32(0.5))
    r = (x - k * float32(0.693359375)) + k * float32(2.12194440e-4)
    p = float32(1.9875691500e-4)
    p = p * r + float32(1.3981999507e-3)
    p = p * r + float32(8.3334519073e-3)
    p = p * r + float32(4.1665795894e-2)
    p = p * r + float32(1.6666665459e-1)
    p = p * r + float32(5.0000001201e-1)
    power = np.int32((int32(k) + int32(127)) << int32(23)).view(np.float32)  # 2^k by its bits
    return (p * r * r + r + float32(1)) * power


@_serial
def _to_bytes(z, x8):
    largest = float32(1e-30)
    for j in range(z.shape[0]):
        largest = max(largest, abs(z[j]))
    factor = float32(127) / largest
    for j in range(z.shape[0]):
        x8[j] = np.int8(np.rint(z[j] * factor))
    return largest / float32(127)


@_serial
def turned(x: Array, turn: Array, out: Array) -> None:
    """out = x @ turn, a row's sums in one order whatever is beside it."""
    out[:] = float32(0)
    for i in range(turn.shape[0]):
        for t in range(x.shape[0]):
            factor = x[t, i]
            for j in range(turn.shape[1]):
                out[t, j] += factor * turn[i, j]


@_serial
def norm(x: Array, epsilon: float, x8: Array, steps: Array) -> None:
    """`between.norm`; writes x8 and steps."""
    for t in range(x.shape[0]):
        row, squares = x[t], float32(0)
        for j in range(row.shape[0]):
            squares += row[j] * row[j]
        mean = squares / float32(row.shape[0])
        steps[t] = _to_bytes(row, x8[t]) / np.sqrt(mean + float32(epsilon))


@_serial
def add_and_norm(
    sums: Array, scales: Array, x: Array, epsilon: float, x8: Array, steps: Array
) -> None:
    """`between.add_and_norm`; reads steps, writes x, x8 and steps."""
    for t in range(x.shape[0]):
        row, step = x[t], steps[t]
        for j in range(row.shape[0]):
            row[j] += float32(sums[t, j]) * scales[j] * step
    norm(x, epsilon, x8, steps)


@_serial
def _heads(sums, scales, step, cos, sin, n_turned, heads):
    """One row's queries, keys and values; the first n_turned of them at their position's angle."""
    half = cos.shape[0]
    d_head = 2 * half
    for j in range(heads.shape[0]):
        heads[j] = float32(sums[j]) * scales[j] * step
    for i in range(n_turned):
        head = heads[i * d_head : (i + 1) * d_head]
        for j in range(half):
            a, b = head[j], head[half + j]
            head[j] = a * cos[j] - b * sin[j]
            head[half + j] = b * cos[j] + a * sin[j]


@_serial
def _look(q, keys, values, n, shares, out):
    """One query (D,) at n keys (room, D): softmax(q K' / sqrt(D)) V."""
    d_head = q.shape[0]
    top = float32(-3e38)
    for s in range(n):
        product = float32(0)
        for j in range(d_head):
            product += q[j] * keys[s, j]
        shares[s] = product
        top = max(top, product)
    scale, total = float32(1) / np.sqrt(float32(d_head)), float32(0)
    for s in range(n):
        share = _exp((shares[s] - top) * scale)
        shares[s] = share
        total += share
    for j in range(d_head):
        out[j] = float32(0)
    s = 0
    while s + 4 <= n:  # four at a time: `out` is loaded and stored a quarter as often
        a, b, c, d = shares[s], shares[s + 1], shares[s + 2], shares[s + 3]
        for j in range(d_head):
            out[j] += (
                a * values[s, j]
                + b * values[s + 1, j]
                + c * values[s + 2, j]
                + d * values[s + 3, j]
            )
        s += 4
    while s < n:
        for j in range(d_head):
            out[j] += shares[s] * values[s, j]
        s += 1
    for j in range(d_head):
        out[j] /= total


@_serial
def _keep(sums, scales, steps, cos, sin, keys, values, slots, positions, heads):
    """Every row's heads, and its key and value into the cache, before anyone looks."""
    n_kv_heads, d_head = keys.shape[1], keys.shape[3]
    n_heads = heads.shape[1] // d_head - 2 * n_kv_heads
    for t in range(sums.shape[0]):
        _heads(sums[t], scales, steps[t], cos[t], sin[t], n_heads + n_kv_heads, heads[t])
        for g in range(n_kv_heads):
            first = (n_heads + g) * d_head
            for j in range(d_head):
                keys[slots[t], g, positions[t], j] = heads[t, first + j]
                values[slots[t], g, positions[t], j] = heads[t, first + n_kv_heads * d_head + j]


@_serial
def _mix_of_group(heads, keys, values, n, g, out):
    """What the queries that share key g find: they follow each other, so that it stays near."""
    n_kv_heads, d_head = keys.shape[0], keys.shape[2]
    n_shared = (heads.shape[0] // d_head - 2 * n_kv_heads) // n_kv_heads
    shares = np.empty(n, np.float32)
    for h in range(g * n_shared, (g + 1) * n_shared):
        span = slice(h * d_head, (h + 1) * d_head)
        _look(heads[span], keys[g], values[g], n, shares, out[span])


@_serial
def attend(
    sums: Array,
    scales: Array,
    cos: Array,
    sin: Array,
    keys: Array,
    values: Array,
    slots: Array,
    positions: Array,
    x8: Array,
    steps: Array,
) -> None:
    """`between.attend` with the cache of `nn.slots`: keys and values (n_slots, G, room, D)."""
    heads, out = np.empty(sums.shape, np.float32), np.empty(x8.shape, np.float32)
    _keep(sums, scales, steps, cos, sin, keys, values, slots, positions, heads)
    for t in range(sums.shape[0]):
        s = slots[t]
        for g in range(keys.shape[1]):
            _mix_of_group(heads[t], keys[s], values[s], positions[t] + 1, g, out[t])
        steps[t] = _to_bytes(out[t], x8[t])


@_parallel
def attend_together(
    sums: Array,
    scales: Array,
    cos: Array,
    sin: Array,
    keys: Array,
    values: Array,
    slots: Array,
    positions: Array,
    x8: Array,
    steps: Array,
) -> None:
    """`attend` on several threads."""
    n_kv_heads = keys.shape[1]
    heads, out = np.empty(sums.shape, np.float32), np.empty(x8.shape, np.float32)
    _keep(sums, scales, steps, cos, sin, keys, values, slots, positions, heads)
    for i in prange(sums.shape[0] * n_kv_heads):
        t, g = i // n_kv_heads, i % n_kv_heads
        s = slots[t]
        _mix_of_group(heads[t], keys[s], values[s], positions[t] + 1, g, out[t])
    for t in range(sums.shape[0]):
        steps[t] = _to_bytes(out[t], x8[t])


@_serial
def _gate_of_row(sums, scales, step, n_mixed, x8):
    d_ff = x8.shape[0]
    z = np.empty(d_ff, np.float32)
    for j in range(d_ff):
        opened = float32(sums[j]) * scales[j] * step
        up = float32(sums[d_ff + j]) * scales[d_ff + j] * step
        z[j] = opened / (float32(1) + _exp(-opened)) * up
    width = d_ff // n_mixed
    while width < d_ff:  # the product with Hadamard's matrix, in log2(n_mixed) sums
        for begin in range(0, d_ff, 2 * width):
            for j in range(begin, begin + width):
                a, b = z[j], z[j + width]
                z[j], z[j + width] = a + b, a - b
        width *= 2
    return _to_bytes(z, x8)


@_serial
def gate(sums: Array, scales: Array, n_mixed: int, x8: Array, steps: Array) -> None:
    """`between.gate`; reads steps, writes x8 and steps. n_mixed: `rotation.n_mixed(d_ff)`."""
    for t in range(sums.shape[0]):
        steps[t] = _gate_of_row(sums[t], scales, steps[t], n_mixed, x8[t])


@_parallel
def gate_together(sums: Array, scales: Array, n_mixed: int, x8: Array, steps: Array) -> None:
    """`gate` on several threads."""
    for t in prange(sums.shape[0]):
        steps[t] = _gate_of_row(sums[t], scales, steps[t], n_mixed, x8[t])


@_parallel
def _count(n):
    total = 0
    for i in prange(n):
        total += i
    return total


@lru_cache(maxsize=1)
def is_parallel() -> bool:
    """Whether several threads may be used: numba's own pool does not stand two callers at once."""
    _count(2)
    return threading_layer() in ("omp", "tbb")
