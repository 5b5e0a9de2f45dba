"""What training reads: windows of tokens and what follows each, in a random order told by a seed.

An epoch cuts the tokens, laid in a ring, into windows of one context from a random place on: each
token is there once an epoch, and the cuts differ from epoch to epoch. The order of the windows is
computed, not stored: a small cipher permutes their numbers, so that the whole state is one count of
windows, and any process can find its rows of any batch.

Letters: B windows of a batch, T tokens of a context, N tokens in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hornbook.data.packing import TokenArray, Tokens
from hornbook.errors import CheckpointError, ConfigError, DataError

IGNORE = -100  # nn.losses.IGNORE, which cannot be imported without torch

BLOCK = 1024  # windows whose places are computed together

Batch = tuple[np.ndarray, np.ndarray]


class Windows:
    """An endless iterator of (tokens, targets), each (B / world_size, T) int64.

    targets: the next tokens; IGNORE where the next one belongs to another document, unless
    cross_documents. The batch as a whole follows from seed and position alone; rank r of
    world_size processes takes the r-th part of its rows.
    Raises ConfigError where batch_size doesn't divide among the processes, DataError where there
    are fewer tokens than one window needs.
    """

    def __init__(
        self,
        tokens: Tokens | np.ndarray,
        *,
        context_length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        cross_documents: bool = False,
    ) -> None:
        self.tokens: Tokens = TokenArray.of(tokens) if isinstance(tokens, np.ndarray) else tokens
        if min(context_length, batch_size) < 1 or batch_size % world_size:
            raise ConfigError(
                f"a batch of {batch_size} windows of {context_length} tokens can't be read by "
                f"{world_size} process(es)",
                hint="Both are at least 1, and the batch is a multiple of the processes.",
            )
        check_length(len(self.tokens), context_length)
        self.context_length = context_length
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.cross_documents = cross_documents
        self.position = 0  # windows given out by all processes together
        self._blocks: dict[int, np.ndarray] = {}
        self._fingerprint = self.tokens.fingerprint

    @property
    def n_windows(self) -> int:
        """Windows an epoch: all tokens' worth, the last one in part."""
        return -(-len(self.tokens) // self.context_length)

    @property
    def epoch(self) -> float:
        """Epochs given out so far, as a fraction."""
        return self.position / self.n_windows

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        batch = self.at(self.position)
        self.position += self.batch_size
        return batch

    next = __next__

    def at(self, position: int) -> Batch:
        """This process' rows of the batch that begins with window number `position`."""
        return self._read(*self._rows(position))

    def places(self) -> np.ndarray:
        """Where in the text this process' rows of the next batch begin: (B / world_size,)."""
        return self._rows(self.position)[0]

    def _rows(self, position: int) -> Batch:
        """Starts and lengths of this process' rows of a batch."""
        n_rows = self.batch_size // self.world_size
        first = position + self.rank * n_rows
        blocks = range(first // BLOCK, (first + n_rows - 1) // BLOCK + 1)
        starts, lengths = np.concatenate([self._block(block) for block in blocks], axis=1)
        rows = slice(first - blocks[0] * BLOCK, first - blocks[0] * BLOCK + n_rows)
        return starts[rows], lengths[rows]

    def _block(self, block: int) -> np.ndarray:
        """Starts and lengths of windows BLOCK * block to BLOCK * (block + 1) - 1: (2, BLOCK)."""
        if block not in self._blocks:
            numbers = block * BLOCK + np.arange(BLOCK)
            epochs, places = np.divmod(numbers, self.n_windows)
            found = np.empty((2, BLOCK), dtype=np.int64)
            for epoch in np.unique(epochs):
                rows = epochs == epoch
                found[:, rows] = self._windows(int(epoch), places[rows])
            if len(self._blocks) > 1:
                self._blocks.pop(min(self._blocks))
            self._blocks[block] = found
        return self._blocks[block]

    def _windows(self, epoch: int, places: np.ndarray) -> Batch:
        """Where the windows at these places of an epoch begin, and how many targets each has."""
        rng = np.random.default_rng([self.seed & (1 << 64) - 1, epoch])
        phase = int(rng.integers(len(self.tokens)))
        keys = rng.integers(1 << 63, size=ROUNDS, dtype=np.uint64)
        offsets = permuted(places, self.n_windows, keys) * self.context_length
        lengths = np.minimum(self.context_length, len(self.tokens) - offsets)
        return (phase + offsets) % len(self.tokens), lengths

    def _read(self, starts: np.ndarray, lengths: np.ndarray) -> Batch:
        n, span = len(self.tokens), self.context_length + 1
        found = np.empty((len(starts), span), dtype=np.int64)
        inside = starts + span <= n
        if inside.any():
            found[inside] = self.tokens.gather(starts[inside], span)
        for row in np.flatnonzero(~inside):  # round the ring's end
            head = n - int(starts[row])
            found[row, :head] = self.tokens.gather(starts[row : row + 1], head)
            found[row, head:] = self.tokens.gather(np.zeros(1, np.int64), span - head)
        targets = found[:, 1:]
        tokens = found[:, :-1].copy()
        if not self.cross_documents:
            ignore_ends(targets, self.tokens, starts)
            wrapped = starts[~inside] - n
            if len(wrapped):
                part = targets[~inside]
                ignore_ends(part, self.tokens, wrapped)
                targets[~inside] = part
        if (lengths < self.context_length).any():  # the rest is the first window's
            targets[np.arange(self.context_length) >= lengths[:, None]] = IGNORE
        return tokens, np.ascontiguousarray(targets)

    def state(self) -> dict[str, Any]:
        """Where the reading stands, for JSON. The batch size is not part of it and may change."""
        return {
            "position": self.position,
            "seed": self.seed,
            "context_length": self.context_length,
            "cross_documents": self.cross_documents,
            "n_tokens": len(self.tokens),
            "fingerprint": self._fingerprint,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state()` was taken, exactly.

        Raises CheckpointError where the data or the settings are others than they were then.
        """
        mine = self.state()
        others = {k: v for k, v in mine.items() if k != "position" and state.get(k) != v}
        if others:
            lines = [f"{key} was {state.get(key)!r}, is {value!r}" for key, value in others.items()]
            raise CheckpointError(
                f"the data can't be read on from where it was left: {'; '.join(lines)}",
                hint="Resume with the same data, tokenizer and settings, or start a new run.",
            )
        self.position = int(state["position"])

    def packing(self) -> Packing:
        """What an epoch's windows hold; reads the document ends, not the tokens."""
        n = len(self.tokens)
        n_ends = 0 if self.cross_documents else count_ends(self.tokens)
        n_slots = self.n_windows * self.context_length
        return Packing(n, self.n_windows, n_slots, n_ends, n_slots - n)

    @staticmethod
    def in_order(
        tokens: Tokens | np.ndarray,
        *,
        context_length: int,
        batch_size: int,
        stride: int | None = None,
        cross_documents: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> Iterator[Batch]:
        """The whole of the tokens once: for evaluation.

        Every token but the first is a target exactly once (without cross_documents, but the first
        of each document), after at least context_length - stride others where there are so many.
        stride: tokens between windows, 1 to context_length, the default; smaller is slower and
        gives more context. A batch is (b, T), b <= batch_size; rank r takes every world_size-th
        batch from the r-th on. Fewer tokens than a context make one short row.
        """
        source: Tokens = TokenArray.of(tokens) if isinstance(tokens, np.ndarray) else tokens
        stride = context_length if stride is None else stride
        if not 1 <= stride <= context_length:
            raise ConfigError(
                f"the stride is {stride}", hint=f"It lies between 1 and {context_length}."
            )
        n = len(source)
        if n < 2:
            raise DataError(f"{n} token(s) leave nothing to predict", hint="Give more text.")
        length = min(context_length, n - 1)
        n_windows = 1 + -(-(n - 1 - length) // stride)
        for first in range(rank * batch_size, n_windows, world_size * batch_size):
            numbers = np.arange(first, min(first + batch_size, n_windows))
            # The last window ends with the last token; what it shares is ignored in it.
            starts = np.minimum(numbers * stride, n - 1 - length)
            found = source.gather(starts, length + 1)
            targets = found[:, 1:].copy()
            if not cross_documents:
                ignore_ends(targets, source, starts)
            done = np.where(numbers, (numbers - 1) * stride + length - starts, 0)
            targets[np.arange(length) < done[:, None]] = IGNORE
            yield found[:, :-1].copy(), targets


@dataclass(frozen=True)
class Packing:
    """What windows are filled with. A slot is a place for a token, with a target or without.

    n_ends: slots whose next token is another document's; n_repeated: slots that fill the last
    window of an epoch up, with tokens that have their target in the first.
    """

    n_tokens: int
    n_windows: int
    n_slots: int
    n_ends: int
    n_repeated: int

    @property
    def n_targets(self) -> int:
        return self.n_slots - self.n_ends - self.n_repeated

    @property
    def wasted_share(self) -> float:
        """The share of slots that the model computes and learns nothing from."""
        return 1 - self.n_targets / self.n_slots

    def __str__(self) -> str:
        return (
            f"{self.n_tokens:,} tokens in {self.n_windows:,} windows an epoch, none dropped; "
            f"{self.wasted_share:.2%} of the slots without a target ({self.n_ends:,} at document "
            f"ends, {self.n_repeated:,} to fill the last window)"
        )


def check_length(n_tokens: int, context_length: int) -> None:
    """Refuse what is shorter than one window and its last target."""
    if n_tokens <= context_length:
        raise DataError(
            f"the corpus has {n_tokens:,} tokens, fewer than one window of {context_length:,} and "
            "the token after it",
            hint=f"Give more text, or a context of at most {max(1, n_tokens - 1):,}.",
        )


def ignore_ends(targets: np.ndarray, tokens: Tokens, starts: np.ndarray) -> None:
    """Put IGNORE into targets (B, T) where the target is the first token of a document."""
    rows, ends = tokens.ends_between(starts, starts + targets.shape[1])
    targets[rows, ends - starts[rows] - 1] = IGNORE


def count_ends(tokens: Tokens) -> int:
    """Documents, by their ends."""
    rows, _ = tokens.ends_between(np.zeros(1, np.int64), np.array([len(tokens)]))
    return len(rows)


ROUNDS = 6


def permuted(places: np.ndarray, n: int, keys: np.ndarray) -> np.ndarray:
    """A pseudo-random permutation of 0..n-1 that needs no memory, at some of its places.

    A Feistel cipher over the next power of four permutes its numbers; what falls outside 0..n-1 is
    enciphered again until it falls inside (Black and Rogaway 2002, "cycle walking").
    keys: (ROUNDS,) uint64.
    """
    bits = max(1, -(-int(n - 1).bit_length() // 2))
    mask = np.uint64((1 << bits) - 1)
    half = np.uint64(bits)
    values = places.astype(np.uint64)
    outside = np.ones(len(values), dtype=bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right ^ key) & mask)
        values[outside] = left << half | right
        outside = values >= n
    return values.astype(np.int64)


def _mixed(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers (the finaliser of splitmix64, Steele et al. 2014)."""
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
