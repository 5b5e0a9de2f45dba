"""Tokens to text while they come: whole characters only, and no token is decoded twice.

Byte-level tokens are bytes, so that a decoder of UTF-8 which waits for the rest of a character is
all that is needed. Other tokens may be spelled by what stands before them (a space between words,
say): they are decoded together with the last few.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from hornbook.text.byte_level import BYTE_OF
from hornbook.text.tokenizer import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_LOOK_BACK = 8  # tokens of the prompt that decide about spaces and half characters


class Detokenizer(Protocol):
    """Spells tokens one after the other."""

    def add(self, token: int) -> str:
        """The text that is certain with this token; "" where a character is not complete yet."""
        ...

    def end(self) -> str:
        """What stays broken, as it is."""
        ...


def detokenizer(tokenizer: Tokenizer, before: Sequence[int] = ()) -> Detokenizer:
    """A detokenizer of what follows the tokens `before`, whose text is not given again."""
    spelling = _Bytes(tokenizer) if tokenizer.is_byte_level else _Window(tokenizer)
    for token in before[-_LOOK_BACK:]:
        spelling.add(token)
    return spelling


def text_pieces(
    tokens: Iterable[int], tokenizer: Tokenizer, *, before: Sequence[int] = ()
) -> Iterator[str]:
    """The text that each token adds, later where a character is not complete yet.

    before: tokens of the prompt, which decide about spaces; their text is not given again. What
    stays broken at the end is given as it is.
    """
    spelling = detokenizer(tokenizer, before)
    for token in tokens:
        if text := spelling.add(token):
            yield text
    if rest := spelling.end():
        yield rest


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """The bytes of a byte-level token; none for special tokens and ids outside the vocabulary."""
    if token in tokenizer.special_ids or not 0 <= token < len(tokenizer.tokens):
        return b""
    spelled = tokenizer.tokens[token]
    try:
        return bytes(BYTE_OF[character] for character in spelled)
    except KeyError:  # an added token is spelled as it is
        return spelled.encode()


class _Bytes:
    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        return self._decoder.decode(bytes_of(self._tokenizer, token))

    def end(self) -> str:
        return self._decoder.decode(b"", final=True)


class _Window:
    """Decodes the tokens of the last text given, and those after it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._told: list[int] = []  # tokens whose text was given, the last few
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        if token in self._tokenizer.special_ids:
            return ""
        self._waiting.append(token)
        text = self._new()
        if not text or (text.endswith(_BROKEN) and len(self._waiting) < 4):
            return ""  # perhaps the first bytes of a character, which has four at most
        self._told = [*self._told, *self._waiting][-_LOOK_BACK:]
        self._waiting = []
        return text

    def end(self) -> str:
        return self._new() if self._waiting else ""

    def _new(self) -> str:
        before = self._tokenizer.decode(self._told)
        return self._tokenizer.decode([*self._told, *self._waiting])[len(before) :]
