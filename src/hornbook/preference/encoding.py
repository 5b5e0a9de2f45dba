"""Prompts and answers as token ids, as the model will meet them when it is spoken to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hornbook.data.preferences import Prompt
from hornbook.errors import ConfigError, DataError
from hornbook.tasks.branches import Tokens
from hornbook.tasks.room import room
from hornbook.tasks.turns import first_end, n_common
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

LONGEST = 1024  # tokens of a prompt with an answer, unless the context is shorter


@dataclass(frozen=True)
class Item:
    """A prompt (stem) and its answers (branches) as token ids.

    source: the example's number. good: whether a person liked the first answer, of those that
    stand alone. n_cut: tokens that were left out because it was too long.
    """

    source: int
    stem: Tokens
    branches: tuple[Tokens, ...]
    good: bool = True
    n_cut: int = 0


@dataclass(frozen=True)
class Encoder:
    """How a model reads a prompt and what ends its answer.

    template: None where the model continues texts only; a prompt is then followed by an empty line
    and the answer. ends: tokens that end an answer. max_tokens: of a prompt with an answer.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    ends: frozenset[int]
    max_tokens: int

    @classmethod
    def of(cls, bundle: Any, max_tokens: int | None = None) -> Encoder:
        """A bundle's. Raises ConfigError for more tokens than its context holds."""
        longest = room(bundle, max_tokens, usual=LONGEST)
        return cls(bundle.tokenizer, bundle.template, bundle.stop_tokens, longest)

    def encode(
        self, source: int, prompt: Prompt, answers: Sequence[str], *, good: bool = True
    ) -> Item:
        """A prompt with its answers, each with the one token that ends it.

        What is too long loses the prompt's beginning; an answer that is too long by itself, its
        end. Raises ConfigError for a conversation and a model without a template.
        """
        stem, branches = self._templated(prompt, answers) if self.template else self._plain(
            prompt, answers
        )  # fmt: skip
        whole = len(stem) + sum(map(len, branches))
        branches = [branch[: self.max_tokens - 1] for branch in branches]
        stem = stem[-(self.max_tokens - max(map(len, branches))) :]
        n_cut = whole - len(stem) - sum(map(len, branches))
        return Item(source, tuple(stem), tuple(map(tuple, branches)), good, n_cut)

    def _templated(
        self, prompt: Prompt, answers: Sequence[str]
    ) -> tuple[list[int], list[list[int]]]:
        assert self.template is not None
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        asked = self.template.encode(messages, self.tokenizer)
        told = [
            self.template.encode(
                [*messages, {"role": "assistant", "content": answer}],
                self.tokenizer,
                add_generation_prompt=False,
            )
            for answer in answers
        ]
        # Some templates write the asking otherwise than the telling: answers begin where they part.
        n_stem = min(n_common(asked, whole) for whole in told)
        ends = [first_end(whole, self.ends, n_stem) for whole in told]
        return asked[:n_stem], [
            whole[n_stem : None if end is None else end + 1]
            for whole, end in zip(told, ends, strict=True)
        ]

    def _plain(self, prompt: Prompt, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        if isinstance(prompt, str):
            text = prompt
        elif len(prompt) == 1:
            text = prompt[0]["content"] + "\n\n"
        else:
            raise ConfigError(
                "the prompts are conversations, and this model has no chat template",
                hint="Take a model that chats (`hornbook models`), or prompts that are texts.",
            )
        stem, *branches = self.tokenizer.encode([text, *answers], special=False, read_special=False)
        end = self.tokenizer.rust.token_to_id(END_OF_TEXT)
        ends = [min(self.ends) if end is None else end] if self.ends or end is not None else []
        return stem, [branch + ends for branch in branches]


def checked(items: Sequence[Item], places: Sequence[str]) -> list[Item]:
    """The items. Raises DataError naming those that have nothing to read or to tell apart."""
    for item, place in zip(items, places, strict=True):
        if not item.stem or not all(item.branches):
            raise DataError(
                f"{place}: the {'answer' if item.stem else 'prompt'} comes to no token",
                hint="Remove the row, or look at its characters.",
            )
    return list(items)
