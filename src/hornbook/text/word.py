"""Words as tokens: short sequences, a large vocabulary, and no way to say what is not in it.

A word is what GPT-2's pattern cuts, the space before it included, so that known text comes back
exactly and the subword algorithms can be compared on equal terms: they cut the same words further.
A word that is not in the vocabulary becomes "�" whole. How many there are, even with a large
vocabulary, is the reason for all the other pages (Sennrich et al. 2016, section 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook.text.byte_level import byte_level, count_words, text_of, words
from hornbook.text.tokenizer import END_OF_TEXT, UNKNOWN_CHARACTER, Tokenizer


@dataclass(frozen=True)
class Words:
    """A vocabulary, id by position: special tokens, "�", then words, frequent ones first."""

    tokens: Sequence[str]
    n_special: int = 1
    _id_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_id_of", {token: i for i, token in enumerate(self.tokens)})

    def encode(self, text: str) -> list[int]:
        """One id a word, that of "�" for an unknown one."""
        unknown = self._id_of[UNKNOWN_CHARACTER]
        return [self._id_of.get(word, unknown) for word in words(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, exactly, but for "�"; special tokens are left out."""
        kept = (self.tokens[i] for i in ids if i >= self.n_special)
        return "".join(t if t == UNKNOWN_CHARACTER else text_of(t) for t in kept)

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary, run by the `tokenizers` library."""
        model = models.WordLevel(vocab=self._id_of, unk_token=UNKNOWN_CHARACTER)
        rust = byte_level(RustTokenizer(model))
        rust.add_special_tokens(list(self.tokens[: self.n_special]))
        return Tokenizer(rust)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self.tokenizer().save(path)


def train(
    texts: Iterable[str], vocab_size: int, *, special: Sequence[str] = (END_OF_TEXT,)
) -> Words:
    """Take the words that occur most; among equals, those that come first in the alphabet."""
    counts = count_words(texts)
    by_count = sorted(counts, key=lambda word: (-counts[word], word))
    kept = by_count[: max(vocab_size - len(special) - 1, 0)]
    return Words([*special, UNKNOWN_CHARACTER, *kept], len(special))
