"""Turning a model's features so that no feature is far larger than the rest.

A language model keeps a few features tens of times as large as the others; eight bits for all of
them leave the others little. Multiplied by an orthogonal matrix the large ones are spread over
all, and the turn is undone in the next matrix, once and for all: the model computes the same
(Ashkboos et al. 2024, "QuaRot", section 4.1).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor

LONGEST = 128  # features that are mixed while the model runs
N_BY_ROW = 64  # a text or several that are written, not a prompt


def orthogonal(size: int) -> Tensor:
    """A random orthogonal matrix (size, size), the same each time."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return torch.linalg.qr(noise)[0].float()


@lru_cache(maxsize=1)
def is_compiled() -> bool:
    """Whether numba is installed."""
    return find_spec("numba") is not None


def by_row(x: Tensor, turn: Tensor) -> Tensor:
    """x @ turn, (T, E), each row's sums in one order where there are few rows.

    A library multiplies one row otherwise than eight, and with one thread otherwise than with two,
    and rounds otherwise: a row is to change neither with its neighbours nor with the threads.
    """
    if len(x) > N_BY_ROW:
        return x @ turn
    if not is_compiled() or x.device.type != "cpu":
        return torch.stack([(row.unsqueeze(1) * turn).sum(0) for row in x])
    from hornbook.quantization import between_compiled as compiled

    out = torch.empty(len(x), turn.shape[1])
    compiled.turned(x.contiguous().numpy(), turn.numpy(), out.numpy())
    return out


def n_mixed(size: int) -> int:
    """How many features `mix` mixes: the largest power of two up to 128 that divides their number,
    1 for none."""
    n = 1
    while n < LONGEST and size % (2 * n) == 0:
        n *= 2
    return n


def hadamard(n: int) -> Tensor:
    """The Hadamard matrix of a power of two, (n, n): entries +-1, H H = n."""
    matrix = torch.ones(1, 1)
    while len(matrix) < n:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix


def mix(x: Tensor) -> Tensor:
    """Features (..., F) taken as a table of n rows, and each column times `hadamard(n)`."""
    n = n_mixed(x.shape[-1])
    if n == 1:
        return x
    return (hadamard(n).to(x) @ x.unflatten(-1, (n, -1))).flatten(-2)


def unmixing(weight: Tensor) -> Tensor:
    """The matrix (d_out, F) that does to `mix(x)` what `weight` does to x."""
    return mix(weight) / n_mixed(weight.shape[1])
