"""How fast this machine does what models are made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from hornbook.evaluation.speed import measure_speed
from hornbook.evaluation.steps import step_of
from hornbook.models.gpt import GPTConfig
from hornbook.quantization.products import ByteMatrix, choose_kernel

D_MODEL, D_FF, N_TOKENS = 768, 3072, 512  # GPT-2's smallest


@dataclass(frozen=True)
class Measured:
    """A row: what, how much, of what unit."""

    name: str
    value: float
    unit: str


def device_speed(device: str | None = None) -> list[Measured]:
    """Medians after a warm-up; some seconds. device: "cpu", "cuda"; None for the chosen one."""
    from hornbook.nn.precision import choose_precision

    device = device or choose_precision().device
    rows = [Measured("threads", torch.get_num_threads(), "")] if device == "cpu" else []
    with torch.inference_mode(), torch.device(device):
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.ones(N_TOKENS, D_MODEL, dtype=dtype)
            weight = torch.ones(D_FF, D_MODEL, dtype=dtype)
            seconds = _seconds(lambda x=x, w=weight: F.linear(x, w), device)  # type: ignore[misc]
            name = str(dtype).removeprefix("torch.")
            flops = 2 * N_TOKENS * D_MODEL * D_FF
            rows.append(Measured(f"products in {name}", flops / seconds / 1e9, "GFLOP/s"))
            one = _seconds(lambda x=x[:1], w=weight: F.linear(x, w), device)  # type: ignore[misc]
            rows.append(Measured(f"one row in {name}", one * 1e6, "µs"))
        if device == "cpu":
            matrix = ByteMatrix(torch.ones(D_FF, D_MODEL))
            x8 = torch.ones(N_TOKENS, D_MODEL, dtype=torch.int8)
            name = f"by {choose_kernel().name}"
            seconds = _seconds(lambda: matrix.sums(x8), device)
            rows.append(
                Measured(f"products in int8 {name}", flops / seconds / 1e9, "billion operations/s")
            )
            one = _seconds(lambda: matrix.sums(x8[:1]), device)
            rows.append(Measured(f"one row in int8 {name}", one * 1e6, "µs"))
        large = torch.ones(2**24)
        read = _seconds(lambda: large.sum(), device)
        rows.append(Measured("memory, read", large.nbytes / read / 1e9, "GB/s"))
        q = torch.ones(1, 12, N_TOKENS, 64)
        seconds = _seconds(lambda: F.scaled_dot_product_attention(q, q, q, is_causal=True), device)
        rows.append(Measured(f"attention, {N_TOKENS} tokens, 12 heads", seconds * 1e3, "ms"))
        seconds = _seconds(lambda: F.scaled_dot_product_attention(q[:, :, :1], q, q), device)
        rows.append(Measured(f"attention of one token to {N_TOKENS}", seconds * 1e6, "µs"))
    speed = measure_speed(step_of("gpt"), GPTConfig(), batch_size=1, length=256, device=device)
    rows.append(Measured("training step of a GPT", speed.reached / 1e9, "GFLOP/s"))
    return rows


def _seconds(run: Callable[[], object], device: str, budget: float = 0.1) -> float:
    for _ in range(2):
        run()
    found: list[float] = []
    start = time.perf_counter()
    while time.perf_counter() - start < budget or len(found) < 3:
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - begin)
    return statistics.median(found)
