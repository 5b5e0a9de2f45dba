"""Products of tiles (`tiles`), compiled: 16 outputs at once, one row of inputs or several.

numba knows no vectors, so that what is done with a tile is written in LLVM's language, which numba
compiles to: load, take halves of bytes apart, multiply and add, turn to floats, scale, add.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, int32, njit, prange, types
from numba.core import codegen, config
from numba.extending import intrinsic

_one: dict[str, Any] = {"nogil": True, "fastmath": True, "error_model": "numpy", "cache": True}
_serial = njit(**_one)
_parallel = njit(**_one, parallel=True)
Array = Any

AT_ONCE = 8  # rows of inputs for which a tile is taken apart once
_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_INTS, _FLOATS, _SHORTS = (ir.VectorType(kind, 16) for kind in (_I32, _F32, _I16))


def knows_this_processor() -> bool:
    """Whether numba compiles for a processor that has the instruction: this one, unless NUMBA_CPU_*
    or NUMBA_ENABLE_AVX say otherwise."""
    features = getattr(config, "CPU_FEATURES", None)
    if features is None:
        named = getattr(config, "CPU_NAME", None)
        features = "" if named else codegen.get_host_cpu_features()
    return "+avx512vnni" in features.split(",")


class _Tile:
    """Writes the code for one row of tiles (16 outputs, all inputs) and `n` rows of inputs."""

    def __init__(self, builder: Any, bits: int, n: int) -> None:
        self.b, self.bits, self.n = builder, bits, n

    def function(self, name: str, vector: Any, *arguments: Any) -> Any:
        found = self.b.module.globals.get(name)
        return found or ir.Function(self.b.module, ir.FunctionType(vector, arguments), name)

    def load(self, address: Any, kind: Any, *offsets: tuple[Any, int]) -> Any:
        """offsets: (index, bytes each)."""
        for index, size in offsets:
            index = ir.Constant(_I64, index) if isinstance(index, int) else index
            address = self.b.add(address, self.b.mul(index, ir.Constant(_I64, size)))
        return self.b.load(self.b.inttoptr(address, kind.as_pointer()), align=1)

    def all(self, number: Any) -> Any:
        """16 times the same number."""
        vector = ir.VectorType(number.type, 16)
        one = self.b.insert_element(ir.Constant(vector, None), number, ir.Constant(_I32, 0))
        return self.b.shuffle_vector(
            one, ir.Constant(vector, None), ir.Constant(ir.VectorType(_I32, 16), [0] * 16)
        )

    def floats(self, address: Any, *offsets: tuple[Any, int]) -> Any:
        """16 bfloat16: the upper halves of floats."""
        wide = self.b.zext(self.load(address, _SHORTS, *offsets), _INTS)
        return self.b.bitcast(self.b.shl(wide, self.all(ir.Constant(_I32, 16))), _FLOATS)

    def weights(self, tiles: Any, group: Any) -> list[Any]:
        """A tile's eight vectors, four inputs of each output in each."""
        if self.bits == 8:
            return [self.load(tiles, _INTS, (group, 512), (i, 64)) for i in range(8)]
        low = self.all(ir.Constant(_I32, 0x0F0F0F0F))
        four = self.all(ir.Constant(_I32, 4))
        vectors = []
        for i in range(4):
            both = self.load(tiles, _INTS, (group, 256), (i, 64))
            vectors += [self.b.and_(both, low), self.b.and_(self.b.lshr(both, four), low)]
        return vectors

    def write(self, tiles: Any, scales: Any, x8: Any, steps: Any, sums: Any, groups: Any) -> Any:
        """The n results, 16 floats each; of 8 bits not yet times the outputs' scales."""
        b = self.b
        product = self.function("llvm.x86.avx512.vpdpbusd.512", _INTS, _INTS, _INTS, _INTS)
        fma = self.function("llvm.fma.v16f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
        before = b.block
        loop, after = b.append_basic_block("tiles"), b.append_basic_block("whole")
        b.branch(loop)
        b.position_at_end(loop)
        group = b.phi(_I64)
        group.add_incoming(ir.Constant(_I64, 0), before)
        totals = [b.phi(_FLOATS) for _ in range(self.n)]
        for total in totals:
            total.add_incoming(ir.Constant(_FLOATS, [0.0] * 16), before)
        weights = self.weights(tiles, group)
        zero = 8 if self.bits == 4 else 128  # the byte that stands for 0
        width, inputs = b.mul(groups, ir.Constant(_I64, 4)), b.mul(groups, ir.Constant(_I64, 32))
        if self.bits == 4:
            scale = self.floats(scales, (group, 64))
            middle = self.floats(scales, (group, 64), (1, 32))
        new = []
        for t, total in enumerate(totals):
            row = b.mul(ir.Constant(_I64, t), width)
            step = self.load(b.add(steps, row), _F32, (group, 4))
            sum_ = self.load(b.add(sums, row), _I32, (group, 4))
            whole = self.all(b.mul(sum_, ir.Constant(_I32, -zero)))
            start = b.add(x8, b.mul(ir.Constant(_I64, t), inputs))
            for i, vector in enumerate(weights):
                four = self.all(self.load(start, _I32, (group, 32), (i, 4)))
                whole = b.call(product, [whole, vector, four])
            number = b.sitofp(whole, _FLOATS)
            if self.bits == 4:
                total = b.call(fma, [number, b.fmul(scale, self.all(step)), total])
                of_middle = self.all(b.fmul(b.sitofp(sum_, _F32), step))
                new.append(b.call(fma, [middle, of_middle, total]))
            else:
                new.append(b.call(fma, [number, self.all(step), total]))
        following = b.add(group, ir.Constant(_I64, 1))
        group.add_incoming(following, loop)
        for total, added in zip(totals, new):
            total.add_incoming(added, loop)
        b.cbranch(b.icmp_signed("<", following, groups), loop, after)
        b.position_at_end(after)
        return new


def _row_of_tiles(bits: int, n: int) -> Callable[..., None]:
    """tiles, scales, x8, steps, sums, out: addresses; groups: how many tiles; width: of `out`."""

    @intrinsic
    def call(typingctx, tiles, scales, x8, steps, sums, groups, out, width):
        def codegen(context, builder, signature, arguments):
            *given, out, width = arguments
            results = _Tile(builder, bits, n).write(*given)
            for t, result in enumerate(results):
                place = builder.add(out, builder.mul(width, ir.Constant(_I64, 4 * t)))
                pointer = builder.inttoptr(place, _FLOATS.as_pointer())
                builder.store(result, pointer, align=1)
            return context.get_dummy_value()

        return types.none(*(types.int64,) * 8), codegen

    return call


_of_4, _of_4_for_many = _row_of_tiles(4, 1), _row_of_tiles(4, AT_ONCE)
_of_8, _of_8_for_many = _row_of_tiles(8, 1), _row_of_tiles(8, AT_ONCE)


@_serial
def _tile_of_4(tiles, scales, x8, steps, sums, out, i):
    groups, width = steps.shape[1], out.shape[1]
    tile, scale = tiles[i].ctypes.data, scales[i].ctypes.data
    t = 0
    while t < x8.shape[0]:
        row = x8[t].ctypes.data, steps[t].ctypes.data, sums[t].ctypes.data
        place = out[t].ctypes.data + 64 * i
        if t + AT_ONCE <= x8.shape[0]:
            _of_4_for_many(tile, scale, row[0], row[1], row[2], groups, place, width)
            t += AT_ONCE
        else:
            _of_4(tile, scale, row[0], row[1], row[2], groups, place, width)
            t += 1


@_serial
def _tile_of_8(tiles, scales, x8, steps, sums, out, i):
    groups, width = steps.shape[1], out.shape[1]
    tile = tiles[i].ctypes.data
    t = 0
    while t < x8.shape[0]:
        row = x8[t].ctypes.data, steps[t].ctypes.data, sums[t].ctypes.data
        place = out[t].ctypes.data + 64 * i
        if t + AT_ONCE <= x8.shape[0]:
            _of_8_for_many(tile, 0, row[0], row[1], row[2], groups, place, width)
            t += AT_ONCE
        else:
            _of_8(tile, 0, row[0], row[1], row[2], groups, place, width)
            t += 1
    for t in range(x8.shape[0]):
        for j in range(16):
            out[t, 16 * i + j] *= scales[16 * i + j]


@_serial
def product_of_4(
    tiles: Array, scales: Array, x8: Array, steps: Array, sums: Array, out: Array
) -> None:
    """4 bits: writes out (T, 16 n_tiles). scales: (n_tiles, G, 2, 16), bfloat16 as uint16."""
    for i in range(tiles.shape[0]):
        _tile_of_4(tiles, scales, x8, steps, sums, out, i)


@_parallel
def product_of_4_together(
    tiles: Array, scales: Array, x8: Array, steps: Array, sums: Array, out: Array
) -> None:
    """The same on several threads."""
    for i in prange(tiles.shape[0]):
        _tile_of_4(tiles, scales, x8, steps, sums, out, i)


@_serial
def product_of_8(
    tiles: Array, scales: Array, x8: Array, steps: Array, sums: Array, out: Array
) -> None:
    """8 bits: writes out (T, 16 n_tiles). scales: (16 n_tiles,) float32."""
    for i in range(tiles.shape[0]):
        _tile_of_8(tiles, scales, x8, steps, sums, out, i)


@_parallel
def product_of_8_together(
    tiles: Array, scales: Array, x8: Array, steps: Array, sums: Array, out: Array
) -> None:
    """The same on several threads."""
    for i in prange(tiles.shape[0]):
        _tile_of_8(tiles, scales, x8, steps, sums, out, i)


@_serial
def row_to_grouped_bytes(z: Array, x8: Array, steps: Array, sums: Array) -> None:
    """`tiles.to_grouped_bytes` of one row: reads z (d_in,), writes the others."""
    for g in range(steps.shape[0]):
        largest = float32(1e-30)
        for j in range(32 * g, 32 * g + 32):
            largest = max(largest, abs(z[j]))
        factor = float32(127) / largest
        total = int32(0)
        for j in range(32 * g, 32 * g + 32):
            value = np.int8(np.rint(z[j] * factor))
            x8[j] = value
            total = int32(total + int32(value))
        steps[g], sums[g] = largest / float32(127), total


@_serial
def to_grouped_bytes(z: Array, x8: Array, steps: Array, sums: Array) -> None:
    """`tiles.to_grouped_bytes`: reads z (T, d_in), writes the others."""
    for t in range(z.shape[0]):
        row_to_grouped_bytes(z[t], x8[t], steps[t], sums[t])


@lru_cache(maxsize=1)
def is_right() -> bool:
    """Whether what was compiled multiplies as it should, on this processor."""
    if not knows_this_processor():
        return False
    tiles = np.full((1, 1, 256), 0x21, np.uint8)  # low halves 1, high halves 2
    scales = np.zeros((1, 1, 2, 16), np.uint16)
    scales[:, :, 0] = 0x3F80  # 1.0
    x8 = np.ones((1, 32), np.int8)
    steps, sums = np.ones((1, 1), np.float32), np.full((1, 1), 32, np.int32)
    out = np.empty((1, 16), np.float32)
    product_of_4(tiles, scales, x8, steps, sums, out)
    return bool((out == 16 * 1 + 16 * 2 - 8 * 32).all())
