"""Gradient checkpointing (Chen et al. 2016): blocks forget what they computed on the way forward
and compute it again on the way back. Memory for one forward pass more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(model: nn.Module) -> Iterator[int]:
    """In this block, every member of the model's lists of blocks keeps only what goes into it.

    Gives the number of blocks. Gradients are the same to the last bit, dropout included: its random
    state is put back before the second pass. Names of weights stay as they are.
    """
    blocks = [
        block for part in model.modules() if isinstance(part, nn.ModuleList) for block in part
    ]
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield len(blocks)
    finally:
        for block in blocks:
            del block.forward
