"""Batches of items, endless, in an order told by a seed; where it stands is a pair of numbers.

Items are known by their lengths alone. A step takes as many as fill a number of tokens, of like
length together, so that every step has the same work; or a number of items, shuffled.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from hornbook.data.batching import epoch_batches
from hornbook.errors import CheckpointError, DataError


class ItemBatches:
    """An endless iterator of batches, each a list of parts, each the numbers of some items.

    lengths: tokens of each item. items_per_batch: so many, whatever their lengths. n_parts: what a
    process takes of a batch, in so many parts: micro-batches. Rank r of world_size processes takes
    every world_size-th item. The batches follow from seed and position alone, and are the same for
    any number of parts and processes, as long as none has fewer items than there are of these: such
    a one is joined to the next. Raises DataError where there are fewer items than parts.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        *,
        tokens_per_batch: int,
        items_per_batch: int | None = None,
        seed: int,
        n_parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths, self.seed = list(lengths), seed
        self.tokens_per_batch, self.items_per_batch = tokens_per_batch, items_per_batch
        self.n_parts, self.rank, self.world_size = n_parts, rank, world_size
        if len(self.lengths) < n_parts * world_size:
            raise DataError(
                f"{len(self.lengths)} items can't be divided into {n_parts * world_size} parts",
                hint="Give more examples, or take fewer micro-batches and processes.",
            )
        self.epoch = self.number = 0  # of the batch that comes next
        self.n_tokens = 0  # of the batch given last, over all processes
        self._fingerprint = sha256(repr(self.lengths).encode()).hexdigest()[:16]
        self._batches = self._of_epoch(0, n_parts * world_size)

    @property
    def n_batches(self) -> int:
        """Batches of the present epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[list[list[int]]]:
        return self

    def __next__(self) -> list[list[int]]:
        if self.number == len(self._batches):
            self.epoch, self.number = self.epoch + 1, 0
            self._batches = self._of_epoch(self.epoch, self.n_parts * self.world_size)
        batch = self._batches[self.number]
        self.number += 1
        self.n_tokens = sum(self.lengths[i] for i in batch)
        mine = batch[self.rank :: self.world_size]
        return [mine[part :: self.n_parts] for part in range(self.n_parts)]

    def state(self) -> dict[str, Any]:
        """Where the reading stands, for JSON."""
        return {
            "epoch": self.epoch,
            "number": self.number,
            "seed": self.seed,
            "tokens_per_batch": self.tokens_per_batch,
            "items_per_batch": self.items_per_batch,
            "n_items": len(self.lengths),
            "fingerprint": self._fingerprint,
            "n_parts_of_all": self.n_parts * self.world_size,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken, exactly.

        Another number of parts is taken where it leaves the epoch's batches as they are. Raises
        CheckpointError where the data or the settings are others than they were then.
        """
        may_differ = ("epoch", "number", "n_parts_of_all")
        mine = {k: v for k, v in self.state().items() if k not in may_differ}
        if others := [k for k, v in mine.items() if state.get(k) != v]:
            lines = [f"{k} was {state.get(k)!r}, is {mine[k]!r}" for k in others]
            raise CheckpointError(
                f"the examples can't be read on from where they were left: {'; '.join(lines)}",
                hint="Resume with the same data and settings, or start a new run.",
            )
        epoch, number = int(state["epoch"]), int(state["number"])
        n_parts = self.n_parts * self.world_size
        n_before = int(state.get("n_parts_of_all", n_parts))  # older states do not say
        batches = self._of_epoch(epoch, n_parts)
        if batches != self._of_epoch(epoch, n_before) or number > len(batches):
            said = state.get("n_parts_of_all", "another number of")
            raise CheckpointError(
                f"the examples were read in {said} parts a batch and are now in {n_parts}, which "
                "makes other batches",
                hint="Resume with as many micro-batches and processes as before.",
            )
        self.epoch, self.number, self._batches = epoch, number, batches

    def _of_epoch(self, epoch: int, n_parts: int) -> list[list[int]]:
        """The epoch's batches, each of n_parts items at least."""
        rng = random.Random(f"{self.seed} {epoch}")
        found: list[list[int]] = []
        short: list[int] = []
        for batch in self._shuffled(rng):
            short += batch
            if len(short) >= n_parts:
                found.append(short)
                short = []
        if short and found:
            found[-1] = found[-1] + short
        return found

    def _shuffled(self, rng: random.Random) -> list[list[int]]:
        if self.items_per_batch is None:
            return epoch_batches(self.lengths, self.tokens_per_batch, rng)
        order = list(range(len(self.lengths)))
        rng.shuffle(order)
        size = self.items_per_batch
        return [order[i : i + size] for i in range(0, len(order), size)]
