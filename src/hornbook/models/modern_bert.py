"""A modern encoder, after MosaicBERT (Portes et al. 2023) and ModernBERT (Warner et al. 2024).

As ModernBERT: rotary positions, pre-norm with no norm before the first attention, norms without
biases, gated GELU, no biases in layers, and two of three layers look at a window of `window` tokens
on either side. Documents lie end to end with no padding wherever the layout is ragged ("unpadding",
section 2.1.2). MosaicBERT's ALiBi takes the place of rotary positions where asked for, as another
part. Pretraining hides 30 % of the tokens and is `tasks.masked_lm`'s business. Logits
equal transformers' `ModernBertForMaskedLM`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import ConfigError, nearest
from hornbook.nn.alibi import Alibi
from hornbook.nn.attention import SelfAttention, head_width
from hornbook.nn.feedforward import GatedFeedForward
from hornbook.nn.init import normal_, scale_residual_
from hornbook.nn.layout import Layout, check_fits, picked
from hornbook.nn.rotary import Rotary, Rotation


@dataclass(frozen=True)
class ModernBertConfig:
    """Sizes of a modern encoder; the defaults are ModernBERT-base's.

    Layers 0, global_every, 2 * global_every, ... look at the whole document; 1 makes all do so.
    """

    vocab_size: int = 50368
    context_length: int = 8192
    n_layers: int = 22
    n_heads: int = 12
    d_model: int = 768
    d_ff: int = 1152
    window: int = 64
    global_every: int = 3
    rotary_base: float = 160000.0
    rotary_base_in_window: float = 10000.0
    norm_epsilon: float = 1e-5
    positions: str = "rotary"  # or "alibi": a name in POSITIONS

    def looks_far(self, layer: int) -> bool:
        return layer % self.global_every == 0


class Block(nn.Module):
    """Pre-norm encoder block; the first has its norm in the embeddings. (..., E) -> (..., E), or
    (n, E) of the `wanted` tokens alone (`nn.layout.picked`)."""

    def __init__(self, config: ModernBertConfig, layer: int) -> None:
        super().__init__()
        self.norm_1 = nn.Identity() if layer == 0 else _norm(config)
        self.attention = SelfAttention(
            config.d_model,
            config.n_heads,
            bias=False,
            window=None if config.looks_far(layer) else config.window,
        )
        self.norm_2 = _norm(config)
        self.feed_forward = GatedFeedForward(config.d_model, config.d_ff, activation=F.gelu)

    def forward(
        self, x: Tensor, layout: Layout, turn: Rotation | None, wanted: Tensor | None = None
    ) -> Tensor:
        x = picked(x, wanted) + self.attention(self.norm_1(x), layout, turn, wanted)
        return x + self.feed_forward(self.norm_2(x))


class RotaryPositions(nn.Module):
    """Turns by position: slowly in the layers that look far, quickly in those with a window."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        d_head = head_width(config.d_model, config.n_heads)
        self.far = Rotary(d_head, config.context_length, base=config.rotary_base)
        self.near = Rotary(d_head, config.context_length, base=config.rotary_base_in_window)

    def forward(self, layout: Layout) -> tuple[Any, Rotation | None, Rotation | None]:
        """The layout to attend in, and what is done to queries and keys of the two kinds."""
        positions = layout.positions()
        return layout, self.far(positions), self.near(positions)


class AlibiPositions(nn.Module):
    """Nothing is turned: scores fall with distance, in all layers alike."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.alibi = Alibi(config.n_heads)

    def forward(self, layout: Any) -> tuple[Any, Rotation | None, Rotation | None]:
        return self.alibi(layout), None, None


POSITIONS: dict[str, type[nn.Module]] = {"rotary": RotaryPositions, "alibi": AlibiPositions}


class ModernBert(nn.Module):
    """The encoder: token ids (...) -> hidden states (..., E), or (n, E) of the `wanted` tokens
    (`nn.layout.picked`)."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.config = config
        if config.positions not in POSITIONS:
            raise ConfigError(
                f"there are no positions named '{config.positions}'",
                hint=nearest(config.positions, POSITIONS),
            )
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.norm_0 = _norm(config)
        self.positions = POSITIONS[config.positions](config)
        blocks = [Block(config, layer) for layer in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = _norm(config)
        normal_(self)
        residual = [part for b in blocks for part in (b.attention.out, b.feed_forward.down)]
        scale_residual_(residual, n_residuals=2 * config.n_layers)

    def forward(self, tokens: Tensor, layout: Layout, *, wanted: Tensor | None = None) -> Tensor:
        """Raises ConfigError when a document is longer than the context."""
        check_fits(layout, self.config.context_length)
        layout, far, near = self.positions(layout)
        x = self.norm_0(self.tokens(tokens))
        for layer, block in enumerate(self.blocks):
            turn = far if self.config.looks_far(layer) else near
            x = block(x, layout, turn, wanted if layer == len(self.blocks) - 1 else None)
        return self.norm(x if self.blocks else picked(x, wanted))

    def token_embedding(self) -> Tensor:
        """The matrix (V, E) that a head may tie itself to."""
        return self.tokens.weight

    def masked_lm_head(self) -> MaskedLMHead:
        """A fresh head for `tasks.masked_lm`."""
        return MaskedLMHead(self.config)


class MaskedLMHead(nn.Module):
    """Which token stood here? (..., E) -> logits (..., V); the matrix is the embedding's (tied)."""

    def __init__(self, config: ModernBertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model, bias=False)
        self.norm = _norm(config)
        self.bias = nn.Parameter(self.dense.weight.new_zeros(config.vocab_size))
        normal_(self)

    def forward(self, hidden: Tensor, token_embedding: Tensor) -> Tensor:
        return F.linear(self.norm(F.gelu(self.dense(hidden))), token_embedding, self.bias)


def _norm(config: ModernBertConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.d_model, eps=config.norm_epsilon, bias=False)
