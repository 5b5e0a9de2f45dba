"""Multi-head self-attention (Vaswani et al. 2017, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hornbook.errors import ConfigError
from hornbook.nn.layout import Layout, picked

KeysValues = tuple[Tensor, Tensor]


class SelfAttention(nn.Module):
    """Every token looks at tokens of its own document. In and out: (..., E).

    Queries, keys and values come from one matrix product (`qkv`, in this order): three times the
    work per call keeps a small processor's cores busier than three calls. With fewer
    `n_kv_heads` than `n_heads`, neighbouring queries share a key and a value (Ainslie et al. 2023).

    Raises ConfigError when the width cannot be divided as asked.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        bias: bool = True,
        causal: bool = False,
        window: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        d_head = head_width(d_model, n_heads)
        self.n_heads = n_heads
        self.n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if n_heads % self.n_kv_heads:
            raise ConfigError(
                f"n_heads ({n_heads}) must be a multiple of n_kv_heads ({n_kv_heads})",
                hint=f"Try n_kv_heads in {[n for n in range(1, n_heads + 1) if n_heads % n == 0]}.",
            )
        self.causal = causal
        self.window = window
        self.dropout = dropout
        self.qkv = nn.Linear(d_model, (n_heads + 2 * self.n_kv_heads) * d_head, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        turn: Callable[[Tensor], Tensor] | None = None,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """turn: what is done to queries and keys (..., H + G, D), such as a rotation. wanted: the
        tokens to give, as `nn.layout.picked` says, which makes them (n, E)."""
        n_turned = self.n_heads + self.n_kv_heads
        heads = self.qkv(x).unflatten(-1, (n_turned + self.n_kv_heads, -1))
        qk, v = heads.split((n_turned, self.n_kv_heads), -2)
        q, k = (turn(qk) if turn else qk).split((self.n_heads, self.n_kv_heads), -2)
        dropout = self.dropout if self.training else 0.0
        mixed = layout.attend(q, k, v, causal=self.causal, window=self.window, dropout=dropout)
        return self.out(picked(mixed.flatten(-2), wanted))


class CrossAttention(nn.Module):
    """Every token looks at all tokens of another text. Queries (..., E), memory (..., E).

    The memory may also be what `read` made of it, where it is looked at again and again.
    """

    def __init__(self, d_model: int, n_heads: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        head_width(d_model, n_heads)
        self.n_heads = n_heads
        self.dropout = dropout
        self.q = nn.Linear(d_model, d_model)
        self.kv = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def read(self, memory: Tensor) -> KeysValues:
        """Keys and values of a memory: (..., E) -> (..., H, D) each."""
        k, v = self.kv(memory).unflatten(-1, (2, self.n_heads, -1)).unbind(-3)
        return k, v

    def forward(
        self, x: Tensor, layout: Layout, memory: Tensor | KeysValues, memory_layout: Layout
    ) -> Tensor:
        q = self.q(x).unflatten(-1, (self.n_heads, -1))
        k, v = memory if isinstance(memory, tuple) else self.read(memory)
        dropout = self.dropout if self.training else 0.0
        return self.out(layout.attend_to(memory_layout, q, k, v, dropout=dropout).flatten(-2))


def head_width(d_model: int, n_heads: int) -> int:
    """d_model / n_heads. Raises ConfigError with the nearest that work when it is not whole."""
    if n_heads < 1 or d_model % n_heads:
        n = max(n_heads, 1)
        divisors = [i for i in range(1, d_model + 1) if d_model % i == 0]
        nearest = [i for i in divisors if i < n][-1:] + [i for i in divisors if i > n][:1]
        below = d_model - d_model % n
        widths = [width for width in (below, below + n) if width > 0]
        raise ConfigError(
            f"d_model ({d_model}) must be a multiple of n_heads ({n_heads})",
            hint=f"The nearest that work: n_heads {nearest}, or d_model {widths}.",
        )
    return d_model // n_heads
