"""`hornbook chat --show-prompt`: what the model is given for a conversation, to the last token.

By the conversation that a chat has, and so by the template that training marks answers with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hornbook.cli.harmless import harmless
from hornbook.generation.conversation import Conversation

if TYPE_CHECKING:
    from hornbook.bundle import Bundle


def show_prompts(
    opened: Bundle,
    lines: Iterable[str],
    *,
    system: str | None,
    longest: int,
    as_json: bool,
) -> None:
    """Take lines as the user's and the assistant's in turn; print the prompt after each of the
    user's. longest: tokens of a prompt, before the oldest turns are forgotten.

    Raises ConfigError and DataError as `Conversation` does.
    """
    conversation = Conversation(opened, system)
    for line in lines:
        if not (said := line.rstrip("\n")).strip():
            continue
        by_user = not conversation.messages or conversation.messages[-1]["role"] == "assistant"
        conversation.say("user" if by_user else "assistant", said)
        if by_user:
            tokens = conversation.prompt(longest)
            if as_json:
                pieces = [opened.tokenizer.spelled(token) for token in tokens]
                shown = {"text": conversation.text(), "tokens": tokens, "pieces": pieces}
                print(json.dumps(shown, ensure_ascii=False))
            else:
                print(harmless(conversation.text()))
                print(f"── {len(tokens)} tokens: {' '.join(map(str, tokens))}")
