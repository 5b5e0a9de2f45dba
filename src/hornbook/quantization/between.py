"""What a Llama does between its products, from sums of bytes to bytes again, in torch.

Each function takes the last product's whole sums (T, d_out), and returns the bytes of the next
product's inputs with a step (T,) for each row: byte * step is the number. `between_compiled` is
the same for a few rows, where calling torch would cost more than computing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from hornbook.quantization.rotation import mix

Bytes = tuple[Tensor, Tensor]


def to_bytes(x: Tensor) -> Bytes:
    """Each row's largest number becomes 127 or -127: (T, d) -> int8 (T, d), steps (T,)."""
    largest = x.abs().amax(1, keepdim=True).clamp(min=1e-30)
    return (x * (127 / largest)).round_().to(torch.int8), (largest / 127).squeeze(1)


def floats(sums: Tensor, scales: Tensor, steps: Tensor) -> Tensor:
    """What a product's sums stand for."""
    return (sums * scales).mul_(steps.unsqueeze(1))


def norm(x: Tensor, epsilon: float) -> Bytes:
    """RMSNorm without a gain. Its factor goes into the step: the bytes are those of x."""
    x8, steps = to_bytes(x)
    return x8, steps * torch.rsqrt(torch.linalg.vecdot(x, x) / x.shape[1] + epsilon)


def add_and_norm(sums: Tensor, scales: Tensor, steps: Tensor, x: Tensor, epsilon: float) -> Bytes:
    """Add a product to the residual stream x, in place, and normalise that."""
    x += floats(sums, scales, steps)
    return norm(x, epsilon)


def attend(
    sums: Tensor,
    scales: Tensor,
    steps: Tensor,
    shape: tuple[int, int, int],
    turn: Callable[[Tensor], Tensor],
    mixed: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Bytes:
    """Attention. shape: heads H, key heads G, their width D; the sums hold queries, keys, values.
    turn: the rotation of positions; mixed: attention itself, of q (T, H, D), k and v (T, G, D)."""
    n_heads, n_kv_heads, d_head = shape
    heads = floats(sums, scales, steps).unflatten(1, (-1, d_head))
    q, k = turn(heads[:, :-n_kv_heads]).split((n_heads, n_kv_heads), 1)
    return to_bytes(mixed(q, k, heads[:, -n_kv_heads:]).flatten(1))


def gate(sums: Tensor, scales: Tensor, steps: Tensor) -> Bytes:
    """SwiGLU of what the sums hold, gates first, then mixed."""
    opened, up = floats(sums, scales, steps).chunk(2, 1)
    return to_bytes(mix(F.silu(opened).mul_(up)))
