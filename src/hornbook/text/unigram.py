"""Unigram: begin with far too many pieces, and take out those that the text misses least.

A word's probability is the sum, over all ways to cut it into pieces, of the product of their
probabilities. Four steps:

1. Seed: every substring that occurs several times, found by a suffix array.
2. EM: count the pieces in all ways to cut, each way as often as it is likely (E), and make the
   counts probabilities (M). The text never gets less likely by it.
3. Prune: of each piece, estimate how much less likely the text would be without it: its occurrences
   would be cut as the piece itself is cut best without it. Keep the three quarters that matter
   most, and go back to 2 until few enough are left. Single bytes always stay.
4. To encode, take the likeliest way to cut a word (Viterbi).

Each prune makes the vocabulary shorter and, after the first few, the text longer to tell. `Round`
has both in nats. Their sum falls until pieces go that were worth more than their spelling.

Source: Kudo 2018, section 3.2, as in SentencePiece, but over the bytes of GPT-2's words, so that
nothing is unknown and the algorithms can be compared on the same words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook.text.byte_level import ALPHABET, byte_level, count_words, text_of, words
from hornbook.text.suffix_array import repeated_substrings
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

LONGEST = 16  # bytes of a piece
NEVER = -1e9  # log probability of a special token, which text cannot be
Edges = list[list[tuple[int, str]]]  # by the place where a piece ends: its start, and the piece


@dataclass(frozen=True)
class Round:
    """After a round of EM: pieces, nats to tell the text, and nats to spell out the vocabulary."""

    n_pieces: int
    text_nats: float
    vocabulary_nats: float


@dataclass(frozen=True)
class Unigram:
    """Pieces with their log probabilities in nats; ids are special tokens, then pieces in order."""

    log_p: Mapping[str, float]
    special: Sequence[str] = (END_OF_TEXT,)
    _tokens: list[str] = field(init=False, repr=False, compare=False)
    _id_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tokens = [*self.special, *self.log_p]
        object.__setattr__(self, "_tokens", tokens)
        object.__setattr__(self, "_id_of", {token: i for i, token in enumerate(tokens)})

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, each word cut in its likeliest way."""
        log_p = self.log_p
        return [
            self._id_of[piece]
            for word in words(text)
            for piece in best_cut(cuts(word, log_p), log_p)[1]
        ]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, exactly; special tokens are left out."""
        return text_of("".join(self._tokens[i] for i in ids if i >= len(self.special)))

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary, run by the `tokenizers` library."""
        scored = [*((token, NEVER) for token in self.special), *self.log_p.items()]
        rust = byte_level(RustTokenizer(models.Unigram(scored)))
        rust.add_special_tokens(list(self.special))
        return Tokenizer(rust)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self.tokenizer().save(path)


def train(
    texts: Iterable[str],
    vocab_size: int,
    *,
    special: Sequence[str] = (END_OF_TEXT,),
    keep: float = 0.75,
    n_seeds: int = 100_000,
    n_words: int | None = None,
    listen: Callable[[Round], None] = lambda _: None,
) -> Unigram:
    """Learn a vocabulary of `vocab_size` tokens: special ones, 256 bytes, likely pieces.

    keep: the share of pieces that a prune leaves. n_seeds: pieces to begin with. n_words: how many
    different words to learn from, the most frequent. listen: called after each round of EM.
    """
    counts = dict(count_words(texts).most_common(n_words))
    log_p = seed(counts, n_seeds)
    wanted = max(vocab_size - len(special), len(ALPHABET))
    while True:
        edges_of = {word: cuts(word, log_p) for word in counts}
        for _ in range(2):
            log_p, nats = em_step(counts, edges_of, log_p)
        spelling = math.log(256) * sum(len(piece) + 1 for piece in log_p)
        listen(Round(len(log_p), nats, spelling))
        if len(log_p) <= wanted:
            break
        log_p = prune(counts, edges_of, log_p, max(wanted, int(keep * len(log_p))))
    return Unigram(dict(sorted(log_p.items(), key=lambda item: -item[1])), special)


def seed(counts: Mapping[str, int], n_seeds: int) -> dict[str, float]:
    """All bytes, and the repeated substrings that cover most: those of the largest count x length.

    Returns log probabilities in nats, in proportion to what is covered.
    """
    covered = dict.fromkeys(ALPHABET, 1.0)
    for word, times in counts.items():
        for character in word:
            covered[character] += times
    repeated = [(n * len(piece), piece) for piece, n in repeated_substrings(counts, LONGEST)]
    covered |= {piece: n for n, piece in nlargest(n_seeds, repeated)}
    return _shares(covered)


def em_step(
    counts: Mapping[str, int], edges_of: Mapping[str, Edges], log_p: Mapping[str, float]
) -> tuple[dict[str, float], float]:
    """One round of expectation and maximisation.

    Returns new log probabilities, and the nats that telling the text took with the old ones.
    """
    expected = dict.fromkeys(log_p, 0.0)
    nats = 0.0
    for word, times in counts.items():
        edges = edges_of[word]
        ahead = [0.0]  # log of the sum over all ways from the start to here
        for into in edges[1:]:
            ahead.append(_log_sum([ahead[start] + log_p[piece] for start, piece in into]))
        nats -= times * ahead[-1]
        onward: list[list[float]] = [[] for _ in word]  # logs of ways from here to the end
        behind = 0.0
        for end in range(len(word), 0, -1):
            if end < len(word):
                behind = _log_sum(onward[end])
            for start, piece in edges[end]:
                way = log_p[piece] + behind
                onward[start].append(way)
                expected[piece] += times * math.exp(ahead[start] + way - ahead[-1])
    return _shares(expected), nats


def prune(
    counts: Mapping[str, int],
    edges_of: Mapping[str, Edges],
    log_p: Mapping[str, float],
    n_kept: int,
) -> dict[str, float]:
    """Keep the `n_kept` pieces without which the text would get least likely, and every byte."""
    frequency = dict.fromkeys(log_p, 0)
    for word, times in counts.items():
        for piece in best_cut(edges_of[word], log_p)[1]:
            frequency[piece] += times
    loss = {
        piece: n * (log_p[piece] - best_cut(cuts(piece, log_p), log_p, without=piece)[0])
        for piece, n in frequency.items()
        if len(piece) > 1
    }
    kept = nlargest(n_kept - len(ALPHABET), loss, key=lambda piece: (loss[piece], piece))
    return {piece: log_p[piece] for piece in [*ALPHABET, *kept]}


def cuts(word: str, pieces: Container[str]) -> Edges:
    """For each place in a word, the pieces that may end there, and where they begin."""
    return [
        [
            (start, piece)
            for start in range(max(end - LONGEST, 0), end)
            if (piece := word[start:end]) in pieces
        ]
        for end in range(len(word) + 1)
    ]


def best_cut(
    edges: Edges, log_p: Mapping[str, float], *, without: str | None = None
) -> tuple[float, list[str]]:
    """The likeliest way to cut a word (Viterbi): its log probability in nats, and its pieces.

    Of equal ways the one whose last piece is longer is taken.
    """
    best = [0.0]
    last: list[tuple[int, str]] = [(0, "")]
    for into in edges[1:]:
        highest, chosen = -math.inf, (0, "")
        for start, piece in into:
            if best[start] + log_p[piece] > highest and piece != without:
                highest, chosen = best[start] + log_p[piece], (start, piece)
        best.append(highest)
        last.append(chosen)
    pieces: list[str] = []
    place = len(edges) - 1
    while place:
        place, piece = last[place]
        pieces.append(piece)
    return best[-1], pieces[::-1]


def _log_sum(logs: Sequence[float]) -> float:
    if len(logs) == 1:
        return logs[0]
    largest = max(logs)
    return largest + math.log(sum([math.exp(log - largest) for log in logs]))


def _shares(amounts: Mapping[str, float]) -> dict[str, float]:
    """Log of each amount's share; what is next to nothing keeps a share that can be a number."""
    total = sum(amounts.values())
    return {piece: math.log(max(amount, 1e-9) / total) for piece, amount in amounts.items()}
