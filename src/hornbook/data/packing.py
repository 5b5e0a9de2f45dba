"""Documents as token ids laid end to end: nothing dropped, nothing padded, each end remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hornbook.data.corpus import Corpus
from hornbook.data.tokenizing import encode_documents, end_token, grouped
from hornbook.errors import DataError
from hornbook.text.tokenizer import Tokenizer


class Tokens(Protocol):
    """Documents end to end, in memory or on disk: what `Windows` reads. N tokens, D documents."""

    def __len__(self) -> int:
        """N."""

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        """`length` tokens from each start: (B,) -> (B, length) int64. None may pass the end."""

    def ends_between(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Document ends e, start < e <= stop, of each of B ranges: which range, and e; (K,), (K,).

        An end is the position behind a document's last token; that of the last document is N.
        """

    @property
    def fingerprint(self) -> str:
        """What tells these tokens from others: hexadecimal digits."""


@dataclass(frozen=True)
class TokenArray:
    """Tokens in memory. tokens: (N,) of any integer type; ends: (D,) int64, growing, last N.

    n_bytes: UTF-8 bytes of the text, for bits per byte; 0 where not known.
    """

    tokens: np.ndarray
    ends: np.ndarray
    n_bytes: int = 0

    @classmethod
    def of(cls, tokens: np.ndarray) -> TokenArray:
        """One document."""
        return cls(tokens, np.array([len(tokens)], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.tokens)

    def gather(self, starts: np.ndarray, length: int) -> np.ndarray:
        return self.tokens[starts[:, None] + np.arange(length)].astype(np.int64)

    def ends_between(self, starts: np.ndarray, stops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return ends_between(self.ends, starts, stops)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for values in (self.tokens, self.ends):
            for start in range(0, len(values), 1 << 20):  # whatever the type, the same digits
                digest.update(values[start : start + (1 << 20)].astype("<i8").tobytes())
        return digest.hexdigest()


def beginning(tokens: Tokens, n: int) -> TokenArray:
    """The first `n` tokens, or all where there are fewer, in memory; the last document cut."""
    n = min(n, len(tokens))
    _, ends = tokens.ends_between(np.zeros(1, np.int64), np.array([n]))
    return TokenArray(tokens.gather(np.zeros(1, np.int64), n)[0], np.union1d(ends, n))


def from_all_over(tokens: Tokens, n: int, *, n_pieces: int = 16) -> TokenArray:
    """About `n` tokens from all over a text, in pieces of equal length, each a document of its own.

    A text's beginning is not like the rest of it.
    """
    length = n // n_pieces
    if length * n_pieces >= len(tokens):
        return beginning(tokens, len(tokens))
    starts = np.linspace(0, len(tokens) - length, n_pieces).astype(np.int64)
    pieces = tokens.gather(starts, length)
    return TokenArray(pieces.reshape(-1), length * np.arange(1, n_pieces + 1))


def ends_between(
    ends: np.ndarray, starts: np.ndarray, stops: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`Tokens.ends_between` for sorted ends (D,)."""
    first = np.searchsorted(ends, starts, side="right")
    counts = np.searchsorted(ends, stops, side="right") - first
    rows = np.repeat(np.arange(len(starts)), counts)
    # The k-th of a range's ends: a running number less where the range's own run begins.
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, np.asarray(ends[first[rows] + within], dtype=np.int64)


def pack(documents: Iterable[str], tokenizer: Tokenizer, *, one_text: bool = False) -> TokenArray:
    """Tokenize documents into memory: 2 or 4 bytes a token. Raises DataError where there are none.

    The end-of-text token stands behind each, if the vocabulary has one. one_text: the documents are
    pieces of one text, without anything between them. For more than fits: `shards.write_shards`.
    """
    rows: list[np.ndarray] = []
    n_bytes = 0
    end = None if one_text else end_token(tokenizer)
    for group in grouped(documents):
        rows += [row for row in encode_documents(group, tokenizer, end=end) if len(row)]
        n_bytes += sum(len(document.encode("utf-8", "replace")) for document in group)
    if not rows:
        raise DataError("there is no text to tokenize", hint="Is the corpus empty?")
    tokens = np.concatenate(rows)
    if one_text:
        return TokenArray(tokens, np.array([len(tokens)], np.int64), n_bytes)
    return TokenArray(tokens, np.cumsum([len(row) for row in rows], dtype=np.int64), n_bytes)


def pack_corpus(corpus: Corpus, tokenizer: Tokenizer) -> tuple[TokenArray, TokenArray]:
    """The tokens to train on and those to validate on, in memory."""
    return (
        pack(corpus.train(), tokenizer, one_text=corpus.one_text),
        pack(corpus.validation(), tokenizer, one_text=corpus.one_text),
    )
