"""A conversation with a model: what was said, and how much of it still fits into the context."""

from __future__ import annotations

from typing import Any, Protocol

from hornbook.errors import ConfigError
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer


class Chatter(Protocol):
    """A model that answers, as a `bundle.Bundle` may be."""

    @property
    def name(self) -> str: ...

    @property
    def tokenizer(self) -> Tokenizer: ...

    @property
    def template(self) -> ChatTemplate | None: ...


class Conversation:
    """Messages in turn, the user's first. All are kept; the oldest are no longer shown to the model
    when they don't fit.

    system: what the model is told before everything, if anything. Raises ConfigError for a model
    without a template.
    """

    def __init__(self, bundle: Chatter, system: str | None = None) -> None:
        self._template = template_of(bundle)
        self._tokenizer = bundle.tokenizer
        self.system = system
        self.messages: list[dict[str, Any]] = []
        self.n_forgotten = 0  # messages, the oldest, that the model doesn't see any more

    def say(self, role: str, content: str) -> None:
        self.messages.append({"role": role, "content": content})

    def take_back(self) -> None:
        """The last message was not said."""
        self.messages.pop()
        self.n_forgotten = min(self.n_forgotten, len(self.messages))

    def reset(self, system: str | None) -> None:
        """Begin anew."""
        self.system, self.messages, self.n_forgotten = system, [], 0

    def whole(self) -> list[dict[str, Any]]:
        """Everything that was said, the system's word first."""
        first = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*first, *self.messages]

    def prompt(self, longest: int) -> list[int]:
        """The token ids that ask for an answer, at most `longest`.

        Where there are more, the oldest turns are forgotten, until a quarter is free for the next
        few. Raises ConfigError when the last message alone is too long (it is still there then).
        """
        tokens = self._encode(self.n_forgotten)
        if len(tokens) <= longest:
            return tokens
        users = [i for i, m in enumerate(self.messages) if m["role"] == "user"]
        starts = [i for i in users if i > self.n_forgotten]
        for start in starts:
            tokens = self._encode(start)
            if len(tokens) <= longest * 3 // 4 or (start == starts[-1] and len(tokens) <= longest):
                self.n_forgotten = start
                return tokens
        raise ConfigError(
            f"the message makes {len(tokens)} tokens; there is room for {longest}",
            hint="Shorten it, or ask for a shorter answer.",
        )

    def text(self) -> str:
        """What `prompt` made tokens of: the conversation as its template lays it out, without what
        is forgotten, with the opening of an answer."""
        return self._template.render(self._said(self.n_forgotten))

    def _encode(self, start: int) -> list[int]:
        return self._template.encode(self._said(start), self._tokenizer)

    def _said(self, start: int) -> list[dict[str, Any]]:
        return [m for m in self.whole() if m["role"] == "system"] + self.messages[start:]


def template_of(bundle: Chatter) -> ChatTemplate:
    """The model's chat template. Raises ConfigError where it has none."""
    if bundle.template is None:
        raise ConfigError(
            f"{bundle.name or 'this model'} has no chat template: it was never taught to answer",
            hint="`hornbook generate` lets it continue a text; `hornbook models` lists those that "
            "chat.",
        )
    return bundle.template
