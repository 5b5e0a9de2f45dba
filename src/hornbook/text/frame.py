"""What a tokenizer puts around a text or a pair of texts, so that pieces of texts can be framed:
texts are tokenized once, and cut into windows of any kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hornbook.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Frame:
    """Special tokens before a text, between two, and after; segments: of each, and of the texts."""

    before: list[int]
    between: list[int]
    after: list[int]
    segments: tuple[int, int, int, int, int]  # before, first text, between, second text, after

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, pair: bool = False) -> Frame:
        """Look at how a letter is framed."""
        seen = tokenizer(["a"], ["a"] if pair else None)[0]
        first = [i for i, s in enumerate(seen.sequences) if s == 0]
        second = [i for i, s in enumerate(seen.sequences) if s == 1] if pair else [len(seen)]
        before, middle, after = (
            range(first[0]),
            range(first[-1] + 1, second[0]),
            range(second[-1] + 1, len(seen)),
        )

        def segment(places: Sequence[int]) -> int:
            return seen.type_ids[places[0]] if places and places[0] < len(seen) else 0

        return cls(
            [seen.ids[i] for i in before],
            [seen.ids[i] for i in middle],
            [seen.ids[i] for i in after],
            (segment(before), segment(first), segment(middle), segment(second), segment(after)),
        )

    @property
    def n_tokens(self) -> int:
        """Special tokens in all."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, first: Sequence[int], second: Sequence[int] = ()) -> list[int]:
        """Token ids of a text, or of two, with their frame."""
        return [*self.before, *first, *self.between, *second, *self.after]

    def segments_of(self, n_first: int, n_second: int) -> list[int]:
        """0 or 1 for each token of a framed pair, by how many the two have."""
        sizes = (len(self.before), n_first, len(self.between), n_second, len(self.after))
        return [s for s, n in zip(self.segments, sizes, strict=True) for _ in range(n)]
