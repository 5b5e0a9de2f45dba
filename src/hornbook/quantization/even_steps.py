"""Matrices that were in 4 bits already, recognised by their numbers.

llama.cpp's formats Q4_0 and Q4_1 keep sixteen even steps for each block of 32 weights,

    weight = low + step * q        q: 0 ... 15; low and step in 16 bits; Q4_0: low = -8 step

and a model that is read from such a file has floats with nothing in between. Rounding these to
other sixteen values would cost as much as it costs any weights, and they fit in 4 bits as they are.
Not recognised are formats whose steps are of fewer bits, such as Q4_K, and blocks that do not use
their outermost steps, as an importance matrix may have it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 32


@dataclass(frozen=True)
class EvenSteps:
    """numbers: (d_out, d_in) uint8 below 16. steps, lows: (d_out * d_in / 32,) float16."""

    numbers: Tensor
    steps: Tensor
    lows: Tensor


def found_in(weight: Tensor) -> EvenSteps | None:
    """How a matrix (d_out, d_in) was kept, if all its numbers are such steps to the last bit."""
    if weight.shape[1] % BLOCK:
        return None
    blocks = weight.detach().float().reshape(-1, BLOCK)
    # Most matrices are none, which a few of their blocks tell.
    if any(_as(blocks[:64], *ends) for ends in _ends(blocks[:64])):
        for ends in _ends(blocks):
            if found := _as(blocks, *ends):
                return EvenSteps(found.numbers.view(weight.shape), found.steps, found.lows)
    return None


def _ends(blocks: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Step and low of each block, if it is in Q4_1, and if in Q4_0: there the number that is
    farthest from 0 is -8 steps, whatever its sign."""
    least, most = blocks.aminmax(dim=1)
    step = torch.where(-least > most, least, most) / -8
    return [((most - least) / 15, least), (step, -8 * step)]


def _as(blocks: Tensor, step: Tensor, low: Tensor) -> EvenSteps | None:
    step, low = step.half(), low.half()
    per, begin = step.float()[:, None], low.float()[:, None]
    numbers = ((blocks - begin) / per).round().nan_to_num(0.0).clamp(0, 15)  # a step may be 0
    if not torch.equal(begin + per * numbers, blocks):
        return None
    return EvenSteps(numbers.to(torch.uint8), step, low)
