"""/v1/completions: a text goes on; with echo and logprobs, a text is scored."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from hornbook.generation.request import Scored
from hornbook.serving.answers import Choice, CompletionLogprobs, check_whole, usage_of
from hornbook.serving.asking import (
    asked_tokens,
    check_characters,
    grammar_of,
    requests_of,
    text_tokens,
)
from hornbook.serving.engine import Stream
from hornbook.serving.live import DONE, Live, event
from hornbook.serving.refusals import invalid
from hornbook.serving.schemas import CompletionBody, TextFormat
from hornbook.serving.served import Writer
from hornbook.serving.shop import Shop


async def answer(shop: Shop, body: CompletionBody) -> Live:
    """Raises Refusal for what cannot be done; the answer itself is written later."""
    writer = shop.served.find_as(Writer, body.model, "write texts")
    wants_logprobs = body.logprobs is not None
    if wants_logprobs and shop.guards.change_answers:
        raise invalid("a guard may change answers: no logprobs", param="logprobs")
    if body.best_of not in (None, body.n or 1):
        raise invalid("best_of must be n: answers are not ranked here", param="best_of")
    if body.max_tokens == 0 and not body.echo:
        raise invalid("max_tokens is 0 and echo is off: nothing to do", param="max_tokens")
    texts, prompts = await _prompts(shop, writer, body)
    grammar = await grammar_of(body.response_format, shop.schema, writer)
    requests = requests_of(
        body,
        writer,
        prompts,
        shop.limits,
        max_tokens=asked_tokens(body),
        n_logprobs=body.logprobs,
        prompt_logprobs=bool(body.echo) and wants_logprobs,
        grammar=grammar,
    )
    n = body.n or 1
    choices = [Choice(i, prompt=i // n, guarded=shop.guarded()) for i in range(len(requests))]
    stream = writer.engine.submit(requests, seconds=shop.limits.request_seconds)
    echoes = [texts[choice.prompt] if body.echo else "" for choice in choices]
    completion = _Completion(shop, body, writer, stream, choices, echoes)
    chunks = completion.events() if body.stream else completion.whole()
    return Live(stream, chunks, events=bool(body.stream), request_id=completion.id)


async def _prompts(
    shop: Shop, writer: Writer, body: CompletionBody
) -> tuple[list[str], list[list[int]]]:
    """The prompts as texts and as tokens. Raises Refusal for tokens where guards read texts."""
    given = body.prompt
    texts = [given] if isinstance(given, str) else [p for p in given if isinstance(p, str)]
    if texts:
        for text in texts:
            check_characters(len(text), writer, shop.limits)
        texts = await shop.asked(texts)
        return texts, await text_tokens(writer, texts)
    if shop.guards.phrases or shop.guards.personal_data:
        raise invalid("a guard reads what is asked: give text, not tokens", param="prompt")
    tokens = [p for p in given if isinstance(p, list)] or [[t for t in given if isinstance(t, int)]]
    if max(map(max, tokens)) >= writer.tokenizer.vocab_size:
        raise invalid("a token is not in the vocabulary", param="prompt", code="unknown_token")
    decode = writer.tokenizer.rust.decode  # which, unlike encode, two threads may call at once
    return [decode(ids, skip_special_tokens=False) for ids in tokens], tokens


class _Completion:
    def __init__(
        self,
        shop: Shop,
        body: CompletionBody,
        writer: Writer,
        stream: Stream,
        choices: list[Choice],
        echoes: Sequence[str],
    ) -> None:
        self.id = f"cmpl-{secrets.token_hex(12)}"
        self._shop, self._body, self._writer = shop, body, writer
        self._stream, self._choices, self._echoes = stream, choices, echoes
        self._came = time.perf_counter()
        self._logprobs = [
            CompletionLogprobs(writer.tokenizer, top=bool(body.logprobs)) for _ in choices
        ]
        form = body.response_format
        self._must_be_json = shop.schema is not None or not (
            form is None or isinstance(form, TextFormat)
        )
        self._head = {
            "id": self.id,
            "object": "text_completion",
            "created": int(time.time()),
            "model": writer.name,
        }

    def _row(self, choice: Choice, text: str, tokens: Sequence[Scored]) -> dict[str, Any]:
        logprobs = None
        if self._body.logprobs is not None:
            logprobs = self._logprobs[choice.index].columns(tokens)
        return {
            "index": choice.index,
            "text": text,
            "logprobs": logprobs,
            "finish_reason": choice.finish,
        }

    async def whole(self) -> AsyncIterator[bytes]:
        """One chunk: the answers, when all are finished."""
        texts: list[list[str]] = [[] for _ in self._choices]
        tokens: list[list[Scored]] = [[] for _ in self._choices]
        async for events in self._stream:
            for index, piece in events:
                texts[index].append(self._choices[index].take(piece))
                tokens[index] += piece.tokens
            if all(choice.finish for choice in self._choices):
                break
        rows = []
        for choice, echo in zip(self._choices, self._echoes):
            text = "".join(texts[choice.index])
            if self._must_be_json:
                check_whole(text, self._shop.count)
            rows.append(self._row(choice, echo + text, tokens[choice.index]))
        content = self._head | {"choices": rows, "usage": usage_of(self._choices)}
        yield json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")

    async def events(self) -> AsyncIterator[bytes]:
        """Chunks of the answers, each with what has come since the last."""
        options = self._body.stream_options
        with_usage = bool(options and options.include_usage)
        head = self._head | ({"usage": None} if with_usage else {})
        echoes = list(self._echoes)
        said = [""] * len(echoes)
        first = True
        async for events in self._stream:
            if first:
                self._shop.metrics.first_token(self._writer.name, time.perf_counter() - self._came)
                first = False
            out = []
            for index, piece in events:
                choice = self._choices[index]
                if choice.finish:
                    continue
                text, echoes[index] = echoes[index] + choice.take(piece), ""
                if text or choice.finish or piece.tokens:
                    out.append(event(head | {"choices": [self._row(choice, text, piece.tokens)]}))
                if self._must_be_json:
                    said[index] += text
                    if choice.finish:
                        check_whole(said[index], self._shop.count)
            if out:
                yield b"".join(out)
            if all(choice.finish for choice in self._choices):
                break
        if with_usage:
            yield event(head | {"choices": [], "usage": usage_of(self._choices)}) + DONE
        else:
            yield DONE
