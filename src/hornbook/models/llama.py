"""Llama: a causal decoder (Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language
Models"; grouped queries as in Llama 2, Touvron et al. 2023).

As published: rotary positions, RMSNorm before each part and at the end, SwiGLU, no biases, a head
of its own. Optional: a head tied to the token embedding, as small members of the family have.
Different: queries, keys and values share one matrix product, and so do the gate and what it gates.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.nn.attention import SelfAttention, head_width
from hornbook.nn.embedding import TokenEmbedding
from hornbook.nn.feedforward import GatedFeedForward
from hornbook.nn.init import normal_
from hornbook.nn.layout import Layout, check_fits
from hornbook.nn.norms import RMSNorm
from hornbook.nn.rotary import Rotary, Rotation, Stretch


@dataclass(frozen=True)
class LlamaConfig:
    """Sizes of a Llama; the defaults are the first 7B's, 6,738,415,616 parameters.

    n_kv_heads: key/value heads, as many as n_heads when None. rotary_stretch: of members whose
    context was lengthened (Llama 3.1).
    """

    vocab_size: int = 32000
    context_length: int = 2048
    n_layers: int = 32
    n_heads: int = 32
    d_model: int = 4096
    d_ff: int = 11008
    n_kv_heads: int | None = None
    rotary_base: float = 10000.0
    rotary_stretch: Stretch | None = None
    norm_epsilon: float = 1e-6
    tied_head: bool = False


class Block(nn.Module):
    """Pre-norm decoder block (section 2.2). In and out: (..., E)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.norm_1 = RMSNorm(config.d_model, config.norm_epsilon)
        self.attention = SelfAttention(
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            bias=False,
            causal=True,
        )
        self.norm_2 = RMSNorm(config.d_model, config.norm_epsilon)
        self.feed_forward = GatedFeedForward(config.d_model, config.d_ff, activation=F.silu)

    def forward(self, x: Tensor, layout: Layout, rotation: Rotation) -> Tensor:
        x = x + self.attention(self.norm_1(x), layout, rotation)
        return x + self.feed_forward(self.norm_2(x))


class Llama(nn.Module):
    """The decoder: token ids (...) -> hidden states (..., E); `logits` reads them."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = TokenEmbedding(config.vocab_size, config.d_model)
        self.rotary = Rotary(
            head_width(config.d_model, config.n_heads),
            config.context_length,
            base=config.rotary_base,
            stretch=config.rotary_stretch,
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = RMSNorm(config.d_model, config.norm_epsilon)
        self.head = (
            None if config.tied_head else nn.Linear(config.d_model, config.vocab_size, bias=False)
        )
        normal_(self)

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Raises ConfigError when a document is longer than the context."""
        check_fits(layout, self.config.context_length)
        rotation = self.rotary(layout.positions())
        x = self.tokens(tokens)
        for block in self.blocks:
            x = block(x, layout, rotation)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits: (..., E) -> (..., V)."""
        return self.tokens.logits(hidden) if self.head is None else self.head(hidden)
