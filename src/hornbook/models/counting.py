"""Counting as evidence for a network: what followed these tokens elsewhere in the training text.

A network that is shown counts of the very text it learns from finds the answer among them, and
learns to trust them more than a new text deserves. So the text is cut into folds, and at each place
the counts leave that place's own fold out: in training they are as good as they will be on text
that was never counted. Smoothed after Kneser and Ney (Chen and Goodman 1998, section 3): a shorter
context counts after how many different tokens an n-gram stood, instead of how often.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hornbook.models.ngram import Ints, checked, discounts

Floats = NDArray[np.float32]
_SORTING, _DISCOUNTING = 40, 24  # bytes a token, and an n-gram and fold, while they are made
SMALLEST = 1e-7  # a share below this is taken for this: its logarithm has to stay finite


@dataclass(frozen=True)
class Level:
    """The n-grams of one order, M of them after K contexts, counted with each of F folds left out.

    codes: (M,) sorted, context * V + token. starts: (K + 1,) where each context's entries begin.
    kept: (M, F + 1) counts after discounting, the last column of the whole text. totals and
    discounts: (K, F + 1) a context's counts, and what was taken from them for the shorter context.
    """

    codes: Ints
    starts: Ints
    kept: Floats
    totals: Floats
    discounts: Floats


@dataclass(frozen=True)
class Counts:
    """Evidence from contexts of 0 ... len(levels) - 1 tokens; `count` makes one."""

    vocab_size: int
    levels: tuple[Level, ...]

    @property
    def whole(self) -> int:
        """The number of the fold that leaves nothing out: for text that was not counted."""
        return self.levels[0].kept.shape[1] - 1

    def found(self, tokens: Ints, positions: Ints) -> list[Ints]:
        """The entries that end at each token, by level, -1 where unseen. (N,) -> each (N,).

        positions: of each token in its document; what stands before 0 is not looked at.
        """
        entries: list[Ints] = []
        before = np.zeros(len(tokens), np.int64)  # the empty context
        for level in self.levels:
            codes = before * self.vocab_size + tokens
            place = np.searchsorted(level.codes, codes).clip(max=len(level.codes) - 1)
            hit = (level.codes[place] == codes) & (before >= 0)
            entries.append(np.where(hit, place, -1))
            before = np.append(-1, entries[-1][:-1])
            before[positions == 0] = -1
        return entries

    def log_shares(self, entries: Sequence[Ints], fold: Ints, orders: Sequence[int]) -> Floats:
        """Log-probabilities of what comes next: (N, len(orders), V).

        entries: `found` of the tokens before, each (N,). fold: (N,) the fold to leave out. orders:
        3 is the trigram's opinion; growing, at most len(levels).
        """
        n, v = len(fold), self.vocab_size
        shares = np.full((n, v), 1 / v, np.float32)
        out = np.empty((n, len(orders), v), np.float32)
        contexts = [np.zeros(n, np.int64), *entries[: len(self.levels) - 1]]
        for order, (level, context) in enumerate(zip(self.levels, contexts, strict=True), 1):
            rows = np.flatnonzero(context >= 0)
            at, without = context[rows], fold[rows]
            total = level.totals[at, without]
            weight = 1 / np.where(total > 0, total, 1)
            shares[rows] *= np.where(total > 0, level.discounts[at, without] * weight, 1)[:, None]
            first, n_entries = level.starts[at], level.starts[at + 1] - level.starts[at]
            skip = np.repeat(first - (n_entries.cumsum() - n_entries), n_entries)
            entry = np.arange(n_entries.sum()) + skip  # of all rows' contexts, end to end
            row = np.repeat(np.arange(len(rows)), n_entries)
            kept = level.kept[entry, without[row]] * weight[row]
            shares[rows[row], level.codes[entry] % v] += kept
            if order in orders:
                out[:, orders.index(order)] = np.log(np.maximum(shares, SMALLEST))
        return out


@dataclass(frozen=True)
class Counted:
    """A counted text: its counts, and for each of its tokens the entries that end there."""

    counts: Counts
    entries: list[NDArray[np.int32]]
    n_folds: int

    @property
    def n_tokens(self) -> int:
        return len(self.entries[0])

    def evidence(self, places: Ints, orders: Sequence[int]) -> Floats:
        """Log-shares of the token after each place (any shape), its fold left out: (..., K, V)."""
        flat = places.reshape(-1)
        n = self.n_tokens
        fold = np.minimum(flat + 1, n - 1) * self.n_folds // n
        entries = [level[flat].astype(np.int64) for level in self.entries]
        shares = self.counts.log_shares(entries, fold, orders)
        return shares.reshape(*places.shape, *shares.shape[1:])


def count(tokens: np.ndarray, vocab_size: int, *, max_order: int = 7, n_folds: int = 8) -> Counted:
    """Count a text (T,) by orders 1 ... max_order, and again without each of its folds.

    Memory: some 12 * (n_folds + 1) bytes for each different n-gram. Raises DataError for an empty
    text or ids out of range.
    """
    tokens = checked(tokens, vocab_size)
    n = len(tokens)
    n_folds = min(n_folds, n)
    fold = np.arange(n) * n_folds // n
    before, n_contexts = np.zeros(n, np.int64), 1
    levels: list[Level] = []
    entries: list[NDArray[np.int32]] = []
    waiting: tuple[Ints, Floats, int] | None = None  # the level below, until what stands before
    for order in range(1, min(max_order, n) + 1):  # its n-grams is known
        some = slice(order - 1, None)  # the first n-gram of this order ends here
        codes, first, entry = np.unique(
            before[some] * vocab_size + tokens[some], return_index=True, return_inverse=True
        )
        counts = _counted(entry, fold[some], len(codes), n_folds)
        if waiting is not None:
            suffixes = entries[-1][first + order - 1]  # each n-gram without its first token
            lefts = _after_how_many(suffixes, counts > 0, len(waiting[0]))
            below = np.where(waiting[1] > 0, lefts.clip(1), 0)
            levels.append(_level(waiting[0], below, waiting[2], vocab_size))
        waiting = (codes, counts, n_contexts)
        found = np.full(n, -1, np.int32)
        found[some] = entry
        entries.append(found)
        before, n_contexts = np.append(-1, found[:-1]).astype(np.int64), len(codes)
    assert waiting is not None
    levels.append(_level(*waiting, vocab_size))
    return Counted(Counts(vocab_size, tuple(levels)), entries, n_folds)


def bytes_of_counts(
    tokens: np.ndarray, vocab_size: int, *, n_tokens: int, max_order: int = 7, n_folds: int = 8
) -> tuple[int, int]:
    """What `count` will hold, kept and at its highest, from the beginning of a text. Bytes.

    tokens: the beginning; n_tokens: of the whole text. How many different n-grams there will be is
    continued from how they grew in the beginning's second half (Heaps 1978, section 7.5).
    """
    tokens = checked(tokens, vocab_size)
    kept, largest, n_contexts = 4 * max_order * n_tokens, 0, 1
    before = np.zeros(len(tokens), np.int64)
    for order in range(1, min(max_order, len(tokens)) + 1):
        some = slice(order - 1, None)
        codes, first, entry = np.unique(
            before[some] * vocab_size + tokens[some], return_index=True, return_inverse=True
        )
        half = int((first < len(tokens) // 2).sum())
        growth = len(codes) / max(1, half)  # by which they grow where the text doubles
        n = round(len(codes) * growth ** math.log2(n_tokens / len(tokens)))
        kept += n * (8 + 4 * (n_folds + 1)) + n_contexts * (8 + 8 * (n_folds + 1))
        largest, n_contexts = max(largest, n), n
        before = np.zeros(len(tokens), np.int64)
        before[order:] = entry[:-1]
    return kept, kept + _SORTING * n_tokens + _DISCOUNTING * (n_folds + 1) * largest


def _counted(entry: Ints, fold: Ints, n_entries: int, n_folds: int) -> Floats:
    """How often each n-gram occurs without each fold, and in all: (M, F + 1)."""
    inside = np.bincount(entry * n_folds + fold, minlength=n_entries * n_folds)
    inside = inside.reshape(n_entries, n_folds)
    whole = inside.sum(1, keepdims=True)
    return np.concatenate([whole - inside, whole], 1).astype(np.float32)


def _after_how_many(suffixes: np.ndarray, present: np.ndarray, n_entries: int) -> Floats:
    """Of each n-gram, how many longer ones end in it, by fold: (n_entries, F + 1)."""
    columns = [np.bincount(suffixes[column], minlength=n_entries) for column in present.T]
    return np.stack(columns, 1).astype(np.float32)


def _level(codes: Ints, counts: Floats, n_contexts: int, vocab_size: int) -> Level:
    """Take a fixed discount from counts of 1, of 2 and of more (Chen and Goodman, equation 26)."""
    taken = np.append(0, discounts(counts[:, -1]))[np.minimum(counts, 3).astype(np.int8)]
    starts = np.searchsorted(codes, np.arange(n_contexts + 1) * vocab_size)
    totals, given = _by_context(counts, starts), _by_context(taken, starts)
    return Level(codes, starts, (counts - taken).astype(np.float32), totals, given)


def _by_context(values: np.ndarray, starts: Ints) -> Floats:
    """Sums over each context's entries: (M, F + 1) -> (K, F + 1)."""
    ends = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(0, dtype=np.float64)])
    return np.diff(ends[starts], axis=0).astype(np.float32)
