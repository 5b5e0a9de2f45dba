"""How well a tokenizer suits a text: the tokens it takes, what it wastes, what it can't say."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hornbook.text.tokenizer import Tokenizer
from hornbook.text.train import pieces_of

EDGES = "\"'`.,;:!?()[]{}<>*_~|=+“”‘’«»„…–—-#/\\"
_WORD = re.compile(r"(?:(?!--)[^\s—–…])+")  # dashes and dots part words also without a space
BATCH = 200  # pieces of text that are encoded at once


@dataclass(frozen=True)
class SplitWord:
    """A word that takes several tokens. saved: what one of its own would save in the text."""

    word: str
    pieces: list[str]
    count: int
    saved: int


@dataclass(frozen=True)
class Measures:
    """Counts over a text. Words are what stands between spaces, bytes are of UTF-8.

    used_share: the part of the vocabulary, special tokens aside, that the text makes use of.
    unknown_share: the part of the tokens that say "unknown". bytes_per_second: of encoding, with
    the threads that the library takes. worst: words that waste most tokens.
    """

    vocab_size: int
    n_tokens: int
    n_words: int
    n_bytes: int
    n_unknown: int
    used_share: float
    bytes_per_second: float
    worst: list[SplitWord] = field(default_factory=list)

    @property
    def tokens_per_word(self) -> float:
        return self.n_tokens / max(self.n_words, 1)

    @property
    def bytes_per_token(self) -> float:
        return self.n_bytes / max(self.n_tokens, 1)

    @property
    def unknown_share(self) -> float:
        return self.n_unknown / max(self.n_tokens, 1)


def measure(tokenizer: Tokenizer, texts: Iterable[str], *, n_worst: int = 5) -> Measures:
    """Encode texts and count. What is spelled like a special token is read as plain text."""
    n_tokens = n_words = n_bytes = 0
    seconds = 0.0
    used: Counter[int] = Counter()
    words: Counter[str] = Counter()
    for batch in _batches(pieces_of(texts)):
        start = time.perf_counter()
        encoded = tokenizer.encode(batch, special=False, read_special=False)
        seconds += time.perf_counter() - start
        for text, ids in zip(batch, encoded):
            n_tokens += len(ids)
            used.update(ids)
            n_bytes += len(text.encode(errors="replace"))
            n_words += len(text.split())
            words.update(_WORD.findall(text))
    sayable = tokenizer.vocab_size - len(tokenizer.special_ids)
    unknown = tokenizer.unknown_id
    return Measures(
        vocab_size=tokenizer.vocab_size,
        n_tokens=n_tokens,
        n_words=n_words,
        n_bytes=n_bytes,
        n_unknown=0 if unknown is None else used[unknown],
        used_share=len(used.keys() - tokenizer.special_ids) / max(sayable, 1),
        bytes_per_second=n_bytes / max(seconds, 1e-9),
        worst=worst_split(tokenizer, words, n=n_worst),
    )


def count_tokens(tokenizer: Tokenizer, texts: Iterable[str]) -> int:
    """Tokens of texts, without special ones; each text is encoded whole, so that none is cut."""
    return sum(
        len(tokenizer.encode([text], special=False, read_special=False)[0]) for text in texts
    )


def worst_split(
    tokenizer: Tokenizer, words: Counter[str], *, n: int, least_pieces: int = 3
) -> list[SplitWord]:
    """Words that would save most tokens if they had one of their own.

    words: what stands between spaces or dashes, and how often; marks at the edges are taken off. A
    word is looked at with a space before it, as it stands in a text; a byte-level tokenizer would
    need a token for the space too.
    """
    alone = 2 if tokenizer.is_byte_level else 1
    bare: Counter[str] = Counter()
    for word, times in words.items():
        if core := word.strip(EDGES):
            bare[core] += times
    candidates = [w for w in bare if len(w) >= least_pieces and not tokenizer.is_added(w)]
    split: list[SplitWord] = []
    for batch in _batches(candidates, 10_000):
        encoded = tokenizer.encode([" " + w for w in batch], special=False, read_special=False)
        for word, ids in zip(batch, encoded):
            if len(ids) >= least_pieces:
                pieces = [tokenizer.spelled(i) for i in ids]
                saved = bare[word] * (len(ids) - alone)
                split.append(SplitWord(word, pieces, bare[word], saved))
    return sorted(split, key=lambda s: (-s.saved, s.word))[:n]


def words_of(texts: Iterable[str]) -> Counter[str]:
    """What stands between spaces or dashes, and how often."""
    words: Counter[str] = Counter()
    for text in texts:
        words.update(_WORD.findall(text))
    return words


def _batches(items: Iterable[str], size: int = BATCH) -> Iterator[list[str]]:
    batch: list[str] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
