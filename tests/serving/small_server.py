"""A server in a thread, without a model: a fake batch, an encoder, a classifier."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import httpx
import numpy as np
from fake_batch import FakeBatch, PlainTemplate

from hornbook.data.examples import Problem
from hornbook.serving.app import create_app
from hornbook.serving.listening import in_thread
from hornbook.serving.served import Served

CHAT = "/v1/chat/completions"


class Vowels:
    """An encoder: how many of each vowel a text has, made one long."""

    max_tokens = 8

    def encode(self, texts):
        counts = np.array([[1 + text.count(v) for v in "aeiou"] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)

    def count_tokens(self, texts):
        return [min(len(text.split()), self.max_tokens) for text in texts]


class Loud:
    """A classifier: loud or quiet, by capitals."""

    problem = Problem(("loud", "quiet"), False, {})

    def scores(self, texts):
        assert all(text.strip() for text in texts)
        shares = [sum(c.isupper() for c in text) / len(text) for text in texts]
        return np.array([[share, 1 - share] for share in shares], np.float32)

    def decide(self, scores):
        return scores >= 0.5

    def calibrate(self, scores):
        return scores


class Client(httpx.Client):
    """Asks one model, and reads events."""

    def chat(self, content="hello", **fields) -> httpx.Response:
        messages = content if isinstance(content, list) else [{"role": "user", "content": content}]
        return self.post(CHAT, json={"model": "tiny", "messages": messages} | fields)

    def complete(self, prompt="ab", **fields) -> httpx.Response:
        return self.post("/v1/completions", json={"model": "tiny", "prompt": prompt} | fields)


def events_of(text: str) -> list[dict]:
    """The events of a stream, which must end as OpenAI's do."""
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def text_of(events: list[dict]) -> str:
    parts = [choice["delta"].get("content") or "" for e in events for choice in e["choices"]]
    return "".join(parts)


@contextmanager
def serving(batch: FakeBatch | None = None, **settings):
    """A server of a fake batch, an encoder and a classifier. Yields (client, batch, app)."""
    batch = batch or FakeBatch()
    served = Served()
    n_open = settings["limits"].n_open if "limits" in settings else 72
    served.add_writer(
        "tiny",
        batch,
        batch.tokenizer,
        template=PlainTemplate(),
        context_length=batch.context_length,
        n_open=n_open,
    )
    served.add_writer("plain", FakeBatch(), batch.tokenizer, context_length=64)
    served.add_encoder("vowels", Vowels())
    served.add_classifier("loud", Loud())
    app = create_app(served, **settings)
    with in_thread(app) as url, Client(base_url=url, timeout=20) as client:
        yield SimpleNamespace(client=client, batch=batch, app=app, url=url, served=served)
