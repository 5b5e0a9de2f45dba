"""Text that must be JSON, or JSON of a schema: at each place only the tokens that may stand there.

llguidance keeps a parser at the text's end and says which tokens lead on to something that can
still be finished; the others get no probability. So what is written always parses and validates,
unless the limit of tokens cuts it, which is then said ("length"). JSON is written as Python's
json.dumps does, on one line: where spaces are free, a small model may write nothing else for ever.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from hornbook.errors import ConfigError, UnavailableError
from hornbook.generation.stream import bytes_of
from hornbook.text.tokenizer import Tokenizer

_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_NEEDED = '{}[]:," -.0123456789\\aeflnrstu'  # what JSON itself is made of
_BYTE = re.compile("<0x([0-9A-F]{2})>")  # how SentencePiece spells a byte

_tokenizers: WeakKeyDictionary[Tokenizer, Any] = WeakKeyDictionary()


class Grammar:
    """What a text must look like; any number of requests may share it.

    Made by `json_schema` or `json_object`. Raises ConfigError when nothing can look like that.
    """

    def __init__(self, compiled: str, tokenizer: Tokenizer) -> None:
        self._compiled = compiled
        self._tokenizer = _llguidance_tokenizer(tokenizer)
        self.start()

    def start(self) -> Parser:
        """A parser at the beginning of a text."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self._tokenizer, self._compiled, log_level=0)
        if matcher.is_error():
            raise ConfigError(
                f"no text can be made by this schema: {matcher.get_error().strip()}",
                hint="Change what it asks for, or leave out what is not supported.",
            )
        return Parser(matcher)


class Parser:
    """Where one text stands in its grammar."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self, vocab_size: int) -> NDArray[np.bool_]:
        """Which tokens may come next, (vocab_size,); none where the text is over or stuck."""
        out = np.zeros(vocab_size, np.bool_)
        if not self._matcher.is_stopped():
            packed = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
            bits = np.unpackbits(packed, bitorder="little")[:vocab_size]
            out[: len(bits)] = bits
        return out

    def take(self, token: int) -> None:
        """Go on by a token that was allowed."""
        self._matcher.consume_token(token)

    @property
    def may_end(self) -> bool:
        """Whether the text so far is whole."""
        return not self._matcher.is_error() and bool(self._matcher.is_accepting())

    @property
    def must_end(self) -> bool:
        """Whether nothing can follow: the text is whole, or (not `may_end`) stuck."""
        return bool(self._matcher.is_stopped())


def json_schema(schema: Mapping[str, Any] | bool, tokenizer: Tokenizer) -> Grammar:
    """Texts that are JSON valid under a JSON schema.

    Raises ConfigError for a schema that is broken, that nothing can meet, or that uses what
    llguidance doesn't know (uniqueItems, not, if); UnavailableError without llguidance.
    """
    matcher = _library().LLMatcher
    if schema is False:
        raise ConfigError(
            "no text can be made by this schema: it is false", hint="Allow something."
        )
    try:
        text = json.dumps({} if schema is True else dict(schema), allow_nan=False)
        compiled = matcher.grammar_from_json_schema(text, overrides=_STYLE)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"that is no JSON schema: {error}", hint='Give an object such as {"type": "object"}.'
        ) from error
    return Grammar(compiled, tokenizer)


def json_object(tokenizer: Tokenizer) -> Grammar:
    """Texts that are any JSON object."""
    return json_schema({"type": "object"}, tokenizer)


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of every token, so that a text's bytes are those of its tokens, end to end.

    Raises ConfigError for a tokenizer whose tokens don't simply follow each other.
    """
    kind = (tokenizer.description["decoder"] or {}).get("type")
    if kind == "ByteLevel":
        return [bytes_of(tokenizer, token) for token in range(len(tokenizer.tokens))]
    if kind == "Fuse":
        return [token.encode() for token in tokenizer.tokens]
    if kind in ("Metaspace", "Sequence"):
        return [_sentencepiece(token) for token in tokenizer.tokens]
    raise ConfigError(
        f"a tokenizer with the decoder {kind or 'none'} cannot be held to a grammar",
        hint="Use a model whose tokens are bytes or characters, such as a byte-level BPE.",
    )


def _sentencepiece(token: str) -> bytes:
    byte = _BYTE.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


class _ForLlguidance:
    """What llguidance asks of a tokenizer. The end of a text is a token of its own, after all."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], tokenizer: Tokenizer) -> None:
        self.tokens = [*tokens, b""]
        self.eos_token_id = len(tokens)
        self.special_token_ids = [*tokenizer.special_ids, len(tokens)]
        self._tokenizer = tokenizer
        self._ids = {spelled: i for i, spelled in enumerate(tokens) if spelled}

    def __call__(self, text: bytes) -> list[int]:
        """What the grammar leaves no choice about, as tokens."""
        ids = self._tokenizer.encode([text.decode()], special=False, read_special=False)[0]
        if b"".join(self.tokens[token] for token in ids) == text:
            return ids
        ids, at = [], 0  # some put a space before every text: the longest tokens that fit, then
        while at < len(text):
            ends = (end for end in range(len(text), at, -1) if text[at:end] in self._ids)
            end = next(ends, len(text))
            ids += [self._ids[text[at:end]]] if text[at:end] in self._ids else []
            at = end
        return ids


def _llguidance_tokenizer(tokenizer: Tokenizer) -> Any:
    library = _library()
    if tokenizer not in _tokenizers:
        tokens = token_bytes(tokenizer)
        ordinary = {t for i, t in enumerate(tokens) if i not in tokenizer.special_ids}
        if missing := [c for c in _NEEDED if c.encode() not in ordinary]:
            raise ConfigError(
                f"this model's vocabulary has no {' '.join(missing)}, which JSON is made of",
                hint="Use a model with a byte-level vocabulary.",
            )
        theirs = library.TokenizerWrapper(_ForLlguidance(tokens, tokenizer))
        _tokenizers[tokenizer] = library.LLTokenizer(theirs)
    return _tokenizers[tokenizer]


def _library() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise UnavailableError(
            "text of a given form needs llguidance, which is not installed",
            hint="pip install 'hornbook[serve]'",
        ) from error
    return llguidance
