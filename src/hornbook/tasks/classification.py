"""Classify texts: one label each (cross-entropy) or any number (a yes-or-no per label)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.data.batching import by_length
from hornbook.nn.init import normal_
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum, binary_cross_entropy_sum, cross_entropy_sum

Pool = Callable[[Ragged, Tensor], Tensor]  # (layout, hidden (..., E)) -> (N, E)


@dataclass(frozen=True)
class Batch:
    """Documents end to end. targets: (N,) class ids or (N, L) of 0 and 1, or None.

    inputs: token ids (T,), or hidden states (T, E) where a frozen lower part has already run.
    segments: (T,) 0 or 1, of pairs of texts.
    """

    inputs: Tensor
    layout: Ragged
    targets: Tensor | None = None
    segments: Tensor | None = None


def collate(
    documents: Sequence[Sequence[int] | Tensor],
    targets: Tensor | None = None,
    device: str = "cpu",
) -> Batch:
    """Lay documents end to end, longest first, their targets (N, ...) in the same order.

    documents: token ids each, or hidden states (T, E) each.
    """
    order = sorted(range(len(documents)), key=lambda i: -len(documents[i]))
    rows = [torch.as_tensor(documents[i]) for i in order]
    layout = Ragged([len(row) for row in rows], device)
    inputs = torch.cat(rows).to(device)
    return Batch(inputs, layout, None if targets is None else targets[order].to(device))


class TextClassifier(nn.Module):
    """A trunk, a way to pool its hidden states, and a linear head: Batch -> logits (N, L)."""

    def __init__(self, trunk: nn.Module, *, pool: Pool, d_model: int, n_labels: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool = pool
        self.head = nn.Linear(d_model, n_labels)
        normal_(self.head)

    def forward(self, batch: Batch) -> Tensor:
        return self.head(self.features(batch))

    def features(self, batch: Batch) -> Tensor:
        """What the head reads: (N, E)."""
        return self.pool(batch.layout, self.trunk(batch.inputs, batch.layout))


def loss_of(model: nn.Module, batch: Batch) -> LossSum:
    """The loss of a batch; the targets' shape says whether labels exclude each other."""
    assert batch.targets is not None
    logits = model(batch)
    if batch.targets.ndim == 1:
        return cross_entropy_sum(logits, batch.targets)
    return binary_cross_entropy_sum(logits, batch.targets)


def class_targets(targets: np.ndarray, multi_label: bool) -> Tensor:
    """A boolean matrix (N, L) as the loss wants it: class ids (N,) or floats (N, L)."""
    if multi_label:
        return torch.from_numpy(targets.astype(np.float32))
    return torch.from_numpy(targets.argmax(1))


def run_over(
    function: Callable[[Batch], Tensor],
    documents: Sequence[Sequence[int] | Tensor],
    *,
    tokens_per_batch: int = 2048,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Apply a model's forward (or `features`) to many documents; rows (N, ...) in their order."""
    return torch.stack(
        rows_over(
            lambda batch: function(batch).float().cpu(),
            documents,
            tokens_per_batch=tokens_per_batch,
            device=device,
            progress=progress,
        )
    )


@torch.inference_mode()
def rows_over(
    function: Callable[[Batch], Iterable[Tensor]],
    documents: Sequence[Sequence[int] | Tensor],
    *,
    tokens_per_batch: int = 2048,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> list[Tensor]:
    """One tensor a document, in the documents' order; `function` gives a batch's, longest first.

    progress is called with (documents done, documents in all) after each batch.
    """
    out: list[Tensor] = [torch.empty(0)] * len(documents)
    done = 0
    for indices in by_length([len(d) for d in documents], tokens_per_batch):
        # by_length gives the longest first, the order that collate keeps.
        rows = function(collate([documents[i] for i in indices], device=device))
        for i, row in zip(indices, rows, strict=True):
            out[i] = row
        done += len(indices)
        if progress:
            progress(done, len(documents))
    return out
