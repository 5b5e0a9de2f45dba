"""The one file that imports accelerate: devices, processes and mixed precision."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from hornbook.nn.precision import Precision, choose_precision


def make_accelerator(precision: Precision | None = None, *, seed: int = 0) -> Accelerator:
    """An Accelerator for the chosen device and precision; seeds Python, numpy and torch, once.

    Under `accelerate launch` or torchrun it joins the other processes.
    """
    precision = precision or choose_precision()
    set_seed(seed)
    if precision.device == "cpu":
        torch.set_flush_denormal(True)  # denormals cost a hundred times a normal number
    return Accelerator(
        cpu=precision.device == "cpu",
        mixed_precision="bf16" if precision.dtype == "bfloat16" else "no",
    )
