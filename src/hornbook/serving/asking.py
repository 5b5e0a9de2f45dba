"""From a request's fields to what the engine is asked: prompts as tokens, sampling, a grammar."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from hornbook.errors import HornbookError
from hornbook.generation.request import Request, Sampling
from hornbook.serving.limits import Limits
from hornbook.serving.refusals import Refusal, invalid
from hornbook.serving.schemas import (
    ChatBody,
    CompletionBody,
    Format,
    JsonSchemaFormat,
    Sampled,
    TextFormat,
)
from hornbook.serving.served import Writer

if TYPE_CHECKING:
    from hornbook.generation.constrain import Grammar

_LONGEST_TOKEN = 64  # characters; a text beyond so many times the context isn't even tokenized
_LARGEST_SCHEMA = 100_000  # characters of JSON
_SHORT = 4_000  # characters that are tokenized at once, without another thread

Result = TypeVar("Result")


async def with_tokenizer(writer: Writer, work: Callable[[], Result], n_characters: int) -> Result:
    """Run what uses the tokenizer: alone, and off the event loop where it takes long."""

    def locked() -> Result:
        with writer.lock:
            return work()

    try:
        if n_characters <= _SHORT and writer.lock.acquire(blocking=False):
            try:
                return work()
            finally:
                writer.lock.release()
        return await asyncio.to_thread(locked)
    except Refusal:
        raise
    except HornbookError as error:
        raise invalid(str(error.message), param="messages", code="invalid_prompt") from error


async def text_tokens(writer: Writer, texts: Sequence[str]) -> list[list[int]]:
    """Prompts of /v1/completions. Control tokens that somebody typed stay characters."""
    return await with_tokenizer(
        writer,
        lambda: writer.tokenizer.encode(texts, special=False, read_special=False),
        sum(map(len, texts)),
    )


async def chat_tokens(writer: Writer, messages: Sequence[dict[str, Any]], tools: Any) -> list[int]:
    """A conversation as the model's template says. Raises Refusal where it has none or fails."""
    template = writer.template
    if template is None:
        raise invalid(
            f"'{writer.name}' has no chat template: it continues texts, see /v1/completions",
            param="model",
            code="no_chat_template",
        )
    n_characters = len(str(tools or "")) + sum(len(str(message)) for message in messages)
    return await with_tokenizer(
        writer,
        lambda: template.encode(messages, writer.tokenizer, tools=tools),
        n_characters,
    )


def check_characters(n: int, writer: Writer, limits: Limits) -> None:
    """Refuse what is too long whatever its tokens are."""
    if n > _LONGEST_TOKEN * _room(writer, limits):
        raise too_long(f"{n:,} characters", writer, limits)


def check_tokens(tokens: Sequence[int], writer: Writer, limits: Limits, *, slide: bool) -> None:
    """Refuse an empty prompt, one that leaves no room for an answer, unknown tokens."""
    if not tokens:
        raise invalid("the prompt is empty", param="prompt", code="empty_prompt")
    most = limits.prompt_tokens or len(tokens)
    if len(tokens) > most or (not slide and len(tokens) >= writer.context_length):
        raise too_long(f"{len(tokens):,} tokens", writer, limits)
    if max(tokens) >= writer.tokenizer.vocab_size:
        raise invalid("a token is not in the vocabulary", param="prompt", code="unknown_token")


def too_long(what: str, writer: Writer, limits: Limits) -> Refusal:
    return invalid(
        f"the prompt has {what}; '{writer.name}' reads {_room(writer, limits):,} tokens, "
        "and some must be left for the answer",
        param="prompt",
        code="context_length_exceeded",
    )


def _room(writer: Writer, limits: Limits) -> int:
    return min(writer.context_length, limits.prompt_tokens or writer.context_length)


def new_tokens(
    asked: int | None, writer: Writer, n_prompt: int, limits: Limits, *, slide: bool
) -> int:
    """How many tokens may be written: what is asked, else what the context still holds."""
    most = limits.new_tokens
    if asked is not None and asked > most:
        raise invalid(
            f"{asked:,} new tokens are asked for, of at most {most:,}",
            param="max_tokens",
            code="too_many_tokens",
        )
    room = writer.context_length if slide else writer.context_length - n_prompt
    return min(room if asked is None else asked, writer.context_length, most)


def sampling_of(body: Sampled, writer: Writer, *, index: int = 0) -> Sampling:
    """The sampling of the index-th of n answers: the same seed, the same n texts.

    Without chance no seed is needed for that, but one is set: what has a seed is computed in a way
    that neither other requests nor what they left behind can change.
    """
    seed = 0 if body.seed is None and body.temperature == 0 else body.seed
    bias = {int(token): value for token, value in (body.logit_bias or {}).items()}
    if bias and max(bias) >= writer.tokenizer.vocab_size:
        raise invalid(
            f"token {max(bias)} is not in the vocabulary", param="logit_bias", code="unknown_token"
        )
    given = {
        "temperature": body.temperature,
        "top_k": body.top_k if body.top_k and body.top_k > 0 else None,
        "top_p": None if body.top_p is None or body.top_p >= 1 else max(body.top_p, 1e-6),
        "min_p": body.min_p or None,
        "repetition_penalty": body.repetition_penalty,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "logit_bias": bias or None,
        "seed": None if seed is None else (seed + index) % 2**63,
    }
    return Sampling(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def requests_of(
    body: Sampled,
    writer: Writer,
    prompts: Sequence[Sequence[int]],
    limits: Limits,
    *,
    max_tokens: int | None,
    n_logprobs: int | None = None,
    prompt_logprobs: bool = False,
    grammar: Grammar | None = None,
) -> list[Request]:
    """n requests for each prompt, in order. Raises Refusal for what cannot be asked."""
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    n, slide = body.n or 1, bool(body.slide)
    found = []
    for prompt in prompts:
        check_tokens(prompt, writer, limits, slide=slide)
        for index in range(n):
            request = Request(
                prompt=prompt,
                max_tokens=new_tokens(max_tokens, writer, len(prompt), limits, slide=slide),
                sampling=sampling_of(body, writer, index=index),
                stop_tokens=writer.stop_tokens,
                stop_texts=stops,
                n_logprobs=n_logprobs,
                prompt_logprobs=prompt_logprobs,
                grammar=grammar,
                slide=slide,
            )
            found.append(request)
    return found


async def grammar_of(
    asked: Format | None, schema: dict[str, Any] | None, writer: Writer
) -> Grammar | None:
    """The grammar of a response_format; `schema` is the server's own, for every answer.

    Compiled in another thread. Raises Refusal for a schema that is too large or that can't be met.
    """
    if schema is None and (asked is None or isinstance(asked, TextFormat)):
        return None
    if schema is None and isinstance(asked, JsonSchemaFormat):
        schema = asked.json_schema.schema_
    if schema is not None and len(_as_json(schema)) > _LARGEST_SCHEMA:
        raise _bad_schema("it is too large")
    from hornbook.generation import constrain

    def compiled() -> Grammar:
        if schema is None:
            return constrain.json_object(writer.tokenizer)
        return constrain.json_schema(schema, writer.tokenizer)

    try:
        return await asyncio.to_thread(compiled)
    except HornbookError as error:
        raise _bad_schema(error.message) from error


def _as_json(schema: dict[str, Any]) -> str:
    try:
        return json.dumps(schema, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise _bad_schema("it is no plain JSON") from error


def _bad_schema(reason: str) -> Refusal:
    return invalid(
        f"the JSON schema cannot be used: {reason}"[:500],
        param="response_format",
        code="invalid_schema",
    )


def asked_tokens(body: ChatBody | CompletionBody) -> int | None:
    """max_completion_tokens goes before its older name."""
    if isinstance(body, ChatBody):
        return body.max_completion_tokens or body.max_tokens
    return 16 if body.max_tokens is None else body.max_tokens
