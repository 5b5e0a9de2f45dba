"""The blocks of a Llama in bytes: weights and the inputs of each product in 8 bits.

The weights are turned so that no feature of an input is far larger than the rest (`rotation`):
- the residual stream by one orthogonal matrix, with the norms' gains multiplied into what reads it;
- each head's values by another;
- the feed-forward's hidden units by Hadamard's matrix, while the model runs.

Rows of one text or a few go through `between_compiled`, many through `between`. Which way a text's
tokens go depends on how many it has itself, so that its neighbours change no bit of it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.models.llama import Block, LlamaConfig
from hornbook.nn.attention import head_width
from hornbook.nn.layout import Layout
from hornbook.nn.rotary import Rotation
from hornbook.nn.slots import Reading
from hornbook.quantization import between
from hornbook.quantization.products import ByteMatrix
from hornbook.quantization.rotation import n_mixed, orthogonal, unmixing

N_FEW = 16  # new tokens of a text up to which a compiled step pays


class ByteLayer(nn.Module):
    """The four matrices of a block, turned."""

    def __init__(self, qkv: Tensor, out: Tensor, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.qkv, self.out = ByteMatrix(qkv), ByteMatrix(out)
        self.gate_up, self.down = ByteMatrix(gate_up), ByteMatrix(down)


class ByteBlocks(nn.Module):
    """Stands for all blocks of a Llama at once. In and out: (..., E) float32."""

    turn: Tensor

    def __init__(self, config: LlamaConfig, layers: list[ByteLayer], turn: Tensor) -> None:
        super().__init__()
        self.shape = (
            config.n_heads,
            config.n_kv_heads or config.n_heads,
            head_width(config.d_model, config.n_heads),
        )
        self.epsilon = config.norm_epsilon
        self.n_mixed = n_mixed(config.d_ff)
        self.layers = nn.ModuleList(layers)
        self.register_buffer("turn", turn)
        self._arrays: list[tuple[Any, ...]] = []

    @classmethod
    @torch.no_grad()
    def of(cls, config: LlamaConfig, blocks: list[Block]) -> ByteBlocks:
        """Turn and round the weights of float blocks."""
        turn = orthogonal(config.d_model)
        n_kv_heads = config.n_kv_heads or config.n_heads
        d_head = head_width(config.d_model, config.n_heads)
        turn_of_values = orthogonal(d_head)
        layers = []
        for block in blocks:
            qkv = block.attention.qkv.weight.float() * block.norm_1.weight
            n_values = n_kv_heads * d_head
            values = turn_of_values.T @ qkv[-n_values:].unflatten(0, (n_kv_heads, d_head))
            qkv = torch.cat([qkv[:-n_values], values.flatten(0, 1)])
            out = block.attention.out.weight.float().unflatten(1, (-1, d_head)) @ turn_of_values
            gate_up = block.feed_forward.gate_up.weight.float() * block.norm_2.weight
            down = unmixing(block.feed_forward.down.weight.float())
            layers.append(
                ByteLayer(qkv @ turn, turn.T @ out.flatten(1), gate_up @ turn, turn.T @ down)
            )
        return cls(config, layers, turn)

    @classmethod
    def empty(cls, config: LlamaConfig) -> ByteBlocks:
        """Of these sizes, to be filled from a file."""
        d_head = head_width(config.d_model, config.n_heads)
        d_qkv = (config.n_heads + 2 * (config.n_kv_heads or config.n_heads)) * d_head
        shapes = [
            (d_qkv, config.d_model),
            (config.d_model, config.d_model),
            (2 * config.d_ff, config.d_model),
            (config.d_model, config.d_ff),
        ]
        layers = [
            ByteLayer(*(torch.empty(shape) for shape in shapes)) for _ in range(config.n_layers)
        ]
        return cls(config, layers, torch.zeros(config.d_model, config.d_model))

    @torch.no_grad()
    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        turned = x.float() @ self.turn
        if not isinstance(layout, Reading) or not is_compiled() or x.device.type != "cpu":
            return self._many(turned, layout, rotation) @ self.turn.T
        out = torch.empty_like(turned)
        for places, part in layout.divided(N_FEW):
            own = slice(None) if places is None else places
            way = self._few if max(part.lengths) <= N_FEW else self._many
            angles = Rotation(rotation.cos[own], rotation.sin[own])
            out[own] = way(turned[own], part, angles) @ self.turn.T
        return out

    def _many(self, stream: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        lead = stream.shape[:-1]
        x = stream.flatten(0, -2)

        def turn(heads: Tensor) -> Tensor:
            return rotation(heads.unflatten(0, lead)).flatten(0, -3)

        def mixed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            q, k, v = (heads.unflatten(0, lead) for heads in (q, k, v))
            return layout.attend(q, k, v, causal=True).flatten(0, -3)

        x8, steps = between.norm(x, self.epsilon)
        for layer in self.layers:
            qkv, out, gate_up, down = layer.qkv, layer.out, layer.gate_up, layer.down
            x8, steps = between.attend(qkv.sums(x8), qkv.scales, steps, self.shape, turn, mixed)
            x8, steps = between.add_and_norm(out.sums(x8), out.scales, steps, x, self.epsilon)
            x8, steps = between.gate(gate_up.sums(x8), gate_up.scales, steps)
            x8, steps = between.add_and_norm(down.sums(x8), down.scales, steps, x, self.epsilon)
        return x.unflatten(0, lead)

    def _few(self, x: Tensor, reading: Reading, rotation: Rotation) -> Tensor:
        from hornbook.quantization import between_compiled as compiled

        together = len(x) > 1 and torch.get_num_threads() > 1 and compiled.is_parallel()
        attend = compiled.attend_together if together else compiled.attend
        gate = compiled.gate_together if together else compiled.gate
        _, n_kv_heads, d_head = self.shape
        like = x.new_empty(0, n_kv_heads, d_head)
        narrow = torch.empty(x.shape, dtype=torch.int8)
        wide = torch.empty(len(x), self.layers[0].down.values.shape[1], dtype=torch.int8)
        x_, narrow_, wide_ = x.numpy(), narrow.numpy(), wide.numpy()
        steps = torch.empty(len(x)).numpy()
        half = d_head // 2
        cos, sin = (t[:, 0, :half].contiguous().numpy() for t in (rotation.cos, rotation.sin))
        slots, places = reading.rows.numpy(), reading.positions().numpy()
        compiled.norm(x_, self.epsilon, narrow_, steps)
        for qkv, qkv_scales, out, out_scales, up, up_scales, down, down_scales in self._tables():
            keys, values = (t.numpy() for t in reading.layer(like))
            sums = qkv(narrow).numpy()
            attend(sums, qkv_scales, cos, sin, keys, values, slots, places, narrow_, steps)
            sums = out(narrow).numpy()
            compiled.add_and_norm(sums, out_scales, x_, self.epsilon, narrow_, steps)
            gate(up(narrow).numpy(), up_scales, self.n_mixed, wide_, steps)
            sums = down(wide).numpy()
            compiled.add_and_norm(sums, down_scales, x_, self.epsilon, narrow_, steps)
        return x

    def _tables(self) -> list[tuple[Any, ...]]:
        """Of each layer the products and their scales, looked up once."""
        if not self._arrays:
            for layer in self.layers:
                matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
                self._arrays.append(
                    tuple(part for m in matrices for part in (m.sums, m.scales.numpy()))
                )
        return self._arrays


@lru_cache(maxsize=1)
def is_compiled() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None
