"""Whether a chat template, its tokenizer and the ends of answers agree: models that never stop were
mostly told so before their first step."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Literal

from hornbook.tasks.task import Finding
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer


def unended(
    template: ChatTemplate,
    tokenizer: Tokenizer,
    *,
    level: Literal["stop", "warn"] = "stop",
    cost: str = "The model would never stop by itself.",
    mend: str = "Take the tokenizer that the template was made for, or another model.",
) -> Finding:
    """What to say where `turns.end_of_turn` finds no token that ends an answer."""
    written = template.render(
        [{"role": "user", "content": "…"}, {"role": "assistant", "content": "ANSWER"}],
        add_generation_prompt=False,
    )
    behind = written.rpartition("ANSWER")[2]
    tokens = tokenizer.encode([behind], special=False)[0]
    return Finding(
        "no-end-of-turn",
        level,
        f"behind an answer the template writes {behind!r}, which this tokenizer reads as "
        f"{len(tokens)} token(s), none of them one that ends a text",
        cost,
        mend,
    )


def unknown_end(tokenizer: Tokenizer, end: int, known: Collection[int], *, mend: str) -> Finding:
    """What to say where a template ends answers with a token that the model's files don't name."""
    named = ", ".join(tokenizer.tokens[i] for i in sorted(known)) or "none"
    return Finding(
        "end-of-turn-unknown",
        "note",
        f"the template ends an answer with {tokenizer.tokens[end]}; as ends the model's files name "
        f"{named}",
        "Whoever goes by those files writes on behind the answer.",
        mend,
    )


def pad_ends(
    template: ChatTemplate, tokenizer: Tokenizer, stop_tokens: Collection[int]
) -> Iterator[Finding]:
    """Whether a tokenizer fills up with the token that ends answers."""
    pad = template.tokens.get("pad_token")
    if pad is not None and tokenizer.control_ids.get(pad) in stop_tokens:
        yield Finding(
            "pad-is-eos",
            "note",
            f"the tokenizer pads with {pad}, which also ends answers",
            "Nothing is padded here, and the end is learnt. Trainers that hide all padding from "
            "the loss hide the end with it, and the model never stops.",
            "Give the tokenizer a padding token of its own before training elsewhere.",
        )
