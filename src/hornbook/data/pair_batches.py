"""Batches of pairs of like length, endless, in an order told by a seed; where it stands is saved.

A rectangle of texts is as long as its longest: texts of one length together leave little padding.
A batch is bounded by tokens, so that every step has about the same work.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hornbook.data.batching import by_length, epoch_batches
from hornbook.data.packing import TokenArray
from hornbook.errors import CheckpointError, DataError

Documents = Sequence[np.ndarray]


def documents_of(tokens: TokenArray) -> list[np.ndarray]:
    """Each document's tokens."""
    return np.split(tokens.tokens, tokens.ends[:-1])


class PairBatches:
    """An endless iterator of batches, each a list of parts, each the numbers of some pairs.

    sources, targets: documents of the same number belong together. tokens_per_batch: of the longer
    side of each pair. n_parts: what a process takes of a batch, in so many parts of like size:
    micro-batches. The batches follow from seed and position alone, as long as none has fewer pairs
    than there are parts; rank r of world_size processes takes every world_size-th pair.
    Raises DataError where there are fewer pairs than parts.
    """

    def __init__(
        self,
        sources: TokenArray,
        targets: TokenArray,
        *,
        tokens_per_batch: int,
        seed: int,
        n_parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sources, self.targets = documents_of(sources), documents_of(targets)
        self.lengths = _lengths(self.sources, self.targets)
        self.tokens_per_batch, self.seed = tokens_per_batch, seed
        self.n_parts, self.rank, self.world_size = n_parts, rank, world_size
        if len(self.lengths) < n_parts * world_size:
            raise DataError(
                f"{len(self.lengths)} pairs can't be divided into {n_parts * world_size} parts",
                hint="Give more pairs, or take fewer micro-batches and processes.",
            )
        self.epoch = self.number = 0  # of the batch that comes next
        self.n_tokens = 0.0  # of a side of the batch given last, over all processes
        self._fingerprint = f"{sources.fingerprint}{targets.fingerprint}"
        self._batches = self._of_epoch(0)

    @property
    def n_batches(self) -> int:
        """Batches of the present epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[np.ndarray]]:
        return self

    def __next__(self) -> list[np.ndarray]:
        if self.number == len(self._batches):
            self.epoch, self.number = self.epoch + 1, 0
            self._batches = self._of_epoch(self.epoch)
        batch = self._batches[self.number]
        self.number += 1
        self.n_tokens = sum(len(self.sources[i]) + len(self.targets[i]) for i in batch) / 2
        mine = np.array(batch[self.rank :: self.world_size])
        return np.array_split(mine, self.n_parts)

    @property
    def n_tokens_of_all(self) -> float:
        """Tokens of a side of all pairs: half of both sides'."""
        return sum(map(len, (*self.sources, *self.targets))) / 2

    def padding(self) -> float:
        """The share of places in an epoch's rectangles that no token stands in, 0..1."""
        n_places = n_tokens = 0
        for side in (self.sources, self.targets):
            for batch in self._batches:
                lengths = [len(side[i]) for i in batch]
                n_tokens += sum(lengths)
                n_places += max(lengths) * len(lengths)
        return 1 - n_tokens / n_places

    def state(self) -> dict[str, Any]:
        """Where the reading stands, for JSON."""
        return {
            "epoch": self.epoch,
            "number": self.number,
            "seed": self.seed,
            "tokens_per_batch": self.tokens_per_batch,
            "n_pairs": len(self.lengths),
            "fingerprint": self._fingerprint,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken, exactly.

        Raises CheckpointError where the data or the settings are others than they were then.
        """
        mine = {k: v for k, v in self.state().items() if k not in ("epoch", "number")}
        if others := [k for k, v in mine.items() if state.get(k) != v]:
            lines = [f"{k} was {state.get(k)!r}, is {mine[k]!r}" for k in others]
            raise CheckpointError(
                f"the pairs can't be read on from where they were left: {'; '.join(lines)}",
                hint="Resume with the same data, tokenizer and settings, or start a new run.",
            )
        self.epoch, self.number = int(state["epoch"]), int(state["number"])
        self._batches = self._of_epoch(self.epoch)

    def _of_epoch(self, epoch: int) -> list[list[int]]:
        rng = random.Random(f"{self.seed} {epoch}")
        found: list[list[int]] = []
        short: list[int] = []
        for batch in epoch_batches(self.lengths, self.tokens_per_batch, rng):
            short += batch
            if len(short) >= self.n_parts * self.world_size:
                found.append(short)
                short = []
        if short:
            found[-1] = found[-1] + short
        return found


def in_order(
    sources: Documents, targets: Documents, *, tokens_per_batch: int
) -> Iterator[list[int]]:
    """The numbers of all pairs once, in batches of like length: for evaluation."""
    yield from by_length(_lengths(sources, targets), tokens_per_batch)


def _lengths(sources: Documents, targets: Documents) -> list[int]:
    return [max(len(s), len(t)) for s, t in zip(sources, targets, strict=True)]
