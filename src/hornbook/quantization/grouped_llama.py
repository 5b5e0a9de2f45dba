"""The blocks of a Llama in 4 bits: a few rows in one compiled step, many block by block.

Which way a text's tokens go depends on how many it has itself, so that its neighbours change no bit
of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.models.llama import Block, LlamaConfig
from hornbook.nn.attention import head_width
from hornbook.nn.layout import Layout
from hornbook.nn.rotary import Rotation
from hornbook.nn.slots import Reading
from hornbook.quantization import tiled
from hornbook.quantization.groups import GroupedLinear
from hornbook.quantization.tiles import INPUTS, OUTPUTS

N_FEW = 16  # new tokens of a text up to which the compiled step pays
N_LOOKS = 200  # tokens looked at, from which a second thread for that pays


class GroupedBlocks(nn.Module):
    """Stands for all blocks of a Llama at once. In and out: (..., E)."""

    def __init__(
        self, config: LlamaConfig, blocks: list[Block], group: int, *, blank: bool
    ) -> None:
        super().__init__()
        self.d_head = head_width(config.d_model, config.n_heads)
        self.n_kv_heads = config.n_kv_heads or config.n_heads
        self.epsilon = config.norm_epsilon
        self.layers = nn.ModuleList(_halved(config, block, group, blank) for block in blocks)
        d_qkv = (config.n_heads + 2 * self.n_kv_heads) * self.d_head
        whole = d_qkv % OUTPUTS == 0 and not (config.d_model | config.d_ff) % INPUTS
        self._fits = whole and group == INPUTS  # no output is a filling, no group cut short
        self._stacked: tuple[Any, Any] | None = None

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        quick = isinstance(layout, Reading) and x.device.type == "cpu" and self._fits
        if not quick or not tiled.is_compiled():
            return self._many(x, layout, rotation)
        assert isinstance(layout, Reading)
        self.settle()
        out = torch.empty_like(x)
        for places, part in layout.divided(N_FEW):
            own = slice(None) if places is None else places
            angles = Rotation(rotation.cos[own], rotation.sin[own])
            run = self._few if max(part.lengths) <= N_FEW else self._many
            out[own] = run(x[own], part, angles)
        return out

    def _many(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        for block in self.layers:
            x = block(x, layout, rotation)
        return x

    @torch.no_grad()
    def _few(self, x: Tensor, reading: Reading, rotation: Rotation) -> Tensor:
        from hornbook.quantization.step_compiled import step

        looks, together = int(reading.positions().sum()), tiled.several()
        memory = reading.memory(len(self.layers), x.new_empty(0, self.n_kv_heads, self.d_head))
        keys, values = zip(*memory, strict=True)
        assert self._stacked is not None
        norms, matrices = self._stacked
        cos, sin = (
            t[:, 0, : self.d_head // 2].contiguous().numpy() for t in (rotation.cos, rotation.sin)
        )
        x = x.float().clone()
        step(
            x.numpy(),
            norms,
            matrices,
            cos,
            sin,
            keys,
            values,
            reading.rows.numpy(),
            reading.positions().numpy(),
            self.epsilon,
            together,
            together and looks > N_LOOKS,
        )
        return x

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_stacked": None}  # a copy's layers have tiles of their own

    def _load_from_state_dict(self, *given: Any) -> None:
        self._stacked = None
        super()._load_from_state_dict(*given)

    def settle(self) -> None:
        """Bring the matrices into tiles, all layers' one behind the other: what a step takes."""
        if self._stacked is not None or not self._fits or not tiled.is_compiled():
            return
        blocks: list[Any] = list(self.layers)
        gains = [(b.norm_1.weight, b.norm_2.weight) for b in blocks]
        norms = np.stack([np.stack([g.detach().float().numpy() for g in pair]) for pair in gains])
        matrices = []
        for layers in zip(*(_matrices(block) for block in blocks), strict=True):
            first = layers[0].tiles
            tiles = np.empty((len(layers), *first.tiles.shape), first.tiles.dtype)
            scales = np.empty((len(layers), *first.scales.shape), first.scales.dtype)
            for i, layer in enumerate(layers):  # one after the other: two of them in memory at most
                tiles[i], scales[i] = layer.tiles.tiles, layer.tiles.scales
                layer.tiles.tiles, layer.tiles.scales = tiles[i], scales[i]
            matrices.append((tiles, scales))
        self._stacked = norms, tuple(matrices)


def _matrices(block: Any) -> tuple[GroupedLinear, ...]:
    attention, feed_forward = block.attention, block.feed_forward
    return attention.qkv, attention.out, feed_forward.gate_up, feed_forward.down


def _halved(config: LlamaConfig, block: Block, group: int, blank: bool) -> Block:
    """A block like this one, its matrices in 4 bits; the norms are the same."""
    with torch.device("meta"):
        new = Block(config)
    new.norm_1, new.norm_2 = block.norm_1, block.norm_2
    for part, name in (
        (new.attention, "qkv"),
        (new.attention, "out"),
        (new.feed_forward, "gate_up"),
        (new.feed_forward, "down"),
    ):
        inside = block.attention if part is new.attention else block.feed_forward
        weight = getattr(inside, name).weight
        weight = torch.empty(weight.shape, device="meta") if blank else weight.float()
        setattr(part, name, GroupedLinear(weight, None, group))
    return new
