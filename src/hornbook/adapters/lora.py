"""LoRA: learn a low-rank change of frozen matrices (Hu et al. 2021, "LoRA: Low-Rank Adaptation of
Large Language Models", section 4.1).

    attach(model, rank=16)       # every matched linear layer becomes a LoRALinear; all else frozen
    ... train ...
    merge(model)                 # W + alpha/rank * B A: plain layers again, nothing slower
    detach(model)                # or the base as it was, to the last bit

A layer may hold several changes, each under its adapter's name, one of them active:

    with switched_off(model): ...        # the base's numbers
    with using(model, "german"): ...     # another adapter's
    with merged(model): ...              # plain layers, and afterwards what was before
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hornbook.adapters.fused import Part, matrices, whole
from hornbook.adapters.heads import SwitchedHead
from hornbook.adapters.low_rank import Linear, LowRank, LowRankConfig
from hornbook.errors import CheckpointError, ConfigError, nearest
from hornbook.quantization import four_bits
from hornbook.quantization.four_bits import FourBitLinear

DEFAULT = "default"
ALL_BLOCK_LAYERS = r"(trunk\.)?(blocks|encoder|decoder)\.\d+\..*"


def block_layers(blocks: Iterable[int]) -> str:
    """The pattern of all linear layers in the blocks of those numbers."""
    return rf"blocks\.({'|'.join(map(str, blocks))})\..*"


class LoRALinear(nn.Module):
    """A frozen linear layer and changes of it, one active or none. (..., d_in) -> (..., d_out)."""

    def __init__(self, base: Linear) -> None:
        super().__init__()
        self.base: Linear = base.requires_grad_(False)
        self.changes = nn.ModuleDict()
        self.active: str | None = None

    def forward(self, x: Tensor) -> Tensor:
        change = self.change
        return self.base(x) if change is None else change(x, self.base)

    @property
    def change(self) -> LowRank | None:
        return None if self.active is None else self.changes[self.active]  # type: ignore[return-value]

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def weight(self) -> Tensor:
        """The base's, with the active change in it."""
        change, weight = self.change, self.base.weight
        return weight if change is None else change.into(weight)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain layer that gives what this one gives; the base is left as it is."""
        weight, bias = self.weight, self.bias
        layer = nn.Linear(self.in_features, self.out_features, bias is not None, device="meta")
        layer.weight = nn.Parameter(weight.clone() if self.active is None else weight)
        layer.register_parameter("bias", None if bias is None else nn.Parameter(bias.clone()))
        return layer.train(self.training)


def attach(
    model: nn.Module,
    *,
    rank: int,
    alpha: float | None = None,
    targets: str = ALL_BLOCK_LAYERS,
    dropout: float = 0.0,
    rank_stabilized: bool = False,
    divide: Callable[[nn.Module, str], list[Part]] = whole,
    kind: type[LowRank] = LowRank,
    adapter: str = DEFAULT,
) -> list[str]:
    """Freeze the model and adapt each linear layer whose name matches `targets` whole.

    divide: into which matrices a fused layer falls; `fused.matrices` for each its own, which also
    have names: `.*\\.qkv\\.(q|v)` adapts queries and values. kind: `LowRank` or `dora.Dora`.
    adapter: the name of this one among several. Returns the adapted layers' names. Raises
    ConfigError when none matches.
    """
    config = LowRankConfig(rank, alpha, dropout, rank_stabilized)
    chosen = matched(model, targets, divide)
    model.requires_grad_(False)
    for name, parts in chosen.items():
        layer = adaptable(model, name)
        add_change(layer, adapter, kind(layer.base, config, parts))
    return list(chosen)


def matched(
    model: nn.Module, targets: str, divide: Callable[[nn.Module, str], list[Part]] = matrices
) -> dict[str, list[Part]]:
    """Linear layers with those of their parts that match. Raises ConfigError when none does."""
    pattern, linear = _compiled(targets), linear_layers(model)
    chosen = {}
    for name in linear:
        parts = divide(model, name)
        if pattern.fullmatch(name) is None:
            parts = [p for p in parts if p.name and pattern.fullmatch(f"{name}.{p.name}")]
        if parts:
            chosen[name] = parts
    if not chosen:
        raise ConfigError(
            f"no linear layer's name matches '{targets}'", hint=f"There are: {linear[:12]}."
        )
    return chosen


def linear_layers(model: nn.Module) -> list[str]:
    """Names of layers that can be adapted, or are."""
    kinds = (nn.Linear, FourBitLinear, LoRALinear)
    found = [name for name, m in model.named_modules() if isinstance(m, kinds)]
    inner = tuple(f"{name}." for name in adapters(model))
    return [name for name in found if not inner or not name.startswith(inner)]


def adaptable(model: nn.Module, name: str) -> LoRALinear:
    """The layer of that name as a LoRALinear, made one where it is not."""
    layer = model.get_submodule(name)
    if isinstance(layer, LoRALinear):
        return layer
    assert isinstance(layer, Linear)
    adapted = LoRALinear(layer).train(layer.training)
    _put(model, name, adapted)
    return adapted


def add_change(layer: LoRALinear, adapter: str, change: LowRank) -> None:
    """Give a layer one more change, which is then the active one."""
    device = next(layer.base.buffers(), None)
    device = next(layer.base.parameters(), device)
    layer.changes[adapter] = change if device is None else change.to(device.device)
    layer.changes[adapter].train(layer.training)
    layer.active = adapter


def adapters(model: nn.Module) -> dict[str, LoRALinear]:
    """The adapted layers by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoRALinear)}


def names(model: nn.Module) -> list[str]:
    """The adapters that the model holds, in order of arrival."""
    return list(dict.fromkeys(n for layer in adapters(model).values() for n in layer.changes))


@contextmanager
def switched_off(model: nn.Module) -> Iterator[None]:
    """The base's numbers inside this block, to the last bit. A head that was trained with the
    adapter stays, unless the model holds several (`heads.SwitchedHead`)."""
    with _active(model, None):
        yield


@contextmanager
def using(model: nn.Module, adapter: str) -> Iterator[None]:
    """Another adapter inside this block, with its head; layers it doesn't change are the base's.

    Raises ConfigError for an adapter that the model doesn't hold.
    """
    if adapter not in names(model):
        raise ConfigError(f"there is no adapter '{adapter}'", hint=nearest(adapter, names(model)))
    with _active(model, adapter):
        yield


@contextmanager
def _active(model: nn.Module, adapter: str | None) -> Iterator[None]:
    parts = [m for m in model.modules() if isinstance(m, LoRALinear | SwitchedHead)]
    before = [part.active for part in parts]
    for part in parts:
        choices = part.changes if isinstance(part, LoRALinear) else part.heads
        part.active = adapter if adapter and adapter in choices else None
    try:
        yield
    finally:
        for part, was in zip(parts, before, strict=True):
            part.active = was


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Plain layers with the change in them inside this block: nothing is slower there. Afterwards
    the adapters are apart again, and the base has the bits it had."""
    layers = adapters(model)
    for name, layer in layers.items():
        _put(model, name, layer.merged())
    try:
        yield
    finally:
        for name, layer in layers.items():
            _put(model, name, layer)


def merge(model: nn.Module) -> None:
    """Add each active change to its base for good, layer by layer, and make floats of what is in 4
    bits; unfreezes the model."""
    for name, layer in adapters(model).items():
        _put(model, name, layer.merged())
    for name, part in list(model.named_modules()):
        if isinstance(part, SwitchedHead):
            _put(model, name, part.current)
    four_bits.restore(model)
    model.requires_grad_(True)


def detach(model: nn.Module) -> None:
    """Put the bases back as they were; unfreezes the model."""
    for name, layer in adapters(model).items():
        _put(model, name, layer.base)
    model.requires_grad_(True)


def state(model: nn.Module) -> dict[str, Tensor]:
    """The active adapter's own weights: name.a and name.b (name.magnitude) of each layer."""
    return {name: parameter.detach() for name, parameter in own_parameters(model).items()}


def load_state(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Fill the active adapter. Raises CheckpointError when names or shapes differ."""
    mine = own_parameters(model)
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


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The active adapter's parameters: name.a, name.b (name.magnitude) of each layer."""
    return {
        f"{name}.{part}": parameter
        for name, layer in adapters(model).items()
        if layer.change is not None
        for part, parameter in layer.change.named_parameters()
    }


def _compiled(targets: str) -> re.Pattern[str]:
    try:
        return re.compile(targets)
    except re.error as error:
        raise ConfigError(
            f"'{targets}' is no pattern of names: {error}",
            hint="A regular expression that matches whole names, such as '.*attention.*'.",
        ) from error


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
