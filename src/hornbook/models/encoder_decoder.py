"""The Transformer: an encoder reads one text, a decoder writes another (Vaswani et al. 2017,
"Attention Is All You Need").

As published: sinusoidal positions, embeddings scaled by sqrt(E), post-norm blocks, ReLU, attention
from the decoder to the encoder's output, one matrix for both embeddings and the head (section
3.4). Different: sines fill the first half of a position's features and cosines the second (the
paper takes turns: the same up to the features' order), and batches may lie ragged. Logits equal
transformers' `MarianMTModel` with ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.nn.attention import CrossAttention, KeysValues, SelfAttention
from hornbook.nn.feedforward import FeedForward
from hornbook.nn.init import fan_in_, normal_
from hornbook.nn.layout import Layout, check_fits


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Sizes of a Transformer; the defaults are the paper's base model (table 3).

    n_layers: of the encoder, and of the decoder. dropout is a probability; the paper trains at 0.1.
    """

    vocab_size: int = 37000
    context_length: int = 512
    n_layers: int = 6
    n_heads: int = 8
    d_model: int = 512
    d_ff: int = 2048
    dropout: float = 0.0


class EncoderBlock(nn.Module):
    """Post-norm: normalise after each residual sum (section 3.1). In and out: (..., E)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.d_model, config.n_heads, dropout=config.dropout)
        self.norm_1 = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, activation=F.relu)
        self.norm_2 = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = self.norm_1(x + self.dropout(self.attention(x, layout)))
        return self.norm_2(x + self.dropout(self.feed_forward(x)))


class DecoderBlock(nn.Module):
    """Looks at its own past, then at the whole source. In and out: (..., E)."""

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(
            config.d_model, config.n_heads, causal=True, dropout=config.dropout
        )
        self.norm_1 = nn.LayerNorm(config.d_model)
        self.source_attention = CrossAttention(
            config.d_model, config.n_heads, dropout=config.dropout
        )
        self.norm_2 = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, activation=F.relu)
        self.norm_3 = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor | KeysValues, source_layout: Layout
    ) -> Tensor:
        x = self.norm_1(x + self.dropout(self.attention(x, layout)))
        looked = self.source_attention(x, layout, memory, source_layout)
        x = self.norm_2(x + self.dropout(looked))
        return self.norm_3(x + self.dropout(self.feed_forward(x)))


class EncoderDecoder(nn.Module):
    """Source and target token ids -> hidden states of the target (..., E); `logits` reads them."""

    places: Tensor

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.register_buffer(
            "places", sinusoids(config.context_length, config.d_model), persistent=False
        )
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.n_layers))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_layers))
        self.dropout = nn.Dropout(config.dropout)
        normal_(self)
        # Unit-sized inputs give unit-sized outputs, as in the paper's own code: between norms that
        # stand behind each sum, small weights learn ten times more slowly (experiments/LOG.md).
        fan_in_([part for part in self.modules() if isinstance(part, nn.Linear)])
        nn.init.normal_(self.tokens.weight, std=config.d_model**-0.5)

    def forward(
        self, source: Tensor, source_layout: Layout, target: Tensor, layout: Layout
    ) -> Tensor:
        """The documents of both layouts belong together in their order.

        Raises ConfigError when a document is longer than the context.
        """
        return self.decode(target, layout, self.encode(source, source_layout), source_layout)

    def encode(self, source: Tensor, layout: Layout) -> Tensor:
        """What the decoder looks at: (...) -> (..., E)."""
        x = self._embed(source, layout)
        for block in self.encoder:
            x = block(x, layout)
        return x

    def remember(self, memory: Tensor) -> list[KeysValues]:
        """Each decoder block's keys and values of the encoder's output: made once for all steps
        of writing, where `decode` would make them again at each."""
        blocks: list[Any] = list(self.decoder)
        return [block.source_attention.read(memory) for block in blocks]

    def decode(
        self,
        target: Tensor,
        layout: Layout,
        memory: Tensor | list[KeysValues],
        source_layout: Layout,
    ) -> Tensor:
        """Hidden states of the target so far, given the encoder's output, or what `remember` made
        of it: (...) -> (..., E)."""
        x = self._embed(target, layout)
        memories = memory if isinstance(memory, list) else [memory] * len(self.decoder)
        for block, its_memory in zip(self.decoder, memories, strict=True):
            x = block(x, layout, its_memory, source_layout)
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits: (..., E) -> (..., V)."""
        return F.linear(hidden, self.tokens.weight)

    def _embed(self, tokens: Tensor, layout: Layout) -> Tensor:
        check_fits(layout, self.config.context_length)
        scaled = self.tokens(tokens) * self.config.d_model**0.5
        return self.dropout(scaled + self.places[layout.positions()])


def sinusoids(n_positions: int, d_model: int) -> Tensor:
    """Waves of lengths from 2 pi to 10000 * 2 pi (section 3.5): (n_positions, d_model).

    Sines first, cosines after; with an odd width there is one sine more.
    """
    pairs = torch.arange((d_model + 1) // 2, dtype=torch.float64)
    angles = torch.arange(n_positions, dtype=torch.float64)[:, None] / 10000 ** (
        2 * pairs / d_model
    )
    return torch.cat([angles.sin(), angles.cos()[:, : d_model // 2]], 1).float()
