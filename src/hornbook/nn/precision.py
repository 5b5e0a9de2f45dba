"""Which device and which number format: chosen by measuring, and said.

A processor's flags promise bfloat16 products (AVX512-BF16, AMX), but not that they are faster: some
virtual machines multiply bfloat16 at half the speed of float32. So the two are timed once, for
about 50 ms, and bfloat16 is taken where it wins clearly. docs/decisions/0002 has the numbers.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F

from hornbook.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
WORTH_IT = 1.25  # bfloat16 must be faster than float32 by this factor to be worth its rounding


@dataclass(frozen=True)
class Precision:
    """A device ("cpu", "cuda", "mps"), a dtype name for matrix products, and why."""

    device: str
    dtype: str
    reason: str

    @property
    def torch_dtype(self) -> torch.dtype:
        return DTYPES[self.dtype]


@lru_cache(maxsize=1)
def bfloat16_speedup() -> float:
    """Speed of bfloat16 products relative to float32 on this processor, at an encoder's sizes."""
    n_tokens, d_model, d_ff = 1024, 384, 1536
    seconds = {}
    with torch.inference_mode():
        for dtype in (torch.float32, torch.bfloat16):
            x, weight = torch.ones(n_tokens, d_model).to(dtype), torch.ones(d_ff, d_model).to(dtype)
            F.linear(x, weight)  # the first call builds the kernel
            seconds[dtype] = min(_seconds_of_product(x, weight) for _ in range(4))
    return seconds[torch.float32] / seconds[torch.bfloat16]


def _seconds_of_product(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.perf_counter()
    F.linear(x, weight)
    return time.perf_counter() - start


def choose_precision() -> Precision:
    """Device and number format for this machine.

    HORNBOOK_DEVICE and HORNBOOK_PRECISION (a name in DTYPES) override the choice.
    Raises ConfigError when HORNBOOK_PRECISION is anything else.
    """
    device, why_device = _device()
    if asked := os.environ.get("HORNBOOK_PRECISION"):
        if asked not in DTYPES:
            raise ConfigError(
                f"HORNBOOK_PRECISION is '{asked}'", hint=f"Allowed: {', '.join(DTYPES)}."
            )
        return Precision(device, asked, f"{why_device}; HORNBOOK_PRECISION asks for {asked}")
    if device == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        dtype = "bfloat16" if native else "float32"
        return Precision(
            device, dtype, f"{why_device}; bfloat16 is {'' if native else 'not '}native"
        )
    if device == "mps":
        return Precision(device, "float32", f"{why_device}; float32 is the safe format there")
    flags = (
        getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        or getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    )
    speedup = bfloat16_speedup()
    measured = f"bfloat16 products measured at {speedup:.1f}x the speed of float32"
    if speedup >= WORTH_IT:
        return Precision(device, "bfloat16", f"{why_device}; {measured}")
    said = "although the processor announces them" if flags else "and it does not announce them"
    return Precision(device, "float32", f"{why_device}; {measured}, {said}")


def precision_asked(name: str) -> Precision:
    """The number format of this name, or with "auto" the one that this machine is fastest with."""
    chosen = choose_precision()
    if name in ("auto", chosen.dtype):
        return chosen
    return Precision(chosen.device, name, f"{name} was asked for")


def _device() -> tuple[str, str]:
    if asked := os.environ.get("HORNBOOK_DEVICE"):
        return asked, f"HORNBOOK_DEVICE asks for {asked}"
    if torch.cuda.is_available():
        return "cuda", f"found {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "mps", "found an Apple GPU"
    return "cpu", "no GPU was found"
