"""A text as tokens, each with the place it came from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tokenizers import Encoding as RustEncoding


@dataclass(frozen=True, slots=True)
class Encoding:
    """A text, a pair of texts, or a window of one; every list has one entry a token.

    offsets are characters of the source, [start, end): `text[start:end]` is what the token stands
    for, and (0, 0) belongs to special tokens and padding. Where one character takes several tokens,
    each of them has that character. sequences tells the first text of a pair (0) from the second
    (1), and is None, as word_ids is, for what stands in neither. mask is True where a token is not
    padding. source is the place of the text among those given.
    """

    ids: list[int]
    tokens: list[str]
    offsets: list[tuple[int, int]]
    word_ids: list[int | None]
    sequences: list[int | None]
    type_ids: list[int]
    special: list[bool]
    mask: list[bool]
    source: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def of(cls, rust: RustEncoding, source: int) -> Encoding:
        """Take over what the `tokenizers` library found."""
        return cls(
            ids=rust.ids,
            tokens=rust.tokens,
            offsets=rust.offsets,
            word_ids=rust.word_ids,
            sequences=rust.sequence_ids,
            type_ids=rust.type_ids,
            special=[bool(flag) for flag in rust.special_tokens_mask],
            mask=[True] * len(rust.ids),
            source=source,
        )

    def padded(self, length: int, token: str, token_id: int) -> Encoding:
        """The same with padding on the right up to `length` tokens; a longer one stays as is."""
        n = length - len(self)
        if n <= 0:
            return self
        return replace(
            self,
            ids=self.ids + [token_id] * n,
            tokens=self.tokens + [token] * n,
            offsets=self.offsets + [(0, 0)] * n,
            word_ids=self.word_ids + [None] * n,
            sequences=self.sequences + [None] * n,
            type_ids=self.type_ids + [0] * n,
            special=self.special + [True] * n,
            mask=self.mask + [False] * n,
        )
