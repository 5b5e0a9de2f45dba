"""N-grams by counting: the referee that every language model is printed beside.

How often did this token follow these? With smoothing, because most long contexts were never seen:
each order keeps a share of its probability for the order below. Witten-Bell (Witten and Bell 1991,
method C, interpolated as in Chen and Goodman 1998, section 2.5) or modified Kneser-Ney (Chen and
Goodman 1998, section 3). No gradients, a few seconds, and hard to beat for a small network.

The counts are a trie in sorted arrays. Level n has one entry for each different n-gram: the place
on level n - 1 of its first n - 1 tokens, times the vocabulary size, plus its last token. So the
entries that continue one context are neighbours, and a lookup is a binary search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hornbook.errors import ConfigError, DataError

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The n-grams of one order n, M of them, after K different contexts of n - 1 tokens.

    codes: (M,) sorted, context * V + token. starts: (K + 1,) where each context's entries begin.
    kept: (M,) what the counts say of an entry, after discounting. backed_off: (K,) the share of
    each context that goes to the order below. kept over a context + its backed_off = 1.
    """

    codes: Ints
    starts: Ints
    kept: Floats
    backed_off: Floats


@dataclass(frozen=True)
class Smoothing:
    """How an order's counts become what it keeps and what it backs off.

    share: (counts (M,), starts (K + 1,)) -> (kept (M,), backed_off (K,)). by_contexts: count for
    lower orders after how many different tokens an n-gram stood, instead of how often it did.
    """

    share: Callable[[Ints, Ints], tuple[Floats, Floats]]
    by_contexts: bool = False


def _witten_bell(counts: Ints, starts: Ints) -> tuple[Floats, Floats]:
    """A context that was continued c times in d ways backs off with weight d / (c + d)."""
    ways = np.diff(starts)
    total = np.maximum(1, _sums(counts, starts) + ways)
    return counts / np.repeat(total, ways), np.where(ways > 0, ways / total, 1.0)


def _kneser_ney(counts: Ints, starts: Ints) -> tuple[Floats, Floats]:
    """Take a fixed discount from counts of 1, of 2 and of more."""
    taken = discounts(counts)[np.minimum(counts, 3) - 1]
    ways = np.diff(starts)
    total = np.maximum(1, _sums(counts, starts))
    kept = (counts - taken) / np.repeat(total, ways)
    return kept, np.where(ways > 0, _sums(taken, starts) / total, 1.0)


def discounts(counts: np.ndarray) -> Floats:
    """What to take from counts of 1, of 2 and of more (Chen and Goodman, equation 26): (3,)."""
    n1, n2, n3, n4 = (max(1, int((counts == n).sum())) for n in (1, 2, 3, 4))
    y = n1 / (n1 + 2 * n2)
    taken = np.array([1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
    # Their estimates go wild where few n-grams are rare, as with single characters.
    return taken.clip([0.05, 0.1, 0.15], [0.95, 1.9, 2.85])


def _sums(values: np.ndarray, starts: Ints) -> np.ndarray:
    """The sum of each context's entries; 0 for the text's last n-gram, which nothing continues."""
    return np.diff(np.append(values[:0].sum(), values.cumsum())[starts])


WITTEN_BELL = Smoothing(_witten_bell)
KNESER_NEY = Smoothing(_kneser_ney, by_contexts=True)


class NGram:
    """Probabilities of the next token by `len(levels)`-grams; `fit` makes one."""

    def __init__(self, vocab_size: int, levels: list[Level]) -> None:
        self.vocab_size = vocab_size
        self.levels = levels

    def probabilities(self, tokens: ArrayLike) -> Floats:
        """Of each token given those before it, by each order: (T,) -> (orders, T).

        Under Kneser-Ney only the last row is a model of its own: the lower orders there answer
        another question (after how many contexts has this token been seen).
        """
        tokens = checked(tokens, self.vocab_size)
        p = np.full(len(tokens), 1 / self.vocab_size)
        out = np.empty((len(self.levels), len(tokens)))
        context = np.zeros(len(tokens), np.int64)  # the empty one, for all
        for i, level in enumerate(self.levels):
            entry = _find(level, context, tokens, self.vocab_size)
            seen = context >= 0
            p[seen] *= level.backed_off[context[seen]]
            p[entry >= 0] += level.kept[entry[entry >= 0]]
            out[i] = p
            # The n-gram that ends here is the next token's context on the level above.
            context = np.append(-1, entry[:-1])
        return out

    def losses(self, tokens: ArrayLike) -> Floats:
        """Mean negative log-likelihood of each order, in nats a token: (T,) -> (orders,)."""
        return -np.log(self.probabilities(tokens)).mean(1)

    def next(self, contexts: ArrayLike) -> NDArray[np.float32]:
        """Probabilities of what comes next: (N, L) tokens, the last one nearest -> (N, V).

        Tokens outside the vocabulary (-1, say) end a context: what is before them is not read.
        """
        contexts = np.asarray(contexts, np.int64).reshape(len(np.asarray(contexts)), -1)
        length = min(contexts.shape[1], len(self.levels) - 1)
        known = [np.zeros(len(contexts), np.int64)]
        for n in range(1, length + 1):  # each suffix of the context, from its first token on
            entry = known[0]
            for level, token in zip(self.levels, contexts.T[-n:]):
                entry = _find(level, entry, token, self.vocab_size)
            known.append(entry)
        out = np.zeros((len(contexts), self.vocab_size), np.float32)
        left = np.ones(len(contexts))  # the share that no order has given away yet
        for level, context in reversed(list(zip(self.levels, known))):
            rows = np.flatnonzero(context >= 0)
            starts = level.starts[context[rows]]
            ways = level.starts[context[rows] + 1] - starts
            # The entries of all rows' contexts, end to end.
            skip = np.repeat(starts - (ways.cumsum() - ways), ways)
            entries = np.arange(ways.sum()) + skip
            row = np.repeat(rows, ways)
            out[row, level.codes[entries] % self.vocab_size] += left[row] * level.kept[entries]
            left[rows] *= level.backed_off[context[rows]]
        out += (left / self.vocab_size)[:, None]
        return out


def fit(
    tokens: ArrayLike, vocab_size: int, max_order: int = 5, smoothing: Smoothing = WITTEN_BELL
) -> NGram:
    """Count the n-grams of a text (T,) for n = 1 ... max_order, or up to the text's length.

    Raises DataError when the text is empty or holds an id outside the vocabulary, ConfigError for
    an order below 1.
    """
    tokens = checked(tokens, vocab_size)
    if max_order < 1:
        raise ConfigError(f"max_order is {max_order}", hint="1 counts tokens; 5 is usual.")
    levels: list[Level] = []
    before: Ints = np.zeros(len(tokens) + 1, np.int64)  # the empty context, at every place
    n_contexts = 1
    waiting: tuple[Ints, Ints, Ints] | None = (
        None  # the level below, until its n-grams' left neighbours are known
    )
    for n in range(1, min(max_order, len(tokens)) + 1):
        codes, first, entry, counts = np.unique(
            before[:-1] * vocab_size + tokens[n - 1 :],
            return_index=True,
            return_inverse=True,
            return_counts=True,
        )
        if waiting is not None:
            if smoothing.by_contexts:  # each entry here is one left neighbour of its last n - 1
                lefts = np.bincount(before[first + 1], minlength=n_contexts)
                waiting = (waiting[0], waiting[1], np.maximum(1, lefts))
            levels.append(_level(smoothing, *waiting))
        waiting = (codes, np.searchsorted(codes, np.arange(n_contexts + 1) * vocab_size), counts)
        before, n_contexts = entry, len(codes)
    assert waiting is not None
    return NGram(vocab_size, [*levels, _level(smoothing, *waiting)])


def _level(smoothing: Smoothing, codes: Ints, starts: Ints, counts: Ints) -> Level:
    return Level(codes, starts, *smoothing.share(counts, starts))


def _find(level: Level, context: Ints, token: Ints, vocab_size: int) -> Ints:
    """The entry of each (context, token); -1 where either was never seen."""
    code = context * vocab_size + token
    place = np.searchsorted(level.codes, code).clip(max=len(level.codes) - 1)
    hit = (level.codes[place] == code) & (context >= 0) & (token >= 0) & (token < vocab_size)
    return np.where(hit, place, -1)


def checked(tokens: ArrayLike, vocab_size: int) -> Ints:
    """Token ids as int64 (T,). Raises DataError when there are none or one is out of range."""
    ids = np.asarray(tokens, dtype=np.int64).ravel()
    if not len(ids):
        raise DataError("there is no token to count", hint="Is the text empty?")
    if ids.min() < 0 or ids.max() >= vocab_size:
        worst = int(ids.min() if ids.min() < 0 else ids.max())
        raise DataError(
            f"the text holds the token id {worst}; the vocabulary has {vocab_size}",
            hint="Was it encoded by another tokenizer?",
        )
    return ids
