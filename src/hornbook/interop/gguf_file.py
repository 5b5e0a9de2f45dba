"""A GGUF file: fields by name, and tensors that become float32 when they are asked for.

What the formats of numbers are, and how each is read, is the `gguf` library's. The fields are read
here: it takes seconds over the hundred thousand strings of a vocabulary, and this takes a tenth of
one. What a file says of itself is not believed: each length is held against the bytes there are.

Source: ggml/docs/gguf.md of the ggml project, versions 2 and 3.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from hornbook.errors import CheckpointError

_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd"))  # as `struct` has them
_STRING, _ARRAY = 8, 9
_PLAIN = {"F32": np.float32, "F16": np.float16, "F64": np.float64}


@dataclass(frozen=True)
class Stored:
    """A tensor in the file: how its numbers are kept, its shape, and where it begins (bytes)."""

    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int

    @property
    def n_bytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


class GGUFFile:
    """An open file. fields: what it says of itself; tensors: what it holds, by name.

    Raises CheckpointError when it is no GGUF file, is cut short, or keeps numbers in an unknown
    way.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # a file of no bytes can't be mapped
            raise CheckpointError(
                f"{path} cannot be read: {error}", hint="A .gguf file is meant."
            ) from error
        self._at = 0
        if self._take(4) != b"GGUF":
            raise CheckpointError(f"{path} is not a GGUF file", hint="It begins with other bytes.")
        version = self._number("I")
        if version not in (2, 3):
            raise CheckpointError(
                f"{path} is GGUF of version {version}",
                hint="Versions 2 and 3 are read, of little-endian machines.",
            )
        n_tensors, n_fields = self._number("Q"), self._number("Q")
        self.fields: dict[str, Any] = {}
        for _ in range(n_fields):
            name = self._text()
            self.fields[name] = self._value(self._number("I"))
        self.tensors = self._read_tensors(n_tensors)

    def __getitem__(self, name: str) -> Any:
        """A field. Raises CheckpointError where the file does not say it."""
        if name not in self.fields:
            raise CheckpointError(
                f"{self.path} does not say {name}",
                hint="Was it converted by an old version, or is it no language model?",
            )
        return self.fields[name]

    def tensor(self, name: str) -> Tensor:
        """A tensor as float32. Raises CheckpointError when there is none of this name."""
        stored = self._stored(name)
        kind = _PLAIN.get(stored.kind.name, np.uint8)
        flat = np.frombuffer(
            self._bytes, kind, stored.n_bytes // np.dtype(kind).itemsize, stored.start
        )
        if kind is not np.uint8:
            return torch.from_numpy(flat.reshape(stored.shape).astype(np.float32))
        if quick := _QUICK.get(stored.kind.name):
            blocks = flat.reshape(-1, GGML_QUANT_SIZES[stored.kind][1])
            return quick(torch.from_numpy(blocks.copy())).view(stored.shape)
        rows = flat.reshape(*stored.shape[:-1], -1)
        try:
            return torch.from_numpy(dequantize(rows, stored.kind))
        except NotImplementedError as error:
            raise self._unknown_kind(name, stored.kind.name) from error

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, the longest stride first. Raises CheckpointError as `tensor` does."""
        return self._stored(name).shape

    def _stored(self, name: str) -> Stored:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.path} has no tensor {name}", hint="Is it a whole model of this family?"
            )
        return self.tensors[name]

    def _read_tensors(self, n_tensors: int) -> dict[str, Stored]:
        found = {}
        for _ in range(n_tensors):
            name = self._text()
            n_axes = self._number("I")
            shape = tuple(reversed([self._number("Q") for _ in range(min(n_axes, 9))]))
            number, offset = self._number("I"), self._number("Q")
            try:
                kind = GGMLQuantizationType(number)
            except ValueError as error:
                raise self._unknown_kind(name, f"type {number}") from error
            if not 1 <= n_axes <= 8 or shape[-1] % GGML_QUANT_SIZES[kind][0]:
                raise self._damaged(f"{name} is of shape {shape} as {kind.name}")
            found[name] = Stored(kind, shape, offset)
        alignment = self.fields.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._damaged(f"it has an alignment of {alignment!r}")
        begin = -(-self._at // alignment) * alignment
        placed = {n: Stored(s.kind, s.shape, begin + s.start) for n, s in found.items()}
        for name, stored in placed.items():
            if stored.start + stored.n_bytes > len(self._bytes):
                raise self._damaged(f"it ends before {name} does")
        return placed

    def _value(self, kind: int) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise self._damaged(f"it has a field of type {kind}")
        kind, length = self._number("I"), self._number("Q")
        if kind in _NUMBERS:
            return list(self._numbers(length, _NUMBERS[kind]))
        if kind != _STRING:
            raise self._damaged(f"it has an array of type {kind}")
        return [self._text() for _ in range(length)]

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", errors="replace")

    def _number(self, code: str) -> Any:
        return self._numbers(1, code)[0]

    def _numbers(self, count: int, code: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}")))

    def _take(self, n_bytes: int) -> bytes:
        end = self._at + n_bytes
        if end > len(self._bytes):
            raise self._damaged("it ends in the middle of its fields")
        taken = self._bytes[self._at : end]
        self._at = end
        return taken

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} is damaged: {what}", hint="It was cut short on its way: fetch it again."
        )

    def _unknown_kind(self, name: str, kind: str) -> CheckpointError:
        return CheckpointError(
            f"{self.path} keeps {name} as {kind}, which cannot be read",
            hint="Known: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K and others of "
            "the gguf library.",
        )


def _q4_0(blocks: Tensor) -> Tensor:
    """Blocks of a scale and 32 numbers of 4 bits, the first 16 in the low halves: (N, 18)."""
    return (_halves(blocks[:, 2:]) - 8.0) * _scales(blocks[:, :2])


def _q4_1(blocks: Tensor) -> Tensor:
    """The same with a lowest value behind the scale: (N, 20)."""
    scale, lowest = _scales(blocks[:, :4]).split(1, dim=1)
    return (_halves(blocks[:, 4:]) * scale).add_(lowest)


def _q8_0(blocks: Tensor) -> Tensor:
    """Blocks of a scale and 32 bytes: (N, 34)."""
    return blocks[:, 2:].view(torch.int8) * _scales(blocks[:, :2])


def _scales(pairs: Tensor) -> Tensor:
    return pairs.contiguous().view(torch.float16).float()


def _halves(pairs: Tensor) -> Tensor:
    return torch.cat([pairs & 15, pairs >> 4], dim=1)


# The plainest kinds again, in three times the speed: a model of 135M numbers is read as one waits.
_QUICK = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}
