"""/v1/chat/completions: a conversation goes on."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any

from hornbook.serving.answers import Choice, chat_logprobs, check_whole, usage_of
from hornbook.serving.asking import (
    asked_tokens,
    chat_tokens,
    check_characters,
    grammar_of,
    requests_of,
)
from hornbook.serving.engine import Stream
from hornbook.serving.live import DONE, Live, event
from hornbook.serving.refusals import invalid
from hornbook.serving.schemas import ChatBody, Message, TextFormat, Tool
from hornbook.serving.served import Writer
from hornbook.serving.shop import Shop
from hornbook.serving.tool_calls import ToolReader, forced_schema


async def answer(shop: Shop, body: ChatBody) -> Live:
    """Raises Refusal for what cannot be done; the answer itself is written later."""
    writer = shop.served.find_as(Writer, body.model, "write texts")
    tools = _offered(body, writer)
    if body.logprobs and shop.guards.change_answers:
        raise invalid("a guard may change answers: no logprobs", param="logprobs")
    if body.top_logprobs and not body.logprobs:
        raise invalid("top_logprobs needs logprobs", param="top_logprobs")
    messages = [_plain(message) for message in body.messages]
    check_characters(sum(len(m["content"]) for m in messages), writer, shop.limits)
    contents = await shop.asked([m["content"] for m in messages])
    messages = [m | {"content": content} for m, content in zip(messages, contents)]
    definitions = [tool.model_dump(exclude_none=True) for tool in tools] or None
    prompt = await chat_tokens(writer, messages, definitions)
    schema, must = shop.schema, body.response_format
    if tools and body.tool_choice not in (None, "auto"):
        schema = forced_schema(tools, body.tool_choice)
    grammar = await grammar_of(must, schema, writer)
    requests = requests_of(
        body,
        writer,
        [prompt],
        shop.limits,
        max_tokens=asked_tokens(body),
        n_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        grammar=grammar,
    )
    names = [tool.function.name for tool in tools]
    choices = [
        Choice(
            index,
            guarded=shop.guarded(),
            tools=ToolReader(names) if names else None,
        )
        for index in range(len(requests))
    ]
    stream = writer.engine.submit(requests, seconds=shop.limits.request_seconds)
    chat = _Chat(shop, body, writer, stream, choices)
    chunks = chat.events() if body.stream else chat.whole()
    return Live(stream, chunks, events=bool(body.stream), request_id=chat.id)


def _offered(body: ChatBody, writer: Writer) -> list[Tool]:
    tools = body.tools if body.tools and body.tool_choice != "none" else []
    if body.tool_choice not in (None, "none", "auto") and not tools:
        raise invalid("tool_choice needs tools", param="tool_choice")
    template = writer.template
    knows = template is None or "tools" in template.source or template.with_tools
    if tools and not knows:
        raise invalid(
            f"the chat template of '{writer.name}' has no place for tools",
            param="tools",
            code="tools_not_supported",
        )
    if tools and body.response_format and not isinstance(body.response_format, TextFormat):
        raise invalid("tools and a response_format exclude each other", param="response_format")
    return tools


def _plain(message: Message) -> dict[str, Any]:
    """A message as templates read it: content as one text."""
    content = message.content
    if isinstance(content, list):
        content = "".join(part.text for part in content)
    role = "system" if message.role == "developer" else message.role
    found: dict[str, Any] = {"role": role, "content": content or ""}
    for name in ("name", "tool_call_id"):
        if (value := getattr(message, name)) is not None:
            found[name] = value
    if message.tool_calls:
        found["tool_calls"] = [_parsed(call.model_dump()) for call in message.tool_calls]
    return found


def _parsed(call: dict[str, Any]) -> dict[str, Any]:
    """Templates want a call's arguments as an object, OpenAI's clients send them as text."""
    try:
        arguments = json.loads(call["function"]["arguments"] or "{}")
    except (ValueError, RecursionError) as error:
        raise invalid("the arguments of a tool call are not JSON", param="messages") from error
    return call | {"function": call["function"] | {"arguments": arguments}}


class _Chat:
    def __init__(
        self, shop: Shop, body: ChatBody, writer: Writer, stream: Stream, choices: list[Choice]
    ) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self._shop, self._body, self._writer = shop, body, writer
        self._stream, self._choices = stream, choices
        self._came = time.perf_counter()
        self._created = int(time.time())
        form = body.response_format
        self._must_be_json = shop.schema is not None or not (
            form is None or isinstance(form, TextFormat)
        )

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self._created, "model": self._writer.name}

    async def whole(self) -> AsyncIterator[bytes]:
        """One chunk: the answer, when it is finished."""
        texts: list[list[str]] = [[] for _ in self._choices]
        tokens: list[list[Any]] = [[] for _ in self._choices]
        async for events in self._stream:
            for index, piece in events:
                texts[index].append(self._choices[index].take(piece))
                tokens[index] += piece.tokens
            if all(choice.finish for choice in self._choices):
                break
        choices = [self._choice(c, "".join(texts[c.index]), tokens[c.index]) for c in self._choices]
        head = self._head("chat.completion")
        content = head | {"choices": choices, "usage": usage_of(self._choices)}
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        yield text.encode("utf-8", "replace")

    def _choice(self, choice: Choice, text: str, tokens: list[Any]) -> dict[str, Any]:
        if self._must_be_json:
            check_whole(text, self._shop.count)
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if choice.tools and choice.tools.calls:
            message |= {"content": text.rstrip() or None, "tool_calls": choice.tools.calls}
        logprobs = None
        if self._body.logprobs:
            logprobs = chat_logprobs(self._writer.tokenizer, tokens)
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": choice.finish,
        }

    async def events(self) -> AsyncIterator[bytes]:
        """Chunks of the answer, each with what has come since the last."""
        options = self._body.stream_options
        with_usage = bool(options and options.include_usage)
        head = self._head("chat.completion.chunk") | ({"usage": None} if with_usage else {})
        opening = {"role": "assistant", "content": ""}
        out = [self._delta(head, choice, opening) for choice in self._choices]
        said: list[str] = [""] * len(self._choices)
        first = True
        async for events in self._stream:
            if first:
                self._shop.metrics.first_token(self._writer.name, time.perf_counter() - self._came)
                first = False
            for index, piece in events:
                choice = self._choices[index]
                if choice.finish:
                    continue
                text = choice.take(piece)
                if text or (piece.tokens and self._body.logprobs):
                    out.append(self._delta(head, choice, {"content": text}, piece.tokens))
                if self._must_be_json:
                    said[index] += text
                if choice.finish:
                    out += self._ending(head, choice)
                    if self._must_be_json:
                        check_whole(said[index], self._shop.count)
            if out:
                yield b"".join(out)
                out = []
            if all(choice.finish for choice in self._choices):
                break
        if with_usage:
            out.append(event(head | {"choices": [], "usage": usage_of(self._choices)}))
        yield b"".join([*out, DONE])

    def _ending(self, head: dict[str, Any], choice: Choice) -> list[bytes]:
        out = []
        if choice.tools and choice.tools.calls:
            calls = [{"index": i} | call for i, call in enumerate(choice.tools.calls)]
            out.append(self._delta(head, choice, {"tool_calls": calls}))
        return [*out, self._delta(head, choice, {}, finish=choice.finish)]

    def _delta(
        self,
        head: dict[str, Any],
        choice: Choice,
        delta: dict[str, Any],
        tokens: Any = (),
        finish: str | None = None,
    ) -> bytes:
        logprobs = None
        if self._body.logprobs and tokens:
            logprobs = chat_logprobs(self._writer.tokenizer, tokens)
        row = {
            "index": choice.index,
            "delta": delta,
            "logprobs": logprobs,
            "finish_reason": finish,
        }
        return event(head | {"choices": [row]})
