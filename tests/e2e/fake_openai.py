"""A small server that speaks OpenAI's API with canned answers, and serves the page over it.

It stands for `hornbook serve` in the tests of the page: what the page asks is noted, and how an
answer comes (slowly, broken, refused) is chosen by words in the question.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from hornbook.serving.web import mount

POEM = (
    "A hornbook was a sheet of paper on a small wooden paddle, with a thin pane of horn over "
    "it to keep it clean. Children learnt their letters from it:\n\n"
    "1. the **alphabet**, small and capital\n2. the vowels and the syllables, `ab eb ib`\n"
    "3. a short prayer or a rhyme\n\n"
    'It was cheap, and it lasted:\n\n```python\nfor letter in "abc":\n    print(letter)\n```\n\n'
    "Most were made between 1450 and 1800."
)
EVIL = (
    "<img src=x onerror=\"document.body.dataset.planted='img'\">"
    "<script>document.body.dataset.planted='script'</script>\n\n"
    "**<b onmouseover=alert(1)>bold</b>** `<svg onload=alert(1)>` "
    '[a](javascript:alert(1))\n\n```html"><script>alert(2)</script>\n<i>code</i>\n```'
)
SUGGESTION = " upon a time there was"
SCORES = {"billing": 0.71, "shipping": 0.18, "returns": 0.06, "praise": 0.03, "other": 0.02}
DONE = [(0.0, b"data: [DO"), (0.01, b"NE]\n\n")]  # cut where a network might cut it
MODELS = {
    "smollm2-135m-instruct": ["chat", "completions"],
    "runs/sherlock": ["completions"],
    "runs/tickets": ["classify"],
}


@dataclass
class Fake:
    """What the server does, and what it was asked."""

    models: dict[str, list[str]] = field(default_factory=lambda: dict(MODELS))
    key: str = ""
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    left: int = 0  # streams that the client closed before their end
    url: str = ""

    def last(self, path: str) -> dict[str, Any]:
        return [body for asked, body in self.asked if asked == path][-1]

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def check(request: Request, call_next):
            given = request.headers.get("authorization", "")
            if self.key and request.url.path.startswith("/v1") and given != f"Bearer {self.key}":
                return refusal(401, "Incorrect API key provided.")
            return await call_next(request)

        @app.get("/v1/models")
        async def models():
            rows = [
                {"id": name, "capabilities": what, "context_length": 100}
                for name, what in self.models.items()
            ]
            return {"object": "list", "data": rows}

        @app.post("/v1/chat/completions")
        async def chat(request: Request):
            body = await request.json()
            self.asked.append(("chat", body))
            question = body["messages"][-1]["content"]
            if "busy" in question:
                return refusal(429, "Too many requests", {"Retry-After": "7"})
            return self.stream(request, chat_events(question))

        @app.post("/v1/completions")
        async def complete(request: Request):
            body = await request.json()
            self.asked.append(("completions", body))
            if body.get("echo"):
                usage = {"prompt_tokens": len(body["prompt"].split(" "))}
                return {"choices": [{"logprobs": scored(body), "index": 0}], "usage": usage}
            pieces = [SUGGESTION[i : i + 6] for i in range(0, len(SUGGESTION), 6)]
            events = [(0.01, {"choices": [{"text": piece}]}) for piece in pieces]
            return self.stream(request, [*events, *DONE])

        @app.post("/v1/classify")
        async def classify(request: Request):
            body = await request.json()
            self.asked.append(("classify", body))
            labels = [{"label": name, "score": score} for name, score in SCORES.items()]
            rows = [
                {"index": i, "labels": labels, "predicted": ["billing"]}
                for i in range(len(body["input"]))
            ]
            return {"model": body["model"], "data": rows}

        mount(app)
        return app

    def stream(self, request: Request, events: list) -> StreamingResponse:
        async def lines():
            ended = False
            try:
                for seconds, event in events:
                    await asyncio.sleep(seconds)
                    yield (
                        event if isinstance(event, bytes) else f"data: {json.dumps(event)}\r\n\r\n"
                    )
                ended = True
            finally:
                self.left += not ended

        return StreamingResponse(lines(), media_type="text/event-stream")


def chat_events(question: str) -> list:
    """(seconds to wait, event): a quick answer, unless the question asks for something else."""
    if "slowly" in question:
        return [(0.04, delta(f"word{i} ")) for i in range(500)] + DONE
    if "break" in question:
        return [(0.0, delta("The beginning"))]
    if "overload" in question:
        error = {"error": {"message": "The server is shutting down", "type": "server_error"}}
        return [(0.0, delta("The beginning")), (0.0, error)]
    text = EVIL if "evil" in question else POEM
    pieces = [text[i : i + 9] for i in range(0, len(text), 9)]
    usage = {"prompt_tokens": 12, "completion_tokens": len(pieces)}
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    events = [(0.002, delta(piece)) for piece in pieces]
    return [*events, (0.0, end), (0.0, {"choices": [], "usage": usage}), *DONE]


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def scored(body: dict[str, Any]) -> dict[str, list]:
    """Words as tokens, each with a made-up probability, in OpenAI's parallel lists."""
    words = body["prompt"].split(" ")
    words += ["Children", "learnt", "from", "it"][: body["max_tokens"]]
    tokens = [(" " if i else "") + word for i, word in enumerate(words)]
    probabilities = [abs(math.sin(1.7 * i * i)) ** 3 + 0.0008 for i in range(len(tokens))]
    tops = [
        {token: math.log(p), " the": math.log(0.2), " a": math.log(0.05), "\n": math.log(0.001)}
        for token, p in zip(tokens, probabilities)
    ]
    return {
        "tokens": tokens,
        "token_logprobs": [None, *(math.log(p) for p in probabilities[1:])],
        "top_logprobs": [None, *tops[1:]],
    }


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": "error"}}, status, headers)


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Run it on a free port of the loopback until the end of the block."""
    config = uvicorn.Config(fake.app(), port=0, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < until, "the server didn't start"
        time.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    fake.url = f"http://{host}:{port}/"
    try:
        yield fake
    finally:
        server.should_exit = server.force_exit = True
        thread.join(10)
