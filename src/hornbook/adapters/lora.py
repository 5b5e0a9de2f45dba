"""LoRA: learn a low-rank change of frozen matrices (Hu et al. 2021, "LoRA: Low-Rank Adaptation of
Large Language Models", section 4.1).

    attach(model, rank=16)       # every matched nn.Linear becomes a LoRALinear; all else is frozen
    ... train ...
    merge(model)                 # W + alpha/rank * B A: plain layers again, nothing slower
    detach(model)                # or the base as it was, to the last bit
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.errors import CheckpointError, ConfigError

_LAYERS = r"(attention\.(qkv|out)|feed_forward\.(up|down))"
ALL_BLOCK_LAYERS = rf"blocks\.\d+\.{_LAYERS}"


def block_layers(blocks: Iterable[int]) -> str:
    """The pattern of all linear layers in the blocks of those numbers."""
    return rf"blocks\.({'|'.join(map(str, blocks))})\.{_LAYERS}"


class LoRALinear(nn.Module):
    """A frozen linear layer plus (alpha / rank) B A x. x: (..., d_in) -> (..., d_out).

    A starts as Kaiming-uniform noise and B as zeros, so that a fresh adapter changes nothing.
    """

    def __init__(self, base: nn.Linear, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.scale = alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.a), self.b * self.scale)

    def merged(self) -> nn.Linear:
        """The base layer with the change added to its weight, in place."""
        with torch.no_grad():
            self.base.weight += (self.b @ self.a * self.scale).to(self.base.weight.dtype)
        return self.base.requires_grad_(True)


def attach(
    model: nn.Module, *, rank: int, alpha: float | None = None, targets: str = ALL_BLOCK_LAYERS
) -> list[str]:
    """Freeze the model and adapt each linear layer whose name matches `targets` whole.

    alpha defaults to 2 * rank. Returns the adapted names. Raises ConfigError when none matches.
    """
    if rank < 1:
        raise ConfigError(f"LoRA's rank is {rank}", hint="It must be at least 1; 8 to 32 is usual.")
    pattern = re.compile(targets)
    linear = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    names = [name for name in linear if pattern.fullmatch(name)]
    if not names:
        raise ConfigError(
            f"no linear layer's name matches '{targets}'", hint=f"There are: {list(linear)[:12]}."
        )
    model.requires_grad_(False)
    for name in names:
        layer = LoRALinear(linear[name], rank=rank, alpha=2 * rank if alpha is None else alpha)
        _put(model, name, layer)
    return names


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def merge(model: nn.Module) -> None:
    """Add each change to its base and put plain linear layers back; unfreezes the model."""
    for name, layer in adapters(model).items():
        _put(model, name, layer.merged())
    model.requires_grad_(True)


def detach(model: nn.Module) -> None:
    """Put the bases back as they were; unfreezes the model."""
    for name, layer in adapters(model).items():
        _put(model, name, layer.base)
    model.requires_grad_(True)


def state(model: nn.Module) -> dict[str, Tensor]:
    """The adapter's own weights: name.a (rank, d_in) and name.b (d_out, rank) of each layer."""
    return {
        f"{name}.{part}": getattr(layer, part).detach()
        for name, layer in adapters(model).items()
        for part in ("a", "b")
    }


def load_state(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill attached adapters. Raises CheckpointError when names or shapes differ."""
    mine = {
        f"{name}.{part}": getattr(layer, part)
        for name, layer in adapters(model).items()
        for part in ("a", "b")
    }
    wrong = sorted(mine.keys() ^ weights.keys()) or [
        name for name in mine if mine[name].shape != weights[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"the adapter does not fit the model: {wrong}",
            hint="Attach with the rank and targets it was trained with, to the same base.",
        )
    with torch.no_grad():
        for name, parameter in mine.items():
            parameter.copy_(weights[name])


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
