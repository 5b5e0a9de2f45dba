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

from hornbook.errors import TrainingError
from hornbook.nn.losses import LossSum
from hornbook.training.optimizers import AnyOptimizer, step_divided
from hornbook.training.parts import whole
from hornbook.training.rows import summed
from hornbook.training.schedules import Clock, Schedule

if TYPE_CHECKING:
    from accelerate import Accelerator

SMALLEST_LOSS_SCALE = 2.0**-10  # a gradient that still overflows here is not the format's fault


@dataclass(frozen=True)
class Step:
    """What one optimiser step did. loss: nats per target; gradient_norm: before clipping.

    refused: loss or gradient were not finite; weights and optimiser are as they were before.
    """

    number: int
    loss: float
    n_targets: int
    learning_rate: float
    gradient_norm: float
    progress: float
    seconds: float
    refused: bool = False


def train_steps(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], LossSum],
    batches: Iterable[list[Any]],
    optimizer: AnyOptimizer,
    schedule: Schedule,
    clock: Clock,
    accelerator: Accelerator,
    *,
    clip: float = 1.0,
    first_step: int = 0,
) -> Iterator[Step]:
    """Train until the clock is done or the batches end; yield after every step.

    batches: each a list of micro-batches, whatever `loss_of(model, micro_batch)` takes; none is
    drawn before it is needed, so their position is a checkpoint's. clip: the largest gradient norm.
    first_step: the number to go on from; `optimizer` then has its peak rates, as when it was made.

    A step whose loss or gradient is not finite is refused. Raises TrainingError at the second in a
    row; the weights are then still those of the last good step.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    n_refused = 0  # in a row
    for number, micro_batches in enumerate(batches, first_step):
        progress = clock(number)
        if progress >= 1:
            return
        start = time.perf_counter()
        factor = schedule(progress)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        model.train()
        loss_sum, n_targets = _accumulate(model, loss_of, micro_batches, accelerator)
        loss = loss_sum / n_targets
        count = n_targets / accelerator.num_processes * _loss_scale(accelerator)
        gradients = [_values(p, p.grad) for p in parameters if p.grad is not None]
        norm = _norm(gradients) / count
        refused = not math.isfinite(loss + norm)
        if not refused:
            step_divided(optimizer, gradients, count * max(1.0, (norm + 1e-6) / clip))
            n_refused = 0
        elif not _lower_loss_scale(accelerator):
            n_refused += 1
        del gradients  # else they would lie beside the next step's
        optimizer.zero_grad()
        if n_refused == 2:
            raise TrainingError(
                f"steps {number - 1} and {number} were refused: loss {loss:.4g}, norm of the "
                f"gradient {norm:.4g}",
                hint="Lower the learning rate, lengthen the warm-up, or use float32.",
            )
        yield Step(
            number=number,
            loss=loss,
            n_targets=n_targets,
            learning_rate=peaks[0] * factor,
            gradient_norm=norm,
            progress=progress,
            seconds=time.perf_counter() - start,
            refused=refused,
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


def _loss_scale(accelerator: Accelerator) -> float:
    """What accelerate multiplied the loss by; 1 unless training in float16."""
    return accelerator.scaler.get_scale() if accelerator.scaler else 1.0


def _lower_loss_scale(accelerator: Accelerator) -> bool:
    """Halve the loss scale after an overflow; False where there is none, or none left to lower."""
    if accelerator.scaler is None or _loss_scale(accelerator) < SMALLEST_LOSS_SCALE:
        return False
    accelerator.scaler.update(_loss_scale(accelerator) / 2)
    return True


@torch.no_grad()
def _norm(gradients: list[Tensor]) -> float:
    """The joint L2 norm.

    On a processor by products of each with itself: torch's `vector_norm` takes three times as long
    and adds in so few lanes that it is 7e-4 too small for 12M numbers, the product 3e-5.
    """
    if all(type(g) is Tensor and g.is_cpu and g.dtype == torch.float32 for g in gradients):
        flat = (g.flatten() for g in gradients)  # one at a time: of a transposed one it is a copy
        return math.sqrt(sum(float(torch.dot(g, g)) for g in flat))
    norms = torch.stack(torch._foreach_norm(gradients))
    return float(whole(torch.linalg.vector_norm(norms)))


def _values(parameter: Tensor, gradient: Tensor) -> Tensor:
    """The gradient, or of a sparse one (`training.rows`) the rows that are not zero."""
    if gradient.is_sparse:
        parameter.grad = summed(gradient)
        return parameter.grad._values()
    return gradient
