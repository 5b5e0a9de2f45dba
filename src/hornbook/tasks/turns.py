"""Where in a conversation's tokens the answers stand, found through the chat template itself.

The template is run on what comes before an answer, asking for one, and on that with the answer:

    asked  <|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\n
    told   <|im_start|>user\\nhi<|im_end|>\\n<|im_start|>assistant\\nhello<|im_end|>\\n
                                                                   ~~~~~~~~~~~~~~~

What is learnt begins where the two part and ends with the first token that ends a turn, that token
included: it is learnt once an answer. What a template writes behind it is not learnt, as nobody
will ever ask the model for it. The tokens before are those that the model will be asked with.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from hornbook.data.conversations import Dialogue
from hornbook.errors import DataError
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Turns:
    """A conversation in tokens. spans: [begin, end) of each answer, its end of turn included.

    prompt: what the model is asked the last answer with. n_open: answers that no token ends.
    n_parted: answers before which the template writes something else than it asks with.
    """

    tokens: list[int]
    spans: list[tuple[int, int]]
    prompt: list[int]
    n_open: int = 0
    n_parted: int = 0


@dataclass(frozen=True)
class Marker:
    """Finds answers. ends: tokens that end a turn."""

    template: ChatTemplate
    tokenizer: Tokenizer
    ends: Collection[int]

    def mark(self, dialogue: Dialogue) -> list[Turns]:
        """The whole conversation; where a template rewrites earlier turns once there are later
        ones, such as by leaving out what was thought, one of each answer with what led to it.

        Raises DataError naming the conversation when the template does not take it.
        """
        try:
            turns = [self._turn(dialogue, i) for i in dialogue.answers]
        except DataError as error:
            raise DataError(f"{dialogue.place}: {error.message}", hint=error.hint) from error
        last = turns[-1]
        if any(turn.tokens != last.tokens[: len(turn.tokens)] for turn in turns):
            return turns
        return [
            Turns(
                last.tokens,
                [span for turn in turns for span in turn.spans],
                last.prompt,
                sum(turn.n_open for turn in turns),
                sum(turn.n_parted for turn in turns),
            )
        ]

    def _turn(self, dialogue: Dialogue, i: int) -> Turns:
        """The conversation up to message i, the one that is learnt."""
        asked = self._encode(dialogue, i, add_generation_prompt=True)
        told = self._encode(dialogue, i + 1, add_generation_prompt=False)
        begin = n_common(asked, told)
        end = first_end(told, self.ends, begin)
        span = (begin, len(told) if end is None else end + 1)
        return Turns(told, [span], asked, int(end is None), int(begin < len(asked)))

    def _encode(self, dialogue: Dialogue, n: int, **asking: bool) -> list[int]:
        tools = dialogue.tools
        return self.template.encode(dialogue.messages[:n], self.tokenizer, tools=tools, **asking)


def end_of_turn(template: ChatTemplate, tokenizer: Tokenizer) -> int | None:
    """The control token that a template writes behind an answer; None where it writes none, or one
    that this tokenizer reads as characters."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
    asked = template.encode(messages, tokenizer)
    messages.append({"role": "assistant", "content": "b"})
    told = template.encode(messages, tokenizer, add_generation_prompt=False)
    end = first_end(told, tokenizer.special_ids, n_common(asked, told) + 1)
    return None if end is None else told[end]


def n_common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))


def first_end(tokens: Sequence[int], ends: Collection[int], begin: int) -> int | None:
    """The place of the first of some tokens, from `begin` on."""
    return next((i for i in range(begin, len(tokens)) if tokens[i] in ends), None)
