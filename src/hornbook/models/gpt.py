"""GPT: a causal decoder (Radford et al. 2019, "Language Models are Unsupervised Multitask
Learners": GPT-2).

As published: learned positions, pre-norm blocks with a last norm after them, GELU by its tanh
approximation, scaled first weights of the residual layers, and a head tied to the token embedding.
Different: a batch may lie ragged (`nn.layout`), and dropout is 0 unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.nn.attention import SelfAttention
from hornbook.nn.embedding import TokenEmbedding
from hornbook.nn.feedforward import FeedForward
from hornbook.nn.init import normal_, scale_residual_
from hornbook.nn.layout import Layout, check_fits


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT; the defaults are GPT-2's smallest, 124M parameters."""

    vocab_size: int = 50257
    context_length: int = 1024
    n_layers: int = 12
    n_heads: int = 12
    d_model: int = 768
    d_ff: int = 3072
    norm_epsilon: float = 1e-5
    dropout: float = 0.0


class Block(nn.Module):
    """Pre-norm decoder block (section 2.3). In and out: (..., E)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.attention = SelfAttention(
            config.d_model, config.n_heads, causal=True, dropout=config.dropout
        )
        self.norm_2 = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(
            config.d_model, config.d_ff, activation=partial(F.gelu, approximate="tanh")
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_1(x), layout))
        return x + self.dropout(self.feed_forward(self.norm_2(x)))


class GPT(nn.Module):
    """The decoder: token ids (...) -> hidden states (..., E); `logits` reads them."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        blocks = [Block(config) for _ in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        normal_(self)
        residual = [part for b in blocks for part in (b.attention.out, b.feed_forward.down)]
        scale_residual_(residual, n_residuals=2 * config.n_layers)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Raises ConfigError when a document is longer than the context."""
        return self.upper(self.lower(tokens, layout, 0), layout, 0)

    def lower(self, tokens: Tensor, layout: Layout, n: int) -> Tensor:
        """The hidden states after the first `n` blocks: what a frozen lower part computes once."""
        check_fits(layout, self.config.context_length)
        x = self.dropout(self.tokens(tokens) + self.positions(layout.positions()))
        for block in self.blocks[:n]:
            x = block(x, layout)
        return x

    def upper(self, x: Tensor, layout: Layout, n: int) -> Tensor:
        """The rest of the way, from `lower`'s hidden states (..., E)."""
        for block in self.blocks[n:]:
            x = block(x, layout)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits: (..., E) -> (..., V)."""
        return self.tokens.logits(hidden)
