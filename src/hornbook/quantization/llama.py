"""The blocks of a Llama in bytes: weights and the inputs of each product in 8 bits.

The weights are turned so that no feature of an input is far larger than the rest (`rotation`):
- the residual stream by one orthogonal matrix, with the norms' gains multiplied into what reads it;
- each head's values by another;
- the feed-forward's hidden units by Hadamard's matrix, while the model runs.

Rows of one text or a few go through `between_compiled`, many through `between`. Which way a text's
tokens go depends on how many it has itself, so that its neighbours change no bit of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hornbook.models.llama import Block, LlamaConfig
from hornbook.nn.attention import head_width
from hornbook.nn.layout import Layout
from hornbook.nn.rotary import Rotation
from hornbook.nn.slots import Reading
from hornbook.quantization import between
from hornbook.quantization.products import ByteMatrix, Sums
from hornbook.quantization.rotation import (
    by_row,
    is_compiled,
    n_mixed,
    orthogonal,
    unmixing,
)

N_FEW = 16  # new tokens of a text up to which a compiled step pays
N_LOOKS = 200  # tokens looked at, from which a second thread for that pays


class ByteLayer(nn.Module):
    """The four matrices of a block, turned."""

    def __init__(self, qkv: Tensor, out: Tensor, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.qkv, self.out = ByteMatrix(qkv), ByteMatrix(out)
        self.gate_up, self.down = ByteMatrix(gate_up), ByteMatrix(down)


class ByteBlocks(nn.Module):
    """Stands for all blocks of a Llama at once. In: (..., E) float32, turned; out: as it was."""

    turn: Tensor

    def __init__(self, config: LlamaConfig, layers: list[ByteLayer], turn: Tensor) -> None:
        super().__init__()
        self.shape = (
            config.n_heads,
            config.n_kv_heads or config.n_heads,
            head_width(config.d_model, config.n_heads),
        )
        self.epsilon = config.norm_epsilon
        self.d_ff = config.d_ff
        self.n_mixed = n_mixed(config.d_ff)
        self.layers = nn.ModuleList(layers)
        self.register_buffer("turn", turn)
        self._back: Tensor | None = None
        self._arrays: list[list[tuple[Sums, Any]]] = []

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
    def blank(cls, config: LlamaConfig) -> ByteBlocks:
        """Of these sizes, without numbers, to be filled from a file."""
        d_head = head_width(config.d_model, config.n_heads)
        d_qkv = (config.n_heads + 2 * (config.n_kv_heads or config.n_heads)) * d_head
        shapes = [
            (d_qkv, config.d_model),
            (config.d_model, config.d_model),
            (2 * config.d_ff, config.d_model),
            (config.d_model, config.d_ff),
        ]
        with torch.device("meta"):
            layers = [
                ByteLayer(*(torch.empty(shape) for shape in shapes)) for _ in range(config.n_layers)
            ]
            return cls(config, layers, torch.empty(config.d_model, config.d_model))

    @torch.no_grad()
    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        if not isinstance(layout, Reading) or not is_compiled() or x.device.type != "cpu":
            return self._many(x.clone(), layout, rotation) @ self.turn.T
        out = torch.empty_like(x)
        for places, part in layout.divided(N_FEW):
            own = slice(None) if places is None else places
            angles = Rotation(rotation.cos[own], rotation.sin[own])
            if max(part.lengths) <= N_FEW:
                if self._back is None:
                    self._back = self.turn.T.contiguous()
                out[own] = by_row(self._few(x[own].clone(), part, angles), self._back)
            else:
                out[own] = self._many(x[own].clone(), part, angles) @ self.turn.T
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
            assert isinstance(layer, ByteLayer)
            qkv, out, gate_up, down = layer.qkv, layer.out, layer.gate_up, layer.down
            x8, steps = between.attend(qkv.sums(x8), qkv.scales, steps, self.shape, turn, mixed)
            x8, steps = between.add_and_norm(out.sums(x8), out.scales, steps, x, self.epsilon)
            x8, steps = between.gate(gate_up.sums(x8), gate_up.scales, steps)
            x8, steps = between.add_and_norm(down.sums(x8), down.scales, steps, x, self.epsilon)
        return x.unflatten(0, lead)

    def _few(self, x: Tensor, reading: Reading, rotation: Rotation) -> Tensor:
        from hornbook.quantization import between_compiled as compiled

        together = torch.get_num_threads() > 1 and compiled.is_parallel()
        looks = int(reading.positions().sum())
        attend = compiled.attend_together if together and looks > N_LOOKS else compiled.attend
        gate = compiled.gate_together if together and len(x) > 1 else compiled.gate
        first = self.layers[0]
        assert isinstance(first, ByteLayer)
        _, n_kv_heads, d_head = self.shape
        memory = reading.memory(len(self.layers), x.new_empty(0, n_kv_heads, d_head))
        x8, hidden8 = (torch.empty(len(x), d, dtype=torch.int8) for d in (x.shape[1], self.d_ff))
        x_, x8_, hidden8_, steps = (
            x.numpy(),
            x8.numpy(),
            hidden8.numpy(),
            torch.empty(len(x)).numpy(),
        )
        angles = (t[:, 0, : d_head // 2].contiguous() for t in (rotation.cos, rotation.sin))
        cos, sin = (t.numpy() for t in angles)
        slots, places = reading.rows.numpy(), reading.positions().numpy()
        (qkv_, qkv), (out_, out), (wide_, wide) = (
            (buffer, buffer.numpy())
            for buffer in (
                torch.empty(len(x), matrix.values.shape[0], dtype=matrix.sums.dtype)
                for matrix in (first.qkv, first.out, first.gate_up)
            )
        )
        compiled.norm(x_, self.epsilon, x8_, steps)
        for layer, (keys, values) in zip(self._tables(), memory, strict=True):
            product, scales = layer[0]
            product(x8, qkv_)
            attend(qkv, scales, cos, sin, keys, values, slots, places, x8_, steps)
            product, scales = layer[1]
            product(x8, out_)
            compiled.add_and_norm(out, scales, x_, self.epsilon, x8_, steps)
            product, scales = layer[2]
            product(x8, wide_)
            gate(wide, scales, self.n_mixed, hidden8_, steps)
            product, scales = layer[3]
            product(hidden8, out_)
            compiled.add_and_norm(out, scales, x_, self.epsilon, x8_, steps)
        return x

    def _tables(self) -> list[list[tuple[Sums, Any]]]:
        """Of each layer the products and their scales, looked up once."""
        if not self._arrays:
            for layer in self.layers:
                assert isinstance(layer, ByteLayer)
                matrices = (layer.qkv, layer.out, layer.gate_up, layer.down)
                self._arrays.append([(m.sums, m.scales.numpy()) for m in matrices])
        return self._arrays
