"""The one file that imports accelerate: devices, processes, mixed precision, trackers.

Under `accelerate launch` or torchrun the same recipe joins the other processes; `spread` then has
the model trained by all of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import GradScalerKwargs, LoggerType, set_seed
from torch import nn

from hornbook.errors import ConfigError, UnavailableError, nearest
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import Precision, choose_precision

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}
# The usual first scale, 2^16, is for means; the loop's losses are sums over about 2^12 targets.
FIRST_LOSS_SCALE = 2.0**4


def make_accelerator(
    precision: Precision | None = None,
    *,
    seed: int = 0,
    trackers: Sequence[str | GeneralTracker] = (),
    folder: Path | None = None,
) -> Accelerator:
    """An Accelerator for the chosen device and precision; seeds Python, numpy and torch, once.

    trackers: accelerate's names ("tensorboard", "wandb", ...) or its objects, none unless asked
    for; folder: where those that write files do.
    Raises ConfigError for float16 on a processor or an unknown tracker, UnavailableError for one
    that is not installed.
    """
    precision = precision or choose_precision()
    if precision.dtype == "float16" and precision.device == "cpu":
        raise ConfigError(
            "training in float16 needs a graphics card: its gradients overflow, and no processor "
            "multiplies it faster",
            hint="Allowed on a processor: HORNBOOK_PRECISION=float32 or bfloat16.",
        )
    set_seed(seed)
    if precision.device == "cpu":
        torch.set_flush_denormal(True)  # denormals cost a hundred times a normal number
    return Accelerator(
        cpu=precision.device == "cpu",
        mixed_precision=MIXED[precision.dtype],
        log_with=[_checked(tracker) for tracker in trackers] or None,
        project_dir=folder,
        kwargs_handlers=[GradScalerKwargs(init_scale=FIRST_LOSS_SCALE)],
    )


def place() -> tuple[int, int]:
    """This process's number and how many there are, as the launcher says; (0, 1) without one."""
    return int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def start_trackers(
    accelerator: Accelerator, name: str, settings: Mapping[str, str | int | float | bool | None]
) -> None:
    """Begin a run of this name in every tracker asked for, with the settings that made it."""
    if accelerator.log_with:
        kept = {key: value for key, value in settings.items() if value is not None}
        accelerator.init_trackers(name, config=kept)


def spread(model: nn.Module, accelerator: Accelerator, *, sharded: bool = False) -> nn.Module:
    """Have a model trained by all processes; the model itself where there is but one.

    Whole on each process, gradients averaged (DistributedDataParallel: Li et al. 2020); or
    `sharded`, where each keeps a part of every weight, gradient and moment, and blocks are put
    together when they are needed (fully_shard: Zhao et al. 2023). Make the optimiser afterwards,
    from the result's parameters, and call the result, not a part of it.
    """
    model.to(accelerator.device)
    if accelerator.num_processes == 1:
        return model
    if not sharded:
        from torch.nn.parallel import DistributedDataParallel

        device_ids = None if accelerator.device.type == "cpu" else [accelerator.device]
        return DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for blocks in [part for part in model.modules() if isinstance(part, nn.ModuleList)]:
        for block in blocks:
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def agreed(accelerator: Accelerator, asked: bool) -> bool:
    """Whether any process was asked to stop: then all do, after the same step."""
    if accelerator.num_processes == 1:
        return asked
    answer = torch.tensor(float(asked), device=accelerator.device)
    return bool(accelerator.reduce(answer, "sum") > 0)


class WithLoss(nn.Module):
    """A model that gives its loss: what several processes need to see as one forward pass."""

    def __init__(self, model: nn.Module, loss_of: Callable[[nn.Module, Any], LossSum]) -> None:
        super().__init__()
        self.model = model
        self.loss_of = loss_of

    def forward(self, batch: Any) -> LossSum:
        return self.loss_of(self.model, batch)


def own_loss(model: nn.Module, batch: Any) -> LossSum:
    """The loss of a `WithLoss`, wherever it is spread."""
    loss: LossSum = model(batch)
    return loss


def _checked(tracker: str | GeneralTracker) -> str | GeneralTracker:
    """A tracker that is there. Without this, accelerate warns and goes on without it."""
    if isinstance(tracker, GeneralTracker):
        return tracker
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    if tracker not in known:
        raise ConfigError(f"there is no tracker named '{tracker}'", hint=nearest(tracker, known))
    if tracker not in map(str, get_available_trackers()):
        package = tracker.replace("_", "-")
        raise UnavailableError(
            f"the tracker '{tracker}' is not installed", hint=f"pip install {package}"
        )
    return tracker
