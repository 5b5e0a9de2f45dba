"""What a decoder thinks of several continuations of one text: answers to a prompt, options of a
question. The text is read once, however many they are (`nn.forked`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hornbook.data.batching import by_length
from hornbook.nn.forked import Forked
from hornbook.tasks.language_modeling import token_log_probs

Tokens = tuple[int, ...]


class Branching(Protocol):
    """Token ids: a stem of one at least, and what may follow, each of one at least."""

    @property
    def stem(self) -> Tokens: ...
    @property
    def branches(self) -> tuple[Tokens, ...]: ...


@dataclass(frozen=True)
class BranchBatch:
    """Stems with their branches, end to end. N branches in all, in the items' order.

    tokens: (T,). places: (P,), where the model stands when it guesses a branch's token; targets:
    (P,), that token; owners: (P,), the number of its branch. n_tokens: (N,) of each branch.
    """

    tokens: Tensor
    layout: Forked
    places: Tensor
    targets: Tensor
    owners: Tensor
    n_tokens: Tensor


def n_read(item: Branching) -> int:
    """Tokens that the model reads of an item."""
    return len(item.stem) + sum(map(len, item.branches))


def shape(item: Branching) -> tuple[int, tuple[int, ...]]:
    """Tokens of the stem, of each branch. Items of one shape side by side cost least."""
    return len(item.stem), tuple(map(len, item.branches))


def lay(items: Sequence[Branching], device: torch.device | str = "cpu") -> BranchBatch:
    """Lay items end to end, in the order they come."""
    tokens: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    n_tokens: list[int] = []
    for item in items:
        tokens += item.stem
        fork = len(tokens) - 1  # the stem's end is where each branch's first token is guessed
        for branch in item.branches:
            places += [fork, *range(len(tokens), len(tokens) + len(branch) - 1)]
            targets += branch
            n_tokens.append(len(branch))
            tokens += branch
    owners = np.repeat(np.arange(len(n_tokens)), n_tokens)
    return BranchBatch(
        torch.tensor(tokens, device=device),
        Forked([shape(item) for item in items], device),
        torch.tensor(places, device=device),
        torch.tensor(targets, device=device),
        torch.from_numpy(owners).to(device),
        torch.tensor(n_tokens, device=device),
    )


def branch_log_probs(model: Any, batch: BranchBatch) -> Tensor:
    """The log-probability of each branch after its stem, summed over its tokens, nats: (N,)."""
    found = token_log_probs(model, batch.tokens, batch.layout, batch.places, batch.targets)
    return summed(found, batch)


def summed(values: Tensor, batch: BranchBatch) -> Tensor:
    """What each branch's tokens add up to: (P,) -> (N,)."""
    return values.new_zeros(len(batch.n_tokens)).index_add(0, batch.owners, values)


def batches(items: Sequence[Branching], *, tokens_per_batch: int = 4096) -> list[list[int]]:
    """Which items to read together: their numbers, items of one shape side by side."""
    found = by_length([n_read(item) for item in items], tokens_per_batch)
    return [sorted(batch, key=lambda i: shape(items[i])) for batch in found]
