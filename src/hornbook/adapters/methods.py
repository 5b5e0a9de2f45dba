"""What of a model learns: all of it, its head, its last blocks, or an adapter beside it.

full     every weight
head     the head alone, on a frozen trunk
last-N   the last N blocks, the norm behind them and the head
lora     low-rank changes of frozen matrices (`adapters.lora`), and the head
dora     the same, and the length of each row (`adapters.dora`)
qlora    lora beside matrices in 4 bits (`quantization.four_bits`)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from hornbook.adapters import lora
from hornbook.adapters.dora import Dora
from hornbook.adapters.fused import matrices
from hornbook.adapters.low_rank import LowRank
from hornbook.errors import ConfigError, nearest
from hornbook.quantization import four_bits
from hornbook.quantization.reconstruction import reconstructed

METHODS = ("full", "head", "last-1", "last-2", "lora", "dora", "qlora")
WITH_ADAPTER = ("lora", "dora", "qlora")
_LAST = re.compile(r"last-(\d+)")
_BLOCK = re.compile(r"(?:trunk\.)?(?:(encoder|decoder)|blocks)\.(\d+)\.")


@dataclass(frozen=True)
class Prepared:
    """trainable: names of parameters. n_trainable of n_total numbers learn. adapted: layers that
    hold an adapter."""

    trainable: tuple[str, ...]
    n_trainable: int
    n_total: int
    adapted: tuple[str, ...] = ()


def prepare(
    model: nn.Module,
    method: str,
    *,
    rank: int = 16,
    alpha: float | None = None,
    dropout: float = 0.0,
    targets: str | None = None,
    rank_stabilized: bool = False,
    read: Callable[[], object] | None = None,
) -> Prepared:
    """Make a model ready to be trained by a method; what does not learn is frozen.

    model: a trunk with a head (`.trunk`, `.head`; the head always learns) or a bare decoder. rank
    and what follows: of adapters; a fused layer gets one for each of its matrices; targets: a
    pattern of layers' whole names, all linear layers of the blocks when None. read: has the model
    read something, by which qlora puts back what rounding costs most; without it nothing is.

    Raises ConfigError for a method that isn't one, or that this model can't follow.
    """
    check_method(method)
    head = getattr(model, "head", None) if hasattr(model, "trunk") else None
    n_base = sum(p.numel() for p in model.parameters())
    adapted: list[str] = []
    if method == "full":
        model.requires_grad_(True)
    elif method in WITH_ADAPTER:
        pattern = targets or lora.ALL_BLOCK_LAYERS
        kind = Dora if method == "dora" else LowRank
        adapted = lora.attach(
            model,
            rank=rank,
            alpha=alpha,
            targets=pattern,
            dropout=dropout,
            rank_stabilized=rank_stabilized,
            divide=matrices,
            kind=kind,
        )
        if method == "qlora":
            rounded = reconstructed(model, four_bits.matching(model), read) if read else None
            four_bits.attach(model, rounded=rounded)
    else:
        model.requires_grad_(False)
        if last := _LAST.fullmatch(method):
            _unfreeze_last(model, int(last[1]))
        elif head is None:
            raise ConfigError(
                "the method 'head' needs a model with a head of its own, this one has none",
                hint="Take lora, last-1 or full.",
            )
    if head is not None:
        head.requires_grad_(True)
    learning = {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}
    n_added = sum(p.numel() for name, p in lora.own_parameters(model).items())
    return Prepared(tuple(learning), sum(learning.values()), n_base + n_added, tuple(adapted))


def check_method(method: str) -> None:
    """Raises ConfigError for a name that is no method."""
    if method not in METHODS and not ((last := _LAST.fullmatch(method)) and int(last[1]) > 0):
        raise ConfigError(
            f"there is no method '{method}'",
            hint=nearest(method, METHODS) + " Any last-N with N of 1 and more.",
        )


def _unfreeze_last(model: nn.Module, n: int) -> None:
    """The last n blocks, of an encoder-decoder the decoder's, and a norm behind them."""
    found = {name: _BLOCK.match(name) for name, _ in model.named_parameters()}
    numbers = {int(m[2]) for m in found.values() if m and m[1] != "encoder"}
    if n > len(numbers):
        raise ConfigError(
            f"last-{n} of a model of {len(numbers)} blocks",
            hint=f"Take at most last-{len(numbers)}, or full." if numbers else "Take full.",
        )
    for name, parameter in model.named_parameters():
        block = found[name]
        in_last = block and block[1] != "encoder" and int(block[2]) >= len(numbers) - n
        if in_last or re.fullmatch(r"(trunk\.)?norm\.\w+", name):
            parameter.requires_grad_(True)
