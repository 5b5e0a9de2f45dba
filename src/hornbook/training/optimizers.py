"""Optimisers and their groups: who is trained by what, with which rate and decay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from hornbook.training.adamw_8bit import AdamW8bit, names_in_8_bits
from hornbook.training.muon import Muon
from hornbook.training.row_steps import RowSteps

Named = Iterable[tuple[str, nn.Parameter]]


class AnyOptimizer(Protocol):
    """What the loop and checkpoints ask of an optimiser: torch's own have it, and `Together`."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...
    def step(self) -> Any: ...
    def zero_grad(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def decay_groups(
    parameters: Named,
    *,
    lr: float,
    weight_decay: float,
    lr_scale: Callable[[str], float] = lambda name: 1.0,
) -> list[dict]:
    """Group trainable parameters by decay and learning rate.

    Only tensors of two or more dimensions decay (Loshchilov and Hutter 2019; biases and norms have
    no scale to shrink). lr_scale: factor by parameter name, e.g. for layer-wise rates (Howard and
    Ruder 2018, section 3.2) or a head that learns faster.
    """
    groups: dict[tuple[bool, float], dict] = {}
    for name, parameter in parameters:
        if not parameter.requires_grad:
            continue
        decays, rate = parameter.ndim >= 2, lr * lr_scale(name)
        group = groups.setdefault(
            (decays, rate),
            {"params": [], "lr": rate, "weight_decay": weight_decay if decays else 0.0},
        )
        group["params"].append(parameter)
    return list(groups.values())


def adamw(groups: list[dict], *, betas: tuple[float, float] = (0.9, 0.999)) -> Optimizer:
    """Fused AdamW over `decay_groups`; takes gradients by rows too, and steps by rows
    (`training.row_steps`)."""
    fused = all(_fusible(p) for g in groups for p in g["params"])
    optimizer = AdamW(groups, betas=betas, fused=fused)
    RowSteps(optimizer)
    return optimizer


def _fusible(parameter: Tensor) -> bool:
    return parameter.is_floating_point() and parameter.device.type in {"cpu", "cuda"}


@torch.no_grad()
def step_divided(optimizer: AnyOptimizer, gradients: list[Tensor], by: float) -> None:
    """Take a step on gradients divided by a number.

    gradients: all that the optimiser will see, dense or the values of sparse ones. Fused AdamW
    and the one of 8 bits divide as they read them; for others it is a pass of its own over all
    gradients.
    """
    plain = all(type(g) is Tensor for g in gradients)
    parts: list[Any] = optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]
    if plain and all(_divides(part) for part in parts):
        for part in parts:
            part.grad_scale = torch.tensor(by)  # as GradScaler does
        try:
            optimizer.step()
        finally:
            for part in parts:
                del part.grad_scale
    else:
        torch._foreach_mul_(gradients, 1 / by)
        optimizer.step()


def _divides(optimizer: Optimizer) -> bool:
    fused = isinstance(optimizer, AdamW) and optimizer.defaults["fused"]
    return bool(fused) or isinstance(optimizer, AdamW8bit)


class Together:
    """Several optimisers as one. They keep their own groups; `param_groups` are all of them."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """As one optimiser over all groups would give it: parameters are counted through."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for optimizer, first in zip(self.optimizers, self._firsts(), strict=True):
            own = optimizer.state_dict()
            state |= {first + i: values for i, values in own["state"].items()}
            groups += [
                g | {"params": [first + i for i in g["params"]]} for g in own["param_groups"]
            ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what `state_dict` gave. Raises ValueError (torch's) when the groups are others."""
        groups = list(state_dict["param_groups"])
        for optimizer, first in zip(self.optimizers, self._firsts(), strict=True):
            n_groups = len(optimizer.param_groups)
            own, groups = groups[:n_groups], groups[n_groups:]
            indices = {i for g in own for i in g["params"]}
            optimizer.load_state_dict(
                {
                    "state": {i - first: v for i, v in state_dict["state"].items() if i in indices},
                    "param_groups": [_counted_from(-first, group) for group in own],
                }
            )

    def _firsts(self) -> list[int]:
        """The number of each optimiser's first parameter, counted through all."""
        counts = [sum(len(g["params"]) for g in o.param_groups) for o in self.optimizers]
        return [sum(counts[:i]) for i in range(len(counts))]


def _counted_from(first: int, group: dict[str, Any]) -> dict[str, Any]:
    return group | {"params": [first + i for i in group["params"]]}


def is_hidden_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix of a block: neither embedding nor head, norm nor bias."""
    return parameter.ndim == 2 and "blocks." in name


def muon_and_adamw(
    parameters: Named,
    *,
    muon_lr: float = 0.02,
    muon_weight_decay: float = 0.0,
    lr: float = 1e-2,
    weight_decay: float = 0.0,
    momentum: float = 0.95,
    betas: tuple[float, float] = (0.9, 0.95),
    lr_scale: Callable[[str], float] = lambda name: 1.0,
    rule: Callable[[str, nn.Parameter], bool] = is_hidden_matrix,
    dtype: torch.dtype = torch.float32,
) -> Together:
    """Muon for the parameters that `rule` picks, fused AdamW for the others.

    muon_lr and lr: peak rates of the two. lr_scale: as in `decay_groups`, for AdamW's part. dtype:
    of Muon's products; `nn.precision` knows the fastest.
    """
    named = [(name, p) for name, p in parameters if p.requires_grad]
    matrices = [p for name, p in named if rule(name, p)]
    others = [(name, p) for name, p in named if not rule(name, p)]
    both: list[Optimizer] = []
    if matrices:
        both.append(
            Muon(
                matrices,
                lr=muon_lr,
                momentum=momentum,
                weight_decay=muon_weight_decay,
                dtype=dtype,
            )
        )
    if others:
        groups = decay_groups(others, lr=lr, weight_decay=weight_decay, lr_scale=lr_scale)
        both.append(adamw(groups, betas=betas))
    return Together(both)


def adamw_in_8_bits(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.999),
    lr_scale: Callable[[str], float] = lambda name: 1.0,
) -> Together:
    """AdamW with moments in 8 bits where they bear it (`names_in_8_bits`), fused for the rest.

    lr, weight_decay, lr_scale: as in `decay_groups`. Raises ValueError for a sharded model.
    """
    small = names_in_8_bits(model)
    rates: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "lr_scale": lr_scale}
    named = list(model.named_parameters())
    both: list[Optimizer] = []
    if groups := decay_groups([x for x in named if x[0] in small], **rates):
        both.append(AdamW8bit(groups, betas=betas))
    if groups := decay_groups([x for x in named if x[0] not in small], **rates):
        both.append(adamw(groups, betas=betas))
    return Together(both)


@dataclass(frozen=True)
class Assigned:
    """How one parameter is trained: a row of the list that `assignments` gives."""

    name: str
    shape: tuple[int, ...]
    optimizer: str  # "Muon", "AdamW", "AdamW8bit"; "" when it is frozen
    lr: float
    weight_decay: float


def assignments(parameters: Named, optimizer: AnyOptimizer) -> list[Assigned]:
    """Each parameter with its optimiser, rate and decay, in the model's order, for people."""
    rows: dict[int, tuple[str, float, float]] = {}
    for one in optimizer.optimizers if isinstance(optimizer, Together) else [optimizer]:
        for group in one.param_groups:
            for p in group["params"]:
                rows[id(p)] = (type(one).__name__, group["lr"], group["weight_decay"])
    return [
        Assigned(name, tuple(p.shape), *rows.get(id(p), ("", 0.0, 0.0))) for name, p in parameters
    ]
