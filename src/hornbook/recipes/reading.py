"""How a run goes through its data: windows of running text, or pairs of texts.

`Training` knows no more of its data than `Reading` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from hornbook.data.packing import TokenArray, beginning, from_all_over
from hornbook.data.pair_batches import PairBatches, documents_of, in_order
from hornbook.data.windows import Windows
from hornbook.generation.generate import generate
from hornbook.generation.sampling import chain, temperature, top_k
from hornbook.generation.translate import translate
from hornbook.recipes.dial import Resolved
from hornbook.recipes.families import Objective
from hornbook.recipes.preparation import Prepared

AT_ONCE = 8192  # tokens of a batch of an evaluation


class Reading(Protocol):
    """What a run reads, in an order that its settings decide."""

    n_read: int  # tokens of the step drawn last, over all processes; of pairs, of a side on average

    def steps(self) -> Iterator[list[Any]]:
        """Endless: this process' micro-batches of each step, drawn when they are asked for."""

    def one(self) -> Any:
        """A batch small enough to be learnt by heart."""

    def validation(self, most: int | None) -> tuple[Iterator[Any], int]:
        """Batches of the validation part and its number of tokens: of all, or of some `most`."""

    def n_steps(self, epochs: float) -> int:
        """Steps that so many passes over the data take."""

    def sample(self) -> str:
        """What the model writes, the same draws at every call; empty for one that doesn't."""

    def state(self) -> dict[str, Any]: ...
    def restore(self, state: dict[str, Any]) -> None: ...


def open_reading(
    settings: Resolved, prepared: Prepared, objective: Objective, place: tuple[int, int]
) -> Reading:
    """The reading of a run. place: this process' number, and how many there are."""
    if prepared.sources is None:
        return Text(settings, prepared, objective, place)
    return Translation(settings, prepared, objective, place)


class Text:
    """Running text, in windows of one context."""

    def __init__(
        self, settings: Resolved, prepared: Prepared, objective: Objective, place: tuple[int, int]
    ) -> None:
        self.settings, self.prepared, self.objective = settings, prepared, objective
        self.n_read = settings.batch_size * settings.context_length
        self.windows = Windows(
            prepared.train,
            context_length=settings.context_length,
            batch_size=settings.batch_size,
            seed=settings.seed,
            rank=place[0],
            world_size=place[1],
            cross_documents=settings.cross_documents,
        )
        self.state, self.restore = self.windows.state, self.windows.restore

    def steps(self) -> Iterator[list[Any]]:
        size = self.settings.micro_batch_size
        while True:
            places = self.windows.places()
            rows = zip(*(_cut(x, size) for x in (*next(self.windows), places)), strict=True)
            yield [self.objective.collate(*part) for part in rows]

    def one(self) -> Any:
        tokens, targets = self.windows.at(0)
        return self.objective.collate(tokens[:1], targets[:1], self.windows.places()[:1])

    def validation(self, most: int | None) -> tuple[Iterator[Any], int]:
        tokens: Any = self.prepared.validation
        if most is not None and most < len(tokens):
            tokens = from_all_over(tokens, most)
        return self._all(tokens), len(tokens)

    def _all(self, tokens: Any) -> Iterator[Any]:
        """All of a text, each token after at least half a context."""
        context = self.settings.context_length
        for batch in Windows.in_order(
            tokens,
            context_length=context,
            batch_size=max(1, AT_ONCE // context),
            stride=max(1, context // 2),
            cross_documents=self.settings.cross_documents,
        ):
            yield self.objective.collate(*batch, None)

    def n_steps(self, epochs: float) -> int:
        return max(1, round(epochs * len(self.prepared.train) / self.n_read))

    def sample(self, n_tokens: int = 120) -> str:
        """How the model goes on after the beginning of the validation text."""
        if not self.objective.writes:
            return ""
        prompt = beginning(self.prepared.validation, 16).tokens.tolist()
        written = generate(
            self.objective.trunk,
            prompt,
            n_tokens=n_tokens,
            choose=chain(temperature(0.8), top_k(50)),
            generator=torch.Generator().manual_seed(self.settings.seed),
        )
        return self.prepared.tokenizer.decode([*prompt, *written])


class Translation:
    """Pairs of texts, in batches of like length."""

    def __init__(
        self, settings: Resolved, prepared: Prepared, objective: Objective, place: tuple[int, int]
    ) -> None:
        assert prepared.sources is not None
        assert isinstance(prepared.train, TokenArray)
        assert isinstance(prepared.validation, TokenArray)
        self.settings, self.prepared, self.objective = settings, prepared, objective
        self.n_read = 0
        self.pairs = pair_batches(settings, prepared, place)
        self._held_out = documents_of(prepared.sources[1]), documents_of(prepared.validation)
        self.state, self.restore = self.pairs.state, self.pairs.restore

    def steps(self) -> Iterator[list[Any]]:
        for parts in self.pairs:
            self.n_read = round(self.pairs.n_tokens)
            sides = self.pairs.sources, self.pairs.targets
            yield [self.objective.collate(*([side[i] for i in p] for side in sides)) for p in parts]

    def one(self) -> Any:
        return self.objective.collate(self.pairs.sources[:4], self.pairs.targets[:4])

    def validation(self, most: int | None) -> tuple[Iterator[Any], int]:
        sources, targets = self._held_out
        n_tokens = sum(map(len, targets))
        if most is not None and most < n_tokens:
            some = range(0, len(targets), -(-n_tokens // most))
            sources, targets = [sources[i] for i in some], [targets[i] for i in some]
        batches = in_order(sources, targets, tokens_per_batch=AT_ONCE)
        collated = (
            self.objective.collate([sources[i] for i in batch], [targets[i] for i in batch])
            for batch in batches
        )
        return collated, sum(map(len, targets))

    def n_steps(self, epochs: float) -> int:
        return max(1, round(epochs * self.pairs.n_batches))

    def sample(self) -> str:
        """A source of the validation part, what the model writes, and what was meant."""
        read = self.prepared.tokenizer.decode
        sources, targets = self._held_out
        place = self.settings.seed % len(sources)
        source = read(sources[place].tolist())
        written = translate(
            self.objective.trunk, self.prepared.tokenizer, [source], max_tokens=100
        )[0]
        return f"{source}\n→ {written}\n(meant: {read(targets[place].tolist())})"


def pair_batches(
    settings: Resolved, prepared: Prepared, place: tuple[int, int] = (0, 1)
) -> PairBatches:
    """The training pairs in batches of as many target tokens as windows of text would have."""
    assert prepared.sources is not None and isinstance(prepared.train, TokenArray)
    return PairBatches(
        prepared.sources[0],
        prepared.train,
        tokens_per_batch=settings.batch_size * settings.context_length,
        seed=settings.seed,
        n_parts=settings.batch_size // settings.micro_batch_size,
        rank=place[0],
        world_size=place[1],
    )


@dataclass(frozen=True)
class Shape:
    """What a plan has to know: rows of a step and of a micro-batch, tokens of a row, of an epoch.

    Of pairs: how many of a mean length have the same tokens, of both sides together, halved.
    """

    n_rows: int
    micro: int
    length: int
    epoch: int


def shape_of(settings: Resolved, prepared: Prepared) -> Shape:
    """The shape of a run's steps."""
    n_rows, micro = settings.batch_size, settings.micro_batch_size
    if prepared.sources is None:
        return Shape(n_rows, micro, settings.context_length, len(prepared.train))
    pairs = pair_batches(settings, prepared)
    n_pairs, n_parts = len(pairs.lengths), n_rows // micro
    micro = max(1, round(n_pairs / pairs.n_batches / n_parts))
    length = max(1, round(pairs.n_tokens_of_all / n_pairs))
    return Shape(n_parts * micro, micro, length, round(pairs.n_tokens_of_all))


def _cut(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]
