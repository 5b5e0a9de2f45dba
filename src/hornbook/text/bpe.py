"""Byte-pair encoding: begin with bytes; again and again, join the pair that occurs most often.

What makes it fast is never to count twice. Joining "t" and "h" changes only the words that hold
"th", and in them only the pairs beside it. So three things are kept: the count of every pair, the
words it may occur in, and a heap of pairs by count. A count in the heap may have grown stale; it is
put right when it comes up, which is cheaper than to search the heap for it.

Source: Sennrich, Haddow and Birch 2016, section 3.2, over bytes as in Radford et al. 2019, section
2.2. Among pairs of equal count the one with smaller ids goes first, as in the `tokenizers` library,
whose trainer finds the same merges in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook.text.byte_level import ALPHABET, byte_level, count_words, text_of, words
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

Pair = tuple[int, int]


@dataclass(frozen=True)
class BPE:
    """A vocabulary (id by position) and the pairs of ids that were joined, in order."""

    tokens: Sequence[str]
    merges: Sequence[Pair]
    n_special: int = 1
    _rank: dict[Pair, int] = field(init=False, repr=False, compare=False)
    _id_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rank", {pair: i for i, pair in enumerate(self.merges)})
        object.__setattr__(self, "_id_of", {token: i for i, token in enumerate(self.tokens)})

    def encode(self, text: str) -> list[int]:
        """Token ids of a text: in each word, the pair that was learnt first is joined first."""
        found = words(text)
        ids_of = {word: self._encode_word(word) for word in set(found)}
        return [i for word in found for i in ids_of[word]]

    def _encode_word(self, word: str) -> list[int]:
        ids = [self._id_of[character] for character in word]
        while ranked := [(self._rank[p], p) for p in pairwise(ids) if p in self._rank]:
            pair = min(ranked)[1]
            for _ in join(ids, pair, self._id_of[self.tokens[pair[0]] + self.tokens[pair[1]]]):
                pass  # the changed pairs matter in training alone
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, exactly; special tokens are left out."""
        return text_of("".join(self.tokens[i] for i in ids if i >= self.n_special))

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary, run by the `tokenizers` library."""
        pairs = [(self.tokens[left], self.tokens[right]) for left, right in self.merges]
        rust = byte_level(RustTokenizer(models.BPE(vocab=self._id_of, merges=pairs)))
        rust.add_special_tokens(list(self.tokens[: self.n_special]))
        return Tokenizer(rust)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self.tokenizer().save(path)


def train(
    texts: Iterable[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    special: Sequence[str] = (END_OF_TEXT,),
) -> BPE:
    """Learn a vocabulary of `vocab_size` tokens: special ones, 256 bytes, and what is joined.

    There are fewer when no pair is left that occurs `min_frequency` times.
    """
    tokens = [*special, *ALPHABET]
    merges = learn_merges(count_words(texts), tokens, vocab_size, min_frequency=min_frequency)
    return BPE(tokens, merges, len(special))


def learn_merges(
    counts: Mapping[str, int], tokens: list[str], vocab_size: int, *, min_frequency: int
) -> list[Pair]:
    """Join pairs until there are `vocab_size` tokens; new ones are appended to `tokens`.

    counts: words and how often they occur. Returns the pairs of ids in the order of their joining.
    """
    id_of = {token: i for i, token in enumerate(tokens)}
    spelled = [[id_of[character] for character in word] for word in counts]
    times = list(counts.values())

    count_of: dict[Pair, int] = {}
    found_in: dict[Pair, set[int]] = {}  # may name words that no longer hold the pair
    for w, word in enumerate(spelled):
        for pair in pairwise(word):
            count_of[pair] = count_of.get(pair, 0) + times[w]
            found_in.setdefault(pair, set()).add(w)
    heap = [(-count, pair) for pair, count in count_of.items()]
    heapify(heap)

    merges: list[Pair] = []
    while heap and len(tokens) < vocab_size:
        negative, pair = heappop(heap)
        count = count_of.get(pair, 0)
        if count != -negative:
            if count:
                heappush(heap, (-count, pair))
            continue
        if count < min_frequency:
            break
        joined = tokens[pair[0]] + tokens[pair[1]]
        new = id_of.setdefault(joined, len(tokens))  # "aa"+"a" may have made what "a"+"aa" makes
        if new == len(tokens):
            tokens.append(joined)
        merges.append(pair)
        grown: set[Pair] = set()
        for w in found_in.pop(pair):
            for changed, by in join(spelled[w], pair, new):
                count_of[changed] = count_of.get(changed, 0) + by * times[w]
                if by > 0:
                    found_in.setdefault(changed, set()).add(w)
                    grown.add(changed)
        del count_of[pair]
        for changed in grown:
            if count_of.get(changed):
                heappush(heap, (-count_of[changed], changed))
    return merges


def join(word: list[int], pair: Pair, new: int) -> Iterator[tuple[Pair, int]]:
    """Put `new` for every `pair` in a word, from the left; yield pairs lost (-1) and won (+1)."""
    i = 0
    while i < len(word) - 1:
        if word[i] == pair[0] and word[i + 1] == pair[1]:
            word[i : i + 2] = [new]
            if i > 0:
                yield (word[i - 1], pair[0]), -1
                yield (word[i - 1], new), 1
            if i + 1 < len(word):
                yield (pair[1], word[i + 1]), -1
                yield (new, word[i + 1]), 1
        i += 1
