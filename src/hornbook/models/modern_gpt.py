"""A modern GPT: the decoder of nanochat (Karpathy 2025), small enough to train on a processor.

Against GPT-2 (`models.gpt`): rotary positions (Su et al. 2021), norms without weights and with no
mean, one of them right after the embedding, queries and keys normalised after their rotation
(Dehghani et al. 2023, section 2), squared ReLU (So et al. 2021), no biases, a head of its own, and
logits that cannot leave +-`logit_cap` (Gemma Team 2024, section 2). Optional: grouped queries
(Ainslie et al. 2023). Logits equal transformers' `NanoChatForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hornbook.nn.attention import SelfAttention, head_width
from hornbook.nn.feedforward import SquaredReLUFeedForward
from hornbook.nn.init import fan_in_, zero_
from hornbook.nn.layout import Layout, check_fits
from hornbook.nn.norms import rms_norm
from hornbook.nn.rotary import Rotary


@dataclass(frozen=True)
class ModernGPTConfig:
    """Sizes of a modern GPT; the defaults have 2.7M parameters at 65 characters.

    n_kv_heads: key/value heads, as many as n_heads when None. logit_cap: None for no bound.
    """

    vocab_size: int = 65
    context_length: int = 128
    n_layers: int = 6
    n_heads: int = 3
    d_model: int = 192
    d_ff: int = 768
    n_kv_heads: int | None = None
    rotary_base: float = 10000.0
    norm_epsilon: float = 1e-6
    logit_cap: float | None = 15.0


class Block(nn.Module):
    """Pre-norm decoder block. In and out: (..., E)."""

    def __init__(self, config: ModernGPTConfig) -> None:
        super().__init__()
        self.epsilon = config.norm_epsilon
        self.attention = SelfAttention(
            config.d_model,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            bias=False,
            causal=True,
        )
        self.feed_forward = SquaredReLUFeedForward(config.d_model, config.d_ff)

    def forward(self, x: Tensor, layout: Layout, turn: Callable[[Tensor], Tensor]) -> Tensor:
        x = x + self.attention(rms_norm(x, self.epsilon), layout, turn)
        return x + self.feed_forward(rms_norm(x, self.epsilon))


class ModernGPT(nn.Module):
    """The decoder: token ids (...) -> hidden states (..., E); `logits` reads them.

    init_outputs: first weights of the layers that add to the residual stream. At zero, the default,
    each block begins as the identity; `nn.init.scale_residual_` is GPT-2's choice.
    """

    def __init__(
        self,
        config: ModernGPTConfig,
        *,
        init_outputs: Callable[[list[nn.Linear]], None] = zero_,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.rotary = Rotary(
            head_width(config.d_model, config.n_heads),
            config.context_length,
            base=config.rotary_base,
            direction=-1,
        )
        blocks = [Block(config) for _ in range(config.n_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        nn.init.normal_(self.tokens.weight)  # normalised at once: only its direction matters
        fan_in_([layer for b in blocks for layer in (b.attention.qkv, b.feed_forward.up)])
        init_outputs([layer for b in blocks for layer in (b.attention.out, b.feed_forward.down)])
        nn.init.normal_(self.head.weight, std=0.001)  # the first guess: all tokens alike

    def forward(self, tokens: Tensor, layout: Layout) -> Tensor:
        """Raises ConfigError when a document is longer than the context."""
        check_fits(layout, self.config.context_length)
        epsilon = self.config.norm_epsilon
        rotate = self.rotary(layout.positions())

        def turn(heads: Tensor) -> Tensor:
            return rms_norm(rotate(heads), epsilon)

        x = rms_norm(self.tokens(tokens), epsilon)
        for block in self.blocks:
            x = block(x, layout, turn)
        return rms_norm(x, epsilon)

    def logits(self, hidden: Tensor) -> Tensor:
        """Next-token logits: (..., E) -> (..., V)."""
        logits = self.head(hidden)
        cap = self.config.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)
