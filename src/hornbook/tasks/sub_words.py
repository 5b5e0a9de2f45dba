"""Words and the sub-words that a tokenizer makes of them; scores of sub-words made into a word's,
words' tags into spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from hornbook.data.tagged import TaggedText
from hornbook.text.encoding import Encoding

Aggregation = Literal["none", "simple", "first", "average", "max"]
Unit = tuple[str, float, int, int]  # label, score, start, end: a word, or a token


@dataclass(frozen=True, slots=True)
class Word:
    """A word: its characters [start, end) in the text, and its tokens from `first` on.

    number: its place among the text's words. n_tokens is 0 where the tokenizer reads nothing of it.
    """

    number: int
    start: int
    end: int
    first: int
    n_tokens: int


def words_in(encoding: Encoding) -> list[Word]:
    """A bare text's words as the tokenizer itself sees them."""
    words: list[Word] = []
    numbered = [(i, word) for i, word in enumerate(encoding.word_ids) if word is not None]
    for _, group in groupby(numbered, key=lambda pair: pair[1]):
        tokens = [i for i, _ in group]
        start, end = encoding.offsets[tokens[0]][0], encoding.offsets[tokens[-1]][1]
        words.append(Word(len(words), start, end, tokens[0], len(tokens)))
    return words


def aligned(
    example: TaggedText, joined: str, encoding: Encoding
) -> tuple[list[Word], list[tuple[int, int]]]:
    """A tagged text's words, and the characters of each token in its text.

    joined: its words with spaces between, which is what `encoding` is of. A token belongs to the
    word that its first character stands in.
    """
    n_tokens = len(encoding)
    words: list[Word] = []
    places = [(0, 0)] * n_tokens
    token = start = 0
    for number, (word, place) in enumerate(zip(example.words, example.places, strict=True)):
        end, first = start + len(word), token
        while token < n_tokens:
            begin, stop = encoding.offsets[token]
            while begin < stop and joined[begin].isspace():
                begin += 1  # some tokenizers count the space before a word to it
            if begin >= end:
                break
            places[token] = (place[0] + begin - start, min(place[0] + stop - start, place[1]))
            token += 1
        words.append(Word(number, *place, first, token - first))
        start = end + 1
    return words, places


def word_scores(own: np.ndarray, aggregation: Aggregation) -> np.ndarray:
    """The scores (L,) of a word out of its sub-words' (n, L), as transformers' pipeline has it."""
    if aggregation == "average":
        return own.mean(0)
    return own[own.max(1).argmax()] if aggregation == "max" else own[0]


def grouped(units: Sequence[Unit], outside: str = "O") -> list[Unit]:
    """Neighbours with tags of one entity as one, scored by their mean; those outside are left out.

    B- begins; I- goes on with the same type, and else begins too.
    """
    groups: list[list[Unit]] = []
    for unit in units:
        letter, _, name = unit[0].partition("-")
        if unit[0] == outside:
            groups.append([])
        elif letter == "I" and groups and groups[-1] and groups[-1][-1][0][2:] == name:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return [
        (
            group[0][0].partition("-")[2],
            float(np.mean([score for _, score, _, _ in group])),
            group[0][2],
            group[-1][3],
        )
        for group in groups
        if group
    ]
