"""Classify pairs of texts: a label, as in entailment, or a number on a scale, as in similarity.

tokens     [CLS] a man plays [SEP] he sings [SEP]
segments     0   0  0    0    0    1   1     1      of BERT; other trunks read the pair as one
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hornbook.data.columns import named_columns
from hornbook.data.labelled import TextPair, open_labelled_pairs
from hornbook.tasks.classify import MOST_MEASURED, Classify, TextItem
from hornbook.tasks.task import Parts


class ClassifyPairs(Classify):
    """Pairs of texts to labels or numbers.

    Where the tokenizer puts nothing between the texts of a pair, as decoders' do not, a line break
    stands there.
    """

    name: ClassVar[str] = "pairs"

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """columns: first, second, label."""
        named = named_columns(columns, ("first", "second", "label"))
        found = open_labelled_pairs(data, seed=seed, **named)
        return Parts(
            found.name,
            found.train,
            found.validation,
            found.test,
            found.label_names,
            notes=found.notes,
            source=found.source,
        )

    def labels_of(self, example: TextPair) -> tuple[str, ...]:
        return (example.label,) if example.label else ()

    def items(self, examples: Sequence[TextPair]) -> list[TextItem]:
        found = self._encoded(examples, self.max_tokens)
        self._check_tokens([e.ids for e in found], examples)
        return [
            TextItem(i, e.ids, y, e.type_ids if any(e.type_ids) else None)
            for i, (e, y) in enumerate(zip(found, self._targets(examples), strict=True))
        ]

    def _encoded(self, examples: Sequence[TextPair], max_tokens: int | None) -> list[Any]:
        firsts = [e.first for e in examples]
        if self.tokenizer.rust.num_special_tokens_to_add(True) == 0:
            firsts = [first + "\n" for first in firsts]
        return self.tokenizer(firsts, [e.second for e in examples], max_tokens=max_tokens)

    def _lengths(self, examples: Sequence[TextPair]) -> list[int]:
        return [len(e.ids) for e in self._encoded(examples[:MOST_MEASURED], None)]
