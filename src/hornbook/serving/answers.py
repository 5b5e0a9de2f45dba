"""From the engine's pieces to choices: text past the guards, tool calls, logprobs, usage."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hornbook.generation.request import Piece, Scored
from hornbook.generation.stream import bytes_of, detokenizer
from hornbook.generation.writing import spelled
from hornbook.serving.guards import Count, Guarded
from hornbook.serving.tool_calls import ToolReader

if TYPE_CHECKING:
    from hornbook.text.tokenizer import Tokenizer

_LEAST = -9999.0  # JSON knows no infinity; OpenAI writes this


@dataclass
class Choice:
    """One answer while it is written. prompt: which of the request's prompts it continues."""

    index: int
    prompt: int = 0
    guarded: Guarded | None = None
    tools: ToolReader | None = None
    finish: str | None = None
    n_prompt: int = 0
    n_cached: int = 0
    n_generated: int = 0

    def take(self, piece: Piece) -> str:
        """What of a piece may be said now; the answer is over when `finish` is set."""
        self.n_prompt, self.n_cached = piece.n_prompt, piece.n_cached
        self.n_generated = piece.n_generated
        if self.finish:
            return ""
        text, finish = piece.text, piece.finish
        if self.guarded:
            text = self.guarded.feed(text, last=finish is not None)
            finish = self.guarded.finish or finish
        if self.tools:
            text = self.tools.feed(text, last=finish is not None)
            if self.tools.calls and finish == "stop":
                finish = "tool_calls"
        self.finish = finish
        return text


def check_whole(text: str, count: Count) -> None:
    """Count an answer that should have been JSON and is not: it was cut by the token limit."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        count("schema", 1)


def usage_of(choices: Sequence[Choice]) -> dict[str, Any]:
    """Tokens read and written. A prompt with n answers was read once."""
    first = {choice.prompt: choice for choice in reversed(choices)}
    n_prompt = sum(choice.n_prompt for choice in first.values())
    n_cached = sum(choice.n_cached for choice in first.values())
    n_generated = sum(choice.n_generated for choice in choices)
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_generated,
        "total_tokens": n_prompt + n_generated,
        "prompt_tokens_details": {"cached_tokens": n_cached},
    }


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LEAST


def _known(logprob: float) -> float | None:
    """None for a text's first token, which nothing stands before."""
    return None if math.isnan(logprob) else _finite(logprob)


def _alternative(tokenizer: Tokenizer, token: int, logprob: float) -> dict[str, Any]:
    text = spelled(tokenizer, token)
    stands_for = bytes_of(tokenizer, token) if tokenizer.is_byte_level else text.encode()
    return {"token": text, "logprob": _finite(logprob), "bytes": list(stands_for)}


def chat_logprobs(tokenizer: Tokenizer, tokens: Iterable[Scored]) -> dict[str, Any]:
    """As /v1/chat/completions gives them."""
    return {
        "content": [
            _alternative(tokenizer, s.token, s.logprob)
            | {"top_logprobs": [_alternative(tokenizer, t, p) for t, p in s.top]}
            for s in tokens
        ]
    }


class CompletionLogprobs:
    """As /v1/completions gives them: columns, with each token's place in the text so far. The parts
    of a character that several tokens spell stand where it begins."""

    def __init__(self, tokenizer: Tokenizer, *, top: bool) -> None:
        self._tokenizer, self._top = tokenizer, top
        self._spelling = detokenizer(tokenizer)
        self._offset = 0

    def columns(self, tokens: Sequence[Scored]) -> dict[str, Any]:
        offsets = []
        for scored in tokens:
            offsets.append(self._offset)
            special = scored.token in self._tokenizer.special_ids
            told = scored.text if special else self._spelling.add(scored.token)
            self._offset += len(told)
        return {
            "tokens": [s.text for s in tokens],
            "token_logprobs": [_known(s.logprob) for s in tokens],
            "top_logprobs": [self._likeliest(s) for s in tokens] if self._top else None,
            "text_offset": offsets,
        }

    def _likeliest(self, scored: Scored) -> dict[str, float] | None:
        if math.isnan(scored.logprob):
            return None
        found: dict[str, float] = {}
        for token, logprob in scored.top:  # two tokens may be spelled alike: the likelier stays
            found.setdefault(spelled(self._tokenizer, token), _finite(logprob))
        return found
