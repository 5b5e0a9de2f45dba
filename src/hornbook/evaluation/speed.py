"""How fast this machine is: large products, and a shallow copy of the model taking a real step."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from hornbook.evaluation.dry_run import Step, dry_run
from hornbook.nn.precision import DTYPES

ENOUGH = 1.5e10  # FLOPs of a trial step: some tenths of a second on a small processor


@dataclass(frozen=True)
class Speed:
    """FLOP/s of large products (`peak`) and of the model's own forward and backward (`reached`);
    bytes/s that an addition reads and writes."""

    peak: float
    reached: float
    bandwidth: float


def measure_speed(
    step: Step,
    config: Any,
    *,
    batch_size: int,
    length: int,
    dtype: str = "float32",
    device: str = "cpu",
) -> Speed:
    """Time products, additions, and a step of the model with two blocks at most, and no more
    sequences than make the step short; under a second where the machine is free."""
    if hasattr(config, "n_layers"):
        config = dataclasses.replace(config, n_layers=min(2, config.n_layers))
    # A table such as the bigram's multiplies nothing: a look-up counts as one operation.
    one = max(length, dry_run(step, config, batch_size=1, length=length, dtype=dtype).flops)
    n = max(1, min(batch_size, int(ENOUGH / one)))
    flops = n * one
    with torch.device("meta"):
        model = step.build(config)
    model.to_empty(device=device).train()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.fill_(0.01)

    def pass_() -> None:
        with torch.autocast(device, DTYPES[dtype], enabled=dtype != "float32"):
            loss = step.head(model, step.trunk(model, n, length))
        loss.backward()
        model.zero_grad(set_to_none=True)

    with torch.device(device):
        seconds = _seconds(pass_, device, budget=0.4)
        large = torch.ones(2**22)
        x, weight = (torch.ones(1024, 1024, dtype=DTYPES[dtype]) for _ in range(2))
        with torch.inference_mode():
            peak = 2 * 1024**3 / _seconds(lambda: F.linear(x, weight), device)
            bandwidth = 3 * 4 * 2**22 / _seconds(lambda: large + large, device)
    return Speed(max(peak, flops / seconds), flops / seconds, bandwidth)


def _seconds(run: Callable[[], object], device: str, budget: float = 0.08) -> float:
    """The least of some runs within the budget, the first one aside, which builds kernels."""
    run()
    _wait(device)
    least, start = float("inf"), time.perf_counter()
    while (begin := time.perf_counter()) - start < budget:
        run()
        _wait(device)
        least = min(least, time.perf_counter() - begin)
    return least


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
