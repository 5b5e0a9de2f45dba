"""How fast this machine multiplies and moves: products and additions, timed for half a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hornbook.nn.precision import DTYPES


@dataclass(frozen=True)
class Speed:
    """FLOP/s of large products (`peak`) and of the model's own (`product`); bytes/s that simple
    operations read and write together; seconds that one call costs, however small its tensors."""

    peak: float
    product: float
    bandwidth: float
    call: float


def measure_speed(
    n_tokens: int, d_model: int, d_ff: int, *, dtype: str = "float32", device: str = "cpu"
) -> Speed:
    """Time products of (n_tokens, d_model) with (d_model, d_ff), larger ones, and additions."""
    format_ = DTYPES[dtype]
    n_tokens = min(n_tokens, 4096)

    def product(rows: int, inner: int, columns: int) -> float:
        x = torch.ones(rows, inner, dtype=format_, device=device)
        weight = torch.ones(columns, inner, dtype=format_, device=device)
        return 2 * rows * inner * columns / _seconds(lambda: F.linear(x, weight), device)

    with torch.inference_mode():
        own = product(n_tokens, d_model, d_ff)
        large = torch.ones(2**21, device=device)
        into = torch.empty_like(large)
        one = torch.ones(1, device=device)
        return Speed(
            peak=max(own, product(1024, 1024, 1024)),
            product=own,
            bandwidth=3
            * 4
            * large.numel()
            / _seconds(lambda: torch.add(large, large, out=into), device),
            call=_seconds(lambda: one + one, device),
        )


def _seconds(run: Callable[[], object], device: str, budget: float = 0.08) -> float:
    """The least of some runs within the budget, the first one aside, which builds kernels."""
    run()
    _wait(device)
    least, start = float("inf"), time.perf_counter()
    while (begin := time.perf_counter()) - start < budget:
        run()
        _wait(device)
        least = min(least, time.perf_counter() - begin)
    return least


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
