"""A conversation as a model reads it: messages laid out as its template says, then token ids.

The template's own control tokens (<|im_start|>, <|im_end|>, ...) become tokens; the same characters
typed by a user stay characters, so that nobody can end their turn and speak as the system.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from jinja2 import Template

from hornbook.errors import DataError
from hornbook.text import sandbox
from hornbook.text.tokenizer import Tokenizer

Message = Mapping[str, Any]

LONGEST = 500_000  # characters of a template
_PRIVATE = 0xF0000  # where characters begin that mean nothing: they stand for others


@dataclass(frozen=True)
class ChatTemplate:
    """A template in transformers' dialect of jinja2, run in a sandbox with an end.

    source: the template. tokens: the names it knows tokens by (bos_token, eos_token, ...).
    with_tools: another template, for conversations with tools, where a model has one.
    """

    source: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    with_tools: str | None = None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The conversation as text, ready for the model's answer.

        messages: dicts with "role", "content" and whatever else the template reads. tools: their
        JSON definitions. add_generation_prompt: end with the opening of the assistant's turn.
        Raises DataError when the template fails, refuses the messages, or comes to no end.
        """
        template = self._compiled_with_tools if tools and self.with_tools else self._compiled
        given = {
            "messages": _plain(messages),
            "tools": None if tools is None else _plain(tools),
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        return _run(lambda: template.render(**self.tokens, **given))

    def encode(
        self,
        messages: Sequence[Message],
        tokenizer: Tokenizer,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> list[int]:
        """The conversation as token ids. Raises DataError as `render` does.

        It is rendered a second time with messages and tools in which no control token can be
        spelled: a character of a private plane stands for the first character of each. Control
        tokens that are found there are the template's own. Where the first text has the same ones,
        nobody typed any, and it is read as it is; else they are cut out of the second text, and
        what lies between them is read as characters.
        """
        text = self.render(messages, tools=tools, add_generation_prompt=add_generation_prompt)
        control = tokenizer.control_pattern
        if control is None:
            return tokenizer.encode([text], special=False)[0]
        firsts = sorted({token[0] for token in tokenizer.control_ids})
        stand_ins = {ord(first): _PRIVATE + i for i, first in enumerate(firsts)}
        guarded = self.render(
            _guarded(messages, control, stand_ins),
            tools=None if tools is None else _guarded(tools, control, stand_ins),
            add_generation_prompt=add_generation_prompt,
        )
        if _tokens(control, text) == _tokens(control, guarded):
            return tokenizer.encode([text], special=False)[0]
        back = {stand_in: first for first, stand_in in stand_ins.items()}
        ids: list[int] = []
        end = 0
        for found in [*control.finditer(guarded), None]:
            between = guarded[end : found.start() if found else None].translate(back)
            ids += tokenizer.encode([between], special=False, read_special=False)[0]
            if found:
                ids.append(tokenizer.control_ids[found.group().strip()])
                end = found.end()
        return ids

    @cached_property
    def _compiled(self) -> Template:
        return _compiled(self.source)

    @cached_property
    def _compiled_with_tools(self) -> Template:
        return _compiled(self.with_tools or self.source)


def _tokens(control: re.Pattern[str], text: str) -> list[str]:
    return [found.strip() for found in control.findall(text)]


def _compiled(source: str) -> Template:
    if len(source) > LONGEST:
        raise DataError(
            f"the chat template has {len(source):,} characters",
            hint=f"At most {LONGEST:,} are read. Is this a template?",
        )
    return _run(lambda: sandbox.Sandbox().from_string(source))


def _run(function: Callable[[], Any]) -> Any:
    """A template is another's program: whatever it raises is its failure, and said as such."""
    try:
        return sandbox.run(function)
    except Exception as error:
        raise DataError(
            f"the model's chat template does not take this conversation: {error}"
            if str(error)
            else f"the model's chat template fails with a {type(error).__name__}",
            hint="Some take no system message, no tools, or users and assistants in turn only.",
        ) from error


def _plain(value: Any) -> Any:
    """A copy of text, numbers, lists and dicts, and of nothing that can do more."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return str(value)
    raise DataError(
        f"a message holds a {type(value).__name__}",
        hint="Messages are made of text, numbers, lists and dicts.",
    )


def _guarded(value: Any, control: re.Pattern[str], stand_ins: dict[int, int]) -> Any:
    """The same without any character that begins a control token; of names, those that hold one."""
    if isinstance(value, str):
        return value.translate(stand_ins)
    if isinstance(value, Mapping):
        return {
            name.translate(stand_ins) if control.search(name) else name: _guarded(
                part, control, stand_ins
            )
            for name, part in value.items()
        }
    if isinstance(value, Sequence):
        return [_guarded(part, control, stand_ins) for part in value]
    return value
