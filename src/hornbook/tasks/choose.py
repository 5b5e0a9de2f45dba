"""Choose among options, the way that the model can.

- a decoder by how likely it finds each option after the context (`choose_likelihood`)
- an encoder by a head that marks each context with an option (`choose_pairs`)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from hornbook.data.choices import open_questions
from hornbook.errors import CheckpointError
from hornbook.tasks.choose_likelihood import ByLikelihood
from hornbook.tasks.choose_pairs import ByPairs
from hornbook.tasks.room import room
from hornbook.tasks.task import Parts
from hornbook.tasks.text_heads import marks_choices

LONGEST = 1024  # tokens of a context with an option, unless the model's context is shorter


class Choose:
    """Multiple choice: what there is before there is a task. The model decides the way."""

    name: ClassVar[str] = "choose"

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        found = open_questions(data, columns, seed=seed)
        return Parts(found.name, found.train, found.validation, found.test, notes=found.notes,
                     source=data)  # fmt: skip

    @classmethod
    def make(
        cls, bundle: Any, parts: Parts, *, max_tokens: int | None = None
    ) -> ByLikelihood | ByPairs:
        """Raises ConfigError for more tokens than the model's context holds."""
        return _way(bundle)(bundle.tokenizer, room(bundle, max_tokens, usual=LONGEST))

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> ByLikelihood | ByPairs:
        """Raises CheckpointError for a card that is not whole."""
        try:
            max_tokens = int(card["max_tokens"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"task.json does not say how options were read: {error!r}",
                hint="Copy or train the model again.",
            ) from error
        return _way(bundle)(bundle.tokenizer, max_tokens)


def _way(bundle: Any) -> type[ByLikelihood] | type[ByPairs]:
    return ByPairs if marks_choices(bundle.model) else ByLikelihood
