"""Gradients of large embeddings by rows: a batch touches few of them, and the others' are zero.

A dense gradient of MiniLM's 30,522 x 384 token embedding is 47 MB, made anew and filled with zeros
at every step, then read again for its norm and scaling. With `by_rows` autograd gives the touched
rows alone; `RowGradients` lays them into one dense tensor that is kept, for the optimiser, which
must see every row (the moments of a row go on when it is not touched). The gradients are the
same; over several micro-batches, up to the order of their sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

WORTH_IT = 2**20  # numbers in an embedding; below, a dense gradient costs next to nothing


@contextmanager
def by_rows(model: nn.Module, *, at_least: int = WORTH_IT) -> Iterator[None]:
    """In this block, embeddings of so many numbers or more give gradients by rows.

    For one process. Where a head is tied to the embedding, its own gradient makes the sum dense.
    """
    embeddings = [
        part
        for part in model.modules()
        if isinstance(part, nn.Embedding) and part.weight.numel() >= at_least and not part.sparse
    ]
    for part in embeddings:
        part.sparse = True
    try:
        yield
    finally:
        for part in embeddings:
            part.sparse = False


def summed(gradient: Tensor) -> Tensor:
    """A gradient by rows with each row once, in the order of rows.

    `Tensor.coalesce` does this too, but adds what belongs to a row in no certain order; here it is
    the order of a dense gradient, so that the sums are the same to the last bit.
    """
    if gradient.is_coalesced():
        return gradient
    rows, places = gradient._indices()[0].unique(return_inverse=True)
    values = gradient._values()
    sums = values.new_zeros(len(rows), values.shape[1]).index_add_(0, places, values)
    return torch.sparse_coo_tensor(
        rows[None], sums, gradient.shape, is_coalesced=True, check_invariants=False
    )


class RowGradients:
    """Turns gradients by rows into dense ones before each of an optimiser's steps."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._kept: dict[Tensor, tuple[Tensor, Tensor]] = {}  # dense, rows that are not zero
        optimizer.register_step_pre_hook(self._fill)

    def _fill(self, optimizer: Optimizer, *_: object) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = self._dense(parameter, summed(parameter.grad))

    def _dense(self, parameter: Tensor, gradient: Tensor) -> Tensor:
        rows = gradient.indices()[0]
        if parameter not in self._kept:
            self._kept[parameter] = torch.zeros_like(parameter), rows
        dense, old = self._kept[parameter]
        dense.index_fill_(0, old, 0.0)
        dense.index_copy_(0, rows, gradient.values())
        self._kept[parameter] = dense, rows
        return dense
