"""What an optimiser takes: the bytes it remembers, and the seconds of an update."""

from __future__ import annotations

from typing import Literal

from torch import nn

from hornbook.evaluation.speed import Speed
from hornbook.models.presets import count_parameters
from hornbook.training.adamw_8bit import moments_bytes, names_in_8_bits
from hornbook.training.optimizers import is_hidden_matrix

Optimizer = Literal["adamw", "muon", "adamw-8bit"]
SLOWER_IN_8_BITS = 9  # times AdamW's time for the same numbers: experiments/LOG.md


def optimizer_bytes(model: nn.Module, optimizer: Optimizer) -> int:
    """Two numbers a parameter for AdamW, one for Muon's; bytes and scales in 8 bits."""
    if optimizer == "adamw-8bit":
        return moments_bytes(model)
    return sum(
        parameter.numel() * (4 if optimizer == "muon" and is_hidden_matrix(name, parameter) else 8)
        for name, parameter in model.named_parameters()
    )


def update_seconds(model: nn.Module, optimizer: Optimizer, speed: Speed) -> float:
    """AdamW reads weight, gradient and two moments and writes three; Muon multiplies besides, and
    what packs its moments computes where AdamW waits for the memory."""
    seconds = 7 * 4 * count_parameters(model) / speed.bandwidth
    if optimizer == "adamw-8bit":
        small = names_in_8_bits(model)
        n_packed = sum(p.numel() for name, p in model.named_parameters() if name in small)
        seconds += (SLOWER_IN_8_BITS - 1) * 7 * 4 * n_packed / speed.bandwidth
    if optimizer == "muon":
        for name, parameter in model.named_parameters():
            if is_hidden_matrix(name, parameter):
                rows, columns = sorted(parameter.shape[-2:])
                # Five Newton-Schulz iterations of X X', its square, and their product with X.
                seconds += 5 * 2 * (2 * rows**2 * columns + rows**3) / speed.reached
    return seconds
