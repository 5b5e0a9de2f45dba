"""The tokenizer everything else uses: a `tokenizer.json`, run by the Rust `tokenizers` library.

The algorithms stand on pages of their own (`character`, `word`, `bpe`, `wordpiece`, `unigram`), and
each of them can become one of these; `train` makes them from large corpora.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as RustTokenizer

from hornbook import files
from hornbook.errors import CheckpointError, ConfigError
from hornbook.text.encoding import Encoding

BERT_SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
END_OF_TEXT = "<|endoftext|>"
UNKNOWN_CHARACTER = "\ufffd"


class Tokenizer:
    """Texts to token ids and back.

    `encode` gives bare ids, for training; calling the tokenizer gives everything about each token.
    """

    def __init__(self, rust: RustTokenizer) -> None:
        rust.no_padding()
        rust.no_truncation()
        self.rust = rust

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Open a tokenizer.json. Raises CheckpointError when it is missing or broken."""
        if not path.is_file():
            raise CheckpointError(f"there is no tokenizer at {path}", hint="Is the model complete?")
        try:
            return cls(RustTokenizer.from_file(str(path)))
        except Exception as error:  # the Rust library raises nothing narrower
            raise CheckpointError(
                f"{path} is not a tokenizer.json: {error}", hint="Fetch or train it again."
            ) from error

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        files.write_text(path, self.rust.to_str(pretty=True))

    @property
    def vocab_size(self) -> int:
        return self.rust.get_vocab_size()

    @cached_property
    def description(self) -> dict[str, Any]:
        """What stands in the tokenizer.json: normalizer, pre_tokenizer, model, decoder, ..."""
        return json.loads(self.rust.to_str())

    @cached_property
    def tokens(self) -> list[str]:
        """Every token as it is spelled in the vocabulary, by id."""
        spelled = {i: token for token, i in self.rust.get_vocab().items()}
        return [spelled.get(i, "") for i in range(max(spelled, default=-1) + 1)]

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Ids of tokens such as [CLS] or <|endoftext|>, which stand for no text."""
        added = self.rust.get_added_tokens_decoder()
        return frozenset(i for i, token in added.items() if token.special)

    @cached_property
    def control_ids(self) -> dict[str, int]:
        """The ids of special tokens by how they are spelled out in a text."""
        added = self.rust.get_added_tokens_decoder()
        return {token.content: i for i, token in added.items() if token.special and token.content}

    @cached_property
    def control_pattern(self) -> re.Pattern[str] | None:
        """What finds special tokens in a text as `encode` does, the longest first; None: no such.

        Some take the spaces beside them.
        """
        added = sorted(
            (token for token in self.rust.get_added_tokens_decoder().values() if token.content),
            key=lambda token: -len(token.content),
        )
        spelled = [
            r"\s*" * token.lstrip + re.escape(token.content) + r"\s*" * token.rstrip
            for token in added
            if token.special
        ]
        return re.compile("|".join(spelled)) if spelled else None

    @cached_property
    def unknown_id(self) -> int | None:
        """The id that stands for what the vocabulary cannot say; None where it can say all."""
        unknown = self.description["model"].get("unk_token")
        return None if unknown is None else self.rust.token_to_id(unknown)

    def id_of(self, token: str) -> int:
        """The id of a token that is known to be in the vocabulary. Raises KeyError otherwise."""
        found = self.rust.token_to_id(token)
        if found is None:
            raise KeyError(token)
        return found

    def is_added(self, word: str) -> bool:
        """Whether a word was given a token of its own."""
        return word in self._added

    @cached_property
    def _added(self) -> frozenset[str]:
        return frozenset(t.content for t in self.rust.get_added_tokens_decoder().values())

    def spelled(self, token: int) -> str:
        """A token as it reads in a text, its spaces included; "�" where it is part of a character.

        Pieces that go on with a word keep their "##".
        """
        return (
            self.rust.decoder.decode([self.tokens[token]])
            if self.rust.decoder
            else (self.tokens[token])
        )

    def encode(
        self,
        texts: Sequence[str],
        *,
        max_tokens: int | None = None,
        special: bool = True,
        read_special: bool = True,
    ) -> list[list[int]]:
        """Token ids of each text, special tokens included, at most `max_tokens` of them.

        special: add what the tokenizer adds around a text, such as [CLS] and [SEP]. read_special:
        where a special token is spelled out in a text it becomes that token; False reads it as the
        characters it is, which is right for texts that somebody else wrote.
        """
        if max_tokens is not None:
            self.rust.enable_truncation(max_tokens)
            texts = [clip(text, max_tokens) for text in texts]
        self.rust.encode_special_tokens = not read_special
        try:
            encoded = self.rust.encode_batch_fast(_whole(texts), add_special_tokens=special)
            return [e.ids for e in encoded]
        finally:
            self.rust.encode_special_tokens = False
            self.rust.no_truncation()

    def __call__(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        *,
        max_tokens: int | None = None,
        windows: bool = False,
        stride: int = 0,
        pad: bool | int = False,
        special: bool = True,
        read_special: bool = True,
    ) -> list[Encoding]:
        """Encode texts, or pairs of texts, with the place of every token.

        max_tokens: cut what is longer, the longer text of a pair first. windows: don't cut, but go
        on in further windows of as many tokens, each beginning with the last `stride` tokens of the
        one before; their `source` says which text they belong to. pad: to the longest, or to a
        number of tokens. special, read_special: as of `encode`. Raises ConfigError when max_tokens
        leaves no room for text.
        """
        texts = [texts] if isinstance(texts, str) else texts
        pairs = [pairs] if isinstance(pairs, str) else pairs
        if max_tokens is not None:
            self._check_room(max_tokens, stride, special, pairs is not None)
            self.rust.enable_truncation(max_tokens, stride=stride)
            if not windows:
                texts = [clip(text, max_tokens) for text in texts]
                pairs = None if pairs is None else [clip(text, max_tokens) for text in pairs]
        rows = _whole(texts) if pairs is None else list(zip(_whole(texts), _whole(pairs)))
        self.rust.encode_special_tokens = not read_special
        try:
            found = self.rust.encode_batch(rows, add_special_tokens=special)
        finally:
            self.rust.encode_special_tokens = False
            self.rust.no_truncation()
        encodings = []
        for source, rust in enumerate(found):
            parts = [rust, *rust.overflowing] if windows else [rust]
            encodings += [Encoding.of(part, source) for part in parts]
        if pad is False:
            return encodings
        length = max(map(len, encodings), default=0) if pad is True else pad
        token, token_id = self._padding()
        return [encoding.padded(length, token, token_id) for encoding in encodings]

    def _check_room(self, max_tokens: int, stride: int, special: bool, is_pair: bool) -> None:
        n_added = self.rust.num_special_tokens_to_add(is_pair) if special else 0
        room = max_tokens - n_added
        if room < 1 or not 0 <= stride < room:
            raise ConfigError(
                f"windows of {max_tokens} tokens with stride {stride} leave no room for text: "
                f"{n_added} of the tokens are special",
                hint=f"Take max_tokens above {n_added + stride}.",
            )

    def _padding(self) -> tuple[str, int]:
        """[PAD] where there is one, else the end of text, else token 0: the mask hides it."""
        for token in ("[PAD]", "<pad>", END_OF_TEXT):
            if (found := self.rust.token_to_id(token)) is not None:
                return token, found
        return self.tokens[0], 0

    def unknown(self, text: str) -> Counter[str]:
        """What in a text the vocabulary cannot say, and how often: characters, or whole words."""
        encoding = self([text], special=False)[0]
        return Counter(
            text[start:end]
            for token, (start, end) in zip(encoding.ids, encoding.offsets)
            if token == self.unknown_id and text[start:end] != self.tokens[token]
        )

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of token ids, without special tokens."""
        return self.rust.decode(list(tokens), skip_special_tokens=True)

    @cached_property
    def bytes_of(self) -> list[int]:
        """How many bytes of UTF-8 each token stands for, by id; none for special tokens."""
        added = self.rust.get_added_tokens_decoder()

        def size(i: int, token: str) -> int:
            if i in self.special_ids:
                return 0
            if self.is_byte_level and i not in added and token != UNKNOWN_CHARACTER:
                return len(token)  # one character a byte
            return len(token.removeprefix("##").encode())

        return [size(i, token) for i, token in enumerate(self.tokens)]

    @property
    def is_byte_level(self) -> bool:
        """Whether tokens are pieces of UTF-8 with the space before a word, as GPT-2's are."""
        return (self.description["decoder"] or {}).get("type") == "ByteLevel"

    def n_bytes(self, ids: Iterable[int]) -> int:
        """Bytes of the text that ids stand for, so that nats a token become bits a byte.

        Exact where nothing is lost on the way (BPE, unigram, known characters and words). WordPiece
        loses spaces: with it, count the bytes of the text instead.
        """
        sizes = self.bytes_of
        return sum(sizes[i] for i in ids)

    def can_add(self, word: str) -> bool:
        """Whether a word may become a token of its own and still be decoded."""
        return word.isascii() or not self.is_byte_level

    def with_tokens(self, words: Sequence[str]) -> Tokenizer:
        """A copy in which these words are tokens of their own, but not inside of longer words.

        Ids of before stay, new ones follow. Raises ConfigError for a word that a byte-level
        tokenizer could not decode, since it takes the letters of an added token for bytes.
        """
        if other := [word for word in words if not self.can_add(word)]:
            raise ConfigError(
                f"cannot add {', '.join(other)}: a byte-level tokenizer can be given ASCII only",
                hint="Leave these out, or train a vocabulary: hornbook tokenizer adapt.",
            )
        rust = RustTokenizer.from_str(self.rust.to_str())
        rust.add_tokens([AddedToken(w, single_word=True, normalized=False) for w in words])
        return Tokenizer(rust)


def clip(text: str, max_tokens: int, *, characters_per_token: int = 32) -> str:
    """The part of a text that can still matter: a token rarely has more than 32 characters.

    Spares tokenizing the rest of a 200,000-character text that is cut at 256 tokens anyway.
    """
    return text[: max_tokens * characters_per_token]


def _whole(texts: Sequence[str]) -> list[str]:
    """Put "�" for half an emoji (a lone surrogate), which is no text and which Rust refuses."""
    return [text if text.isascii() else _replaced(text) for text in texts]


def _replaced(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join("�" if "\ud800" <= c <= "\udfff" else c for c in text)
    return text
