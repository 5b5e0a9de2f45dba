"""Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.nn.layout import Layout


class SelfAttention(nn.Module):
    """Every token looks at tokens of its own document. In and out: (..., E).

    Queries, keys and values come from one matrix product (`qkv`, in this order): three times the
    work per call keeps a small processor's cores busier than three calls.
    """

    def __init__(
        self, d_model: int, n_heads: int, *, causal: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ConfigError(
                f"d_model ({d_model}) must be a multiple of n_heads ({n_heads})",
                hint=f"Try n_heads in {[n for n in range(1, 33) if d_model % n == 0]}.",
            )
        self.n_heads = n_heads
        self.causal = causal
        self.dropout = dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.n_heads, -1)).unbind(-3)  # each (..., H, D)
        dropout = self.dropout if self.training else 0.0
        mixed = layout.attend(q, k, v, causal=self.causal, dropout=dropout)
        return self.out(mixed.flatten(-2))
