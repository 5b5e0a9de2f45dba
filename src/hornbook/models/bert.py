"""BERT: a bidirectional encoder (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional
Transformers for Language Understanding").

As published: learned positions, segment embeddings, post-norm blocks, exact GELU, a tanh pooler
over the first token, and a masked-LM head whose matrix is the token embedding's. Different:
queries, keys and values share one matrix product, and a batch may lie ragged (`nn.layout`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.nn.attention import SelfAttention
from hornbook.nn.feedforward import FeedForward
from hornbook.nn.init import normal_
from hornbook.nn.layout import Layout, check_fits, picked


@dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT; the defaults are MiniLM-L6's, 22.7M parameters. dropout is a probability."""

    vocab_size: int = 30522
    context_length: int = 512
    n_layers: int = 6
    n_heads: int = 12
    d_model: int = 384
    d_ff: int = 1536
    n_segments: int = 2
    norm_epsilon: float = 1e-12
    dropout: float = 0.0


class Embeddings(nn.Module):
    """Token + position + segment, normalised (section 3, figure 2). (...) ids -> (..., E)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        self.segments = nn.Embedding(config.n_segments, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor, segments: Tensor | None) -> Tensor:
        # Without segments every token belongs to the first: one row, added to all.
        segment = self.segments.weight[0] if segments is None else self.segments(segments)
        return self.dropout(self.norm(self.tokens(tokens) + self.positions(positions) + segment))


class Block(nn.Module):
    """Post-norm encoder block: normalise after each residual sum. (..., E) -> (..., E), or (n, E)
    of the `wanted` tokens alone (`nn.layout.picked`)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.d_model, config.n_heads, dropout=config.dropout)
        self.norm_1 = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.feed_forward = FeedForward(config.d_model, config.d_ff, activation=F.gelu)
        self.norm_2 = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, layout: Layout, wanted: Tensor | None = None) -> Tensor:
        mixed = self.attention(x, layout, wanted=wanted)
        x = self.norm_1(picked(x, wanted) + self.dropout(mixed))
        return self.norm_2(x + self.dropout(self.feed_forward(x)))


class Bert(nn.Module):
    """The encoder: token ids (...) -> hidden states (..., E), or (n, E) of the `wanted` tokens
    (`nn.layout.picked`)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        normal_(self)

    def forward(
        self,
        tokens: Tensor,
        layout: Layout,
        segments: Tensor | None = None,
        *,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """Raises ConfigError when a document is longer than the context."""
        return self.upper(self.lower(tokens, layout, 0, segments), layout, 0, wanted)

    def lower(
        self, tokens: Tensor, layout: Layout, n: int, segments: Tensor | None = None
    ) -> Tensor:
        """The hidden states after the first `n` blocks: what a frozen lower part computes once."""
        check_fits(layout, self.config.context_length)
        x = self.embeddings(tokens, layout.positions(), segments)
        for block in self.blocks[:n]:
            x = block(x, layout)
        return x

    def upper(self, x: Tensor, layout: Layout, n: int, wanted: Tensor | None = None) -> Tensor:
        """The rest of the way, from `lower`'s hidden states (..., E)."""
        if n == len(self.blocks):
            return picked(x, wanted)
        for block in self.blocks[n:-1]:
            x = block(x, layout)
        return self.blocks[-1](x, layout, wanted)

    def token_embedding(self) -> Tensor:
        """The matrix (V, E) that a head may tie itself to."""
        return self.embeddings.tokens.weight

    def masked_lm_head(self) -> MaskedLMHead:
        """A fresh head for `tasks.masked_lm`."""
        return MaskedLMHead(self.config)


class Pooler(nn.Module):
    """The first token's hidden state through a dense tanh layer: (N, E) -> (N, E)."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.dense = nn.Linear(d_model, d_model)
        normal_(self)

    def forward(self, first: Tensor) -> Tensor:
        return torch.tanh(self.dense(first))


class NextSentenceHead(nn.Module):
    """Does the second text follow the first? First tokens (N, E) -> logits (N, 2), "yes" first."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.pooler = Pooler(d_model)
        self.choice = nn.Linear(d_model, 2)
        normal_(self)

    def forward(self, first: Tensor) -> Tensor:
        return self.choice(self.pooler(first))


class MaskedLMHead(nn.Module):
    """Which token stood here? (..., E) -> logits (..., V); the matrix is the embedding's (tied)."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, eps=config.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        normal_(self)

    def forward(self, hidden: Tensor, token_embedding: Tensor) -> Tensor:
        x = self.norm(F.gelu(self.dense(hidden)))
        return F.linear(x, token_embedding, self.bias)
