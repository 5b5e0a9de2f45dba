"""A decoder's weights in 8 or 4 bits, as surgery on a finished model that can be undone.

    attach(model, bits=8)
    detach(model)            # the float layers back, to the last bit

8 bits: a scale an output, products of bytes. A Llama's blocks become `llama.ByteBlocks`; layers of
other families, and heads, take their inputs as two bytes a number, which loses nothing to speak of.
4 bits: a scale and a least value for each group of inputs (GGML's Q4_1), blocks only; the token
embedding and the head, which decide most, have 8 bits, as in llama.cpp's own files.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.models.llama import Llama
from hornbook.nn.embedding import TokenEmbedding
from hornbook.quantization import tiled
from hornbook.quantization.between import floats, to_bytes
from hornbook.quantization.grouped_llama import GroupedBlocks
from hornbook.quantization.groups import GroupedLinear
from hornbook.quantization.llama import ByteBlocks
from hornbook.quantization.products import ByteMatrix
from hornbook.quantization.rotation import by_row

GROUP = 32
_KEPT = "_float_parts"  # where a model keeps what was taken out, by name


class ByteLinear(nn.Module):
    """A linear layer in bytes; inputs of two bytes a number: (..., d_in) -> (..., d_out)."""

    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.matrix = ByteMatrix(weight)
        self.register_buffer("bias", None if bias is None else bias.detach().float().clone())

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        y = _by_two_bytes(self.matrix, x)
        return (y if self.bias is None else y.add_(self.bias)).to(x.dtype)


class ByteEmbedding(nn.Module):
    """A token embedding (V, E) in bytes, and the head that is tied to it."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.matrix = ByteMatrix(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.matrix.rows(tokens)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        return _by_two_bytes(self.matrix, hidden)


class TiledMatrix(ByteMatrix):
    """A matrix in bytes that lies in tiles once it is used."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight)
        self._tiles: tiled.ByteTiles | None = None

    @property
    def tiles(self) -> tiled.ByteTiles:
        if self._tiles is None:
            self._tiles = tiled.ByteTiles(self.values, self.scales)
            self.values = self.values[:0].clone()
        return self._tiles

    def _save_to_state_dict(
        self, destination: dict[str, Tensor], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._tiles is not None:
            destination[f"{prefix}values"] = self._tiles.values()

    def _load_from_state_dict(self, *given: Any) -> None:
        if self._tiles is not None:
            self.values, self._tiles = self._tiles.values(), None
        super()._load_from_state_dict(*given)


class TiledEmbedding(nn.Module):
    """`ByteEmbedding` where the machine multiplies tiles: the head's inputs take a byte each."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.matrix = TiledMatrix(weight)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.matrix.tiles.rows(tokens)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        rows = hidden.reshape(-1, hidden.shape[-1])
        return self.matrix.tiles.product(rows).reshape(*hidden.shape[:-1], -1)


class TurnedEmbedding(ByteEmbedding):
    """A Llama's: gives vectors turned, as `ByteBlocks` takes them. The head turns its inputs, so
    that one byte a number is enough."""

    turn: Tensor

    def __init__(self, weight: Tensor, turn: Tensor) -> None:
        super().__init__(weight if weight.is_meta else weight @ turn)
        self.register_buffer("turn", turn)

    @torch.no_grad()
    def logits(self, hidden: Tensor) -> Tensor:
        x8, steps = to_bytes(by_row(hidden.float().reshape(-1, hidden.shape[-1]), self.turn))
        y = self.matrix.sums(x8) * (self.matrix.scales * steps.unsqueeze(1))
        return y.reshape(*hidden.shape[:-1], -1)


def _by_two_bytes(matrix: ByteMatrix, x: Tensor) -> Tensor:
    rows = x.float().reshape(-1, x.shape[-1])
    high, steps = to_bytes(rows)
    fine = steps / 254  # what is left lies within half a step
    low = ((rows - high * steps.unsqueeze(1)) / fine.unsqueeze(1)).round_().clamp_(-127, 127)
    above = floats(matrix.sums(high), matrix.scales, steps)
    below = matrix.sums(low.to(torch.int8)) * matrix.scales
    return above.addcmul_(below, fine.unsqueeze(1)).reshape(*x.shape[:-1], -1)


@torch.no_grad()
def attach(model: nn.Module, bits: int, *, group: int = GROUP, keep: bool = True) -> None:
    """Put quantised parts in place of a decoder's blocks, embedding and head.

    group: inputs that share a scale, at 4 bits. keep: let the model hold its float parts, for
    `detach`; without, they are freed. The model is for inference in float32 afterwards. Raises
    ConfigError for other bits, a group that doesn't divide the layers, a model quantised already.
    """
    if bits not in (8, 4):
        raise ConfigError(f"bits is {bits}", hint="Take 8 or 4.")
    if is_quantized(model):
        raise ConfigError("the model is quantised already", hint="Call detach(model) first.")
    parts = _parts(model, bits, group)
    if not parts:
        raise ConfigError(
            f"a {type(model).__name__} has no layers to quantise", hint="Give a decoder."
        )
    taken = {name: model.get_submodule(name) for name in parts}
    for name, part in parts.items():
        _put(model, name, part)
    setattr(model, _KEPT, _Kept(taken if keep else None, bits, group))


def detach(model: nn.Module) -> None:
    """Put the float parts back as they were. Raises ConfigError where they weren't kept."""
    kept = getattr(model, _KEPT, None)
    if kept is None:
        return
    if kept.parts is None:
        raise ConfigError(
            "the float parts of this model are gone", hint="Open the model it was made from."
        )
    for name, part in kept.parts.items():
        _put(model, name, part)
    delattr(model, _KEPT)


def is_quantized(model: Any) -> bool:
    """Whether `attach` was here."""
    return getattr(model, _KEPT, None) is not None


def description(model: nn.Module) -> dict[str, Any]:
    """What config.json says of it: {"bits": 4, "group": 32}."""
    kept = getattr(model, _KEPT)
    return {"bits": kept.bits} | ({"group": kept.group} if kept.bits == 4 else {})


@torch.no_grad()
def prepare(model: nn.Module, bits: int, group: int = GROUP) -> None:
    """`attach` without numbers, for `load_state_dict(..., assign=True)` from a file."""
    if bits not in (8, 4):
        raise ConfigError(f"bits is {bits}", hint="Take 8 or 4.")
    for name, part in _parts(model, bits, group, blank=True).items():
        _put(model, name, part)
    setattr(model, _KEPT, _Kept(None, bits, group))


def settle(model: nn.Module) -> None:
    """Bring the matrices into the form in which they are multiplied; each lies in memory once then,
    and no longer in the file that it came from. Without this it is done when they are used."""
    for part in model.modules():
        if isinstance(part, GroupedBlocks):
            part.settle()
        elif isinstance(part, TiledMatrix) or (
            isinstance(part, GroupedLinear) and tiled.fits(part.shape[1], part.group)
        ):
            _ = part.tiles
    if sys.platform.startswith("linux"):
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed
        if give_back is not None:
            give_back(0)


class _Kept:
    """What was taken out; not a module, so that nobody counts, moves or saves it."""

    def __init__(self, parts: dict[str, nn.Module] | None, bits: int, group: int) -> None:
        self.parts, self.bits, self.group = parts, bits, group


def _parts(model: nn.Module, bits: int, group: int, *, blank: bool = False) -> dict[str, nn.Module]:
    """The new parts by the names of those they stand for. blank: shapes without numbers."""
    parts: dict[str, nn.Module] = {}

    def of(weight: Tensor) -> Tensor:
        return weight.to("meta") if blank else weight.float()

    turn = None
    if isinstance(model, Llama) and bits == 8:
        config = model.config
        blocks = ByteBlocks.blank(config) if blank else ByteBlocks.of(config, list(model.blocks))  # type: ignore[arg-type]
        turn = blocks.turn
        parts["blocks"] = nn.ModuleList([blocks])
    elif isinstance(model, Llama):
        grouped = GroupedBlocks(model.config, list(model.blocks), group, blank=blank)  # type: ignore[arg-type]
        parts["blocks"] = nn.ModuleList([grouped])
    for name, part in model.named_modules():
        if name.startswith("blocks.") and isinstance(part, nn.Linear):
            if "blocks" in parts:
                continue
            if bits == 4:
                parts[name] = GroupedLinear(of(part.weight), part.bias, group)
            else:
                parts[name] = ByteLinear(of(part.weight), part.bias)
        elif name == "head" and isinstance(part, nn.Linear):
            parts[name] = ByteLinear(of(part.weight), part.bias)
        elif name == "tokens" and isinstance(part, TokenEmbedding):
            weight = of(part.weight)
            if turn is not None:
                parts[name] = TurnedEmbedding(weight, turn)
            elif bits == 4 and not weight.is_cuda and tiled.fits(weight.shape[1]):
                parts[name] = TiledEmbedding(weight)
            else:
                parts[name] = ByteEmbedding(weight)
    return parts


def _put(model: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, part)
