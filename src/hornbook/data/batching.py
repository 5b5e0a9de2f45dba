"""Batches by token count: as many documents as fill a number of tokens, of similar length.

A fixed number of documents a batch gives small matrices for short texts and large ones for long
texts; a fixed number of tokens gives every step the same work. Documents of similar length together
waste nothing on padding, and attention over a ragged batch runs in few calls.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence


def by_length(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices in batches of at most `max_tokens` tokens (or one document), longest first."""
    batches: list[list[int]] = []
    room = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if lengths[i] > room:
            batches.append([])
            room = max(max_tokens, lengths[i])
        batches[-1].append(i)
        room -= lengths[i]
    return batches


def epoch_batches(
    lengths: Sequence[int], max_tokens: int, rng: random.Random, *, pool: int = 16
) -> list[list[int]]:
    """One epoch in random order: each document once, in batches of at most `max_tokens` tokens.

    Documents are shuffled, cut into pools of `pool` batches' tokens, grouped by length inside each
    pool, and the batches shuffled: random enough to learn from, sorted enough to be fast.
    """
    order = list(range(len(lengths)))
    rng.shuffle(order)
    batches: list[list[int]] = []
    start = n_tokens = 0
    for end, i in enumerate(order, 1):
        n_tokens += lengths[i]
        if n_tokens >= pool * max_tokens or end == len(order):
            members = order[start:end]
            groups = by_length([lengths[j] for j in members], max_tokens)
            batches.extend([members[g] for g in group] for group in groups)
            start, n_tokens = end, 0
    rng.shuffle(batches)
    return batches


def endless_batches(
    lengths: Sequence[int], max_tokens: int, seed: int, *, n_epochs: int | None = None
) -> Iterator[tuple[int, list[int]]]:
    """Epoch after epoch: (epoch from 0, indices). Endless unless `n_epochs` is given."""
    rng = random.Random(seed)
    epoch = 0
    while n_epochs is None or epoch < n_epochs:
        for batch in epoch_batches(lengths, max_tokens, rng):
            yield epoch, batch
        epoch += 1
