"""Counts of running text: documents, characters, bytes, words, and which characters there are."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizing import grouped

N_CODES = 0x110000  # Unicode's code points


@dataclass(frozen=True)
class TextStats:
    """Counts over documents. n_bytes: UTF-8; n_words: between spaces; n_different: characters.

    lengths: characters of a document at the 5th, 50th and 95th percentile and of the longest.
    characters: each with its count, commonest first.
    """

    n_documents: int
    n_characters: int
    n_bytes: int
    n_words: int
    n_lines: int
    lengths: tuple[int, int, int, int]
    characters: dict[str, int]

    @property
    def n_different(self) -> int:
        return len(self.characters)


def text_stats(documents: Iterable[str]) -> TextStats:
    """Count in one pass; memory holds a number a document."""
    lengths = array("Q")
    counts = np.zeros(N_CODES, dtype=np.int64)
    n_words = n_lines = 0
    for group in grouped(documents):
        lengths.extend(map(len, group))
        n_words += sum(len(document.split()) for document in group)
        n_lines += sum(document.count("\n") for document in group)
        codes = np.frombuffer("".join(group).encode("utf-32-le", "replace"), dtype="<u4")
        few = np.bincount(codes)
        counts[: len(few)] += few
    used = np.flatnonzero(counts)
    # A code point takes one byte in UTF-8 below 0x80, two below 0x800, three below 0x10000.
    sizes = 1 + (used >= 0x80) + (used >= 0x800) + (used >= 0x10000)
    order = used[np.argsort(-counts[used], kind="stable")]
    at = np.percentile(lengths, [5, 50, 95, 100], method="nearest") if lengths else [0, 0, 0, 0]
    p5, p50, p95, longest = (int(length) for length in at)
    return TextStats(
        n_documents=len(lengths),
        n_characters=int(counts.sum()),
        n_bytes=int((counts[used] * sizes).sum()),
        n_words=n_words,
        n_lines=n_lines,
        lengths=(p5, p50, p95, longest),
        characters={chr(code): int(counts[code]) for code in order},
    )


def unseen(train: TextStats, validation: TextStats) -> dict[str, int]:
    """Characters of the validation part that the training part lacks, with their counts."""
    found = validation.characters
    return {c: n for c, n in found.items() if c not in train.characters}


def corpus_stats(corpus: Corpus) -> tuple[TextStats, TextStats]:
    """Of the training and of the validation part."""
    return text_stats(corpus.train()), text_stats(corpus.validation())
