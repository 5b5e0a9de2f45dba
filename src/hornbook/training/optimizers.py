"""AdamW with the usual two groups: matrices decay, biases and norms do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


def decay_groups(
    parameters: Iterable[tuple[str, nn.Parameter]],
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
    """Fused AdamW over `decay_groups`."""
    return AdamW(groups, betas=betas, fused=all(_fusible(p) for g in groups for p in g["params"]))


def _fusible(parameter: torch.Tensor) -> bool:
    return parameter.is_floating_point() and parameter.device.type in {"cpu", "cuda"}
