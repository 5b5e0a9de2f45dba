"""The training loop: a generator on one page. Whoever consumes it logs, saves and stops.

    for step in train_steps(model, loss_of, groups, optimizer, schedule, clock, accelerator):
        print(step.number, step.loss)

One step is one group of micro-batches. Losses come as sums and counts; gradients are divided once,
by the count over all micro-batches and all processes, so that accumulation changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hornbook.errors import TrainingError
from hornbook.nn.losses import LossSum
from hornbook.training.schedules import Clock, Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. loss: nats per target; gradient_norm: before clipping."""

    number: int
    loss: float
    n_targets: int
    learning_rate: float
    gradient_norm: float
    progress: float
    seconds: float


def train_steps(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], LossSum],
    batches: Iterable[list[Any]],
    optimizer: Optimizer,
    schedule: Schedule,
    clock: Clock,
    accelerator: Accelerator,
    *,
    clip: float = 1.0,
) -> Iterator[Step]:
    """Train until the clock is done or the batches end; yield after every step.

    batches: each a list of micro-batches, whatever `loss_of(model, micro_batch)` takes. clip: the
    largest gradient norm. Raises TrainingError when a gradient is not finite; the weights are then
    still those of the step before.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, micro_batches in enumerate(batches):
        progress = clock(number)
        if progress >= 1:
            return
        start = time.perf_counter()
        factor = schedule(progress)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        model.train()
        loss_sum, n_targets = _accumulate(model, loss_of, micro_batches, accelerator)
        norm = _scale_and_clip(parameters, n_targets / accelerator.num_processes, clip)
        if not math.isfinite(norm):
            optimizer.zero_grad()
            raise TrainingError(
                f"the gradient's norm is {norm} at step {number} (loss {loss_sum / n_targets:.4g})",
                hint="Lower the learning rate, lengthen the warm-up, or use float32.",
            )
        optimizer.step()
        optimizer.zero_grad()
        yield Step(
            number=number,
            loss=loss_sum / n_targets,
            n_targets=n_targets,
            learning_rate=peaks[0] * factor,
            gradient_norm=norm,
            progress=progress,
            seconds=time.perf_counter() - start,
        )


def _accumulate(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], LossSum],
    micro_batches: list[Any],
    accelerator: Accelerator,
) -> tuple[float, int]:
    """Add up gradients of summed losses; return the sum and the count over all processes."""
    sums, n_targets = [], 0
    for i, micro_batch in enumerate(micro_batches):
        last = i == len(micro_batches) - 1
        with accelerator.autocast(), _syncing(accelerator, model, last):
            loss = loss_of(model, micro_batch)
            accelerator.backward(loss.total)
        sums.append(loss.total.detach())
        n_targets += loss.n_targets
    both = torch.stack([torch.stack(sums).sum().double(), torch.tensor(float(n_targets)).double()])
    both = accelerator.reduce(both.to(accelerator.device), "sum")
    return float(both[0]), max(1, int(both[1]))


def _syncing(accelerator: Accelerator, model: nn.Module, last: bool) -> Any:
    """Processes exchange gradients at the last micro-batch only."""
    from contextlib import nullcontext

    return nullcontext() if last else accelerator.no_sync(model)


@torch.no_grad()
def _scale_and_clip(parameters: list[Tensor], count: float, clip: float) -> float:
    """Divide gradients by the count and clip their joint norm, in one pass; return that norm."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))) / count
    scale = min(1.0, clip / (norm + 1e-6)) / count
    if math.isfinite(norm):
        torch._foreach_mul_(gradients, scale)
    return norm
