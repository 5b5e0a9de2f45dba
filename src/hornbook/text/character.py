"""Characters as tokens: the smallest vocabulary that reads well, and the longest sequences.

An id is a character's place in the alphabet of the training text, so that ids say nothing and a
model has everything to learn. A character that was not in that text becomes U+FFFD, "�", which
Unicode has for "a character that could not be represented", and `unknown` says which they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from hornbook.text.tokenizer import END_OF_TEXT, UNKNOWN_CHARACTER, Tokenizer


@dataclass(frozen=True)
class Characters:
    """A vocabulary, id by position: special tokens, "�", then characters in Unicode's order."""

    tokens: Sequence[str]
    n_special: int = 1
    _id_of: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_id_of", {token: i for i, token in enumerate(self.tokens)})

    def encode(self, text: str) -> list[int]:
        """One id a character, that of "�" for an unknown one."""
        unknown = self._id_of[UNKNOWN_CHARACTER]
        return [self._id_of.get(character, unknown) for character in text]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, exactly, but for "�"; special tokens are left out."""
        return "".join(self.tokens[i] for i in ids if i >= self.n_special)

    def unknown(self, text: str) -> Counter[str]:
        """The characters of a text that are not in the vocabulary, and how often they occur."""
        return Counter(character for character in text if character not in self._id_of)

    def tokenizer(self) -> Tokenizer:
        """The same vocabulary, run by the `tokenizers` library."""
        rust = RustTokenizer(models.WordLevel(vocab=self._id_of, unk_token=UNKNOWN_CHARACTER))
        rust.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
        rust.decoder = decoders.Fuse()
        rust.add_special_tokens(list(self.tokens[: self.n_special]))
        return Tokenizer(rust)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self.tokenizer().save(path)


def train(
    texts: Iterable[str], vocab_size: int | None = None, *, special: Sequence[str] = (END_OF_TEXT,)
) -> Characters:
    """Take every character of the texts, or as many as `vocab_size` allows, frequent ones first."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    del counts[UNKNOWN_CHARACTER]
    n_fixed = len(special) + 1
    kept = counts.most_common(None if vocab_size is None else max(vocab_size - n_fixed, 0))
    return Characters([*special, UNKNOWN_CHARACTER, *sorted(c for c, _ in kept)], len(special))
