"""Documents as token ids laid end to end: nothing dropped, nothing padded, each end remembered."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np

from hornbook.data.textfiles import cut_place
from hornbook.errors import DataError

END_OF_TEXT = "<|endoftext|>"  # appended to each document where the vocabulary has it
CHUNK = 1 << 16  # characters given to the tokenizer at once: it holds some 100 bytes a token
GROUP = 1 << 18  # characters of documents given to it together


class Encoder(Protocol):
    """What is asked of a tokenizer here: see text/tokenizer.py."""

    @property
    def vocab_size(self) -> int: ...

    def encode(
        self, texts: Sequence[str], *, max_tokens: int, special: bool = True
    ) -> list[list[int]]: ...

    def id_of(self, token: str) -> int: ...


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


def token_type(vocab_size: int) -> np.dtype:
    """The smallest of uint16 and uint32 that holds every id, little-endian."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def end_token(tokenizer: Encoder) -> int | None:
    """The id put behind each document: that of END_OF_TEXT, or None where there is none."""
    try:
        return tokenizer.id_of(END_OF_TEXT)
    except KeyError:
        return None


def encode_documents(documents: Sequence[str], tokenizer: Encoder) -> list[np.ndarray]:
    """The ids of each document, with the end token behind, as small as the vocabulary allows.

    A long document goes through the tokenizer in chunks cut at line ends, where tokenizers that
    split at spaces (GPT-2's, BERT's, characters) give the same ids as for the whole.
    """
    chunks = [list(_chunks(document)) for document in documents]
    flat = list(chain.from_iterable(chunks))
    ids = iter(tokenizer.encode(flat, max_tokens=CHUNK * 8, special=False)) if flat else iter(())
    kind = token_type(tokenizer.vocab_size)
    end = end_token(tokenizer)
    tail = [] if end is None else [np.array([end], kind)]
    return [np.concatenate([np.array(next(ids), kind) for _ in own] + tail) for own in chunks]


def _chunks(document: str) -> Iterator[str]:
    start = 0
    while len(document) - start > CHUNK:
        end = start + cut_place(document[start : start + CHUNK + 1], CHUNK)
        yield document[start:end]
        start = end
    yield document[start:]


def grouped(documents: Iterable[str], n_characters: int = GROUP) -> Iterator[list[str]]:
    """Documents in lists of about so many characters: what is tokenized together."""
    group: list[str] = []
    size = 0
    for document in documents:
        group.append(document)
        size += len(document)
        if size >= n_characters:
            yield group
            group, size = [], 0
    if group:
        yield group


def pack(documents: Iterable[str], tokenizer: Encoder) -> TokenArray:
    """Tokenize documents into memory: 2 or 4 bytes a token. Raises DataError where there are none.

    For more than fits, `shards.write_shards`.
    """
    rows: list[np.ndarray] = []
    n_bytes = 0
    for group in grouped(documents):
        rows += encode_documents(group, tokenizer)
        n_bytes += sum(len(document.encode("utf-8", "replace")) for document in group)
    if not any(len(row) for row in rows):
        raise DataError("there is no text to tokenize", hint="Is the corpus empty?")
    ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
    return TokenArray(np.concatenate(rows), ends, n_bytes)
