"""Bodies that somebody wrote to do harm: none may be answered by a 5xx, or by a hung connection."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from types import SimpleNamespace

import pytest
from small_server import CHAT, Client, Loud, Vowels, serving
from tiny_model import add_tiny_model

from hornbook.serving.app import create_app
from hornbook.serving.limits import Limits
from hornbook.serving.listening import in_thread
from hornbook.serving.refusals import Refusal
from hornbook.serving.schemas import ChatBody, CompletionBody, EmbeddingBody, read_body
from hornbook.serving.served import Served

JSON = {"content-type": "application/json"}
TEXTS = [
    *(
        "",
        "\x00",
        "\ufeff",
        "\ufffd",
        "\u202e\u2066",
        "👩‍👩‍👧" * 50,
        "é" * 300,
        "a" * 5000,
        "\r\n\r\n",
    ),
    *("<|im_start|>system", "<|im_end|>", "{{ 7*7 }}", "{% for x in range(9**9) %}", "../../etc"),
    *("Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢", "\U0010ffff", "%s%n", "'; DROP TABLE", "${jndi:x}", "\\ud800"),
]
NUMBERS = ["0", "-1", "1e999", "-1e999", "NaN", "Infinity", "9" * 400, "1.5", "1e-400", "-0", "2e9"]
ODD = ["null", "true", "[]", "{}", '""', '"\\ud800"', '"\\udc00\\ud800"', "[[[[]]]]", '{"a":{}}']
FIELDS = [
    field for kind in (ChatBody, CompletionBody, EmbeddingBody) for field in kind.model_fields
]
BODIES = {
    CHAT: {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 3},
    "/v1/completions": {"model": "tiny", "prompt": "hello", "max_tokens": 3},
    "/v1/embeddings": {"model": "vowels", "input": "hello"},
    "/v1/classify": {"model": "loud", "input": "hello"},
}
SCHEMAS = [
    {"type": "object", "properties": {"a": {"$ref": "#"}}},
    {"$ref": "#"},
    {"pattern": "(a+)+$", "type": "string"},
    {"enum": []},
    {"allOf": [{"type": "string"}, {"type": "integer"}]},
    {"type": "string", "minLength": 10**12},
    {"type": "array", "minItems": 10**9, "items": {}},
]


def hostile(draw: random.Random) -> tuple[str, bytes]:
    """A path and a body: broken bytes, broken JSON, or one field with what doesn't belong there."""
    path = draw.choice(list(BODIES))
    body = json.dumps(BODIES[path])
    kind = draw.randrange(8)
    if kind == 0:
        return path, draw.randbytes(draw.randrange(200))
    if kind == 1:
        depth = draw.choice([50, 500, 100_000])
        opened = draw.choice(["[", '{"a":', '{"messages":['])
        return path, (opened * depth).encode()
    if kind == 2:
        cut = bytearray(body.encode())
        for _ in range(draw.randrange(1, 6)):
            cut[draw.randrange(len(cut))] = draw.randrange(256)
        return path, bytes(cut)
    if kind == 3:
        nested = "[" * 150 + "]" * 150
        return path, f'{body[:-1]}, "{draw.choice(FIELDS)}": {nested}}}'.encode()
    if kind == 4:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": draw.choice(SCHEMAS)}}
        return path, f'{body[:-1]}, "response_format": {json.dumps(form)}}}'.encode()
    if kind == 5:
        text = json.dumps(draw.choice(TEXTS), ensure_ascii=draw.random() < 0.5)
        field = re.sub('"hello"', lambda _: text, body)
        return path, field.encode("utf-8", "surrogatepass")
    value = draw.choice(NUMBERS) if kind == 6 else draw.choice(ODD + list(map(json.dumps, TEXTS)))
    return path, f'{body[:-1]}, "{draw.choice(FIELDS)}": {value}}}'.encode()


LIMITS = Limits(per_minute=10**7, new_tokens=64, request_seconds=20)


@pytest.fixture(scope="module")
def server():
    with serving(limits=LIMITS) as server:
        yield server


def attack(server, n: int, seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(n):
        path, body = hostile(draw)
        answer = server.client.post(path, content=body, headers=JSON)
        assert answer.status_code < 500, (path, body[:300], answer.text)
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert len(answer.text) < 2000
    assert server.client.get("/health").json()["status"] == "ok"
    assert server.served.find("tiny").engine.n_open == 0


def test_hundreds_of_hostile_bodies(server):
    attack(server, 300, seed=0)


@pytest.mark.long
def test_two_thousand_hostile_bodies_and_a_real_model():
    served = Served()
    add_tiny_model(served)
    served.add_encoder("vowels", Vowels())
    served.add_classifier("loud", Loud())
    app = create_app(served, limits=LIMITS)
    with in_thread(app) as url, Client(base_url=url, timeout=30) as client:
        attack(SimpleNamespace(client=client, served=served), 2000, seed=1)


def test_half_an_emoji_is_refused_or_read_as_a_question_mark(server):
    for content in (b'"\\ud83d"', b'"\\udc00 x"', b'"\xed\xa0\x80"'):
        body = b'{"model": "tiny", "max_tokens": 3, "prompt": %s}' % content
        answer = server.client.post("/v1/completions", content=body, headers=JSON)
        assert answer.status_code in (200, 400, 422)
    whole = b'{"model": "tiny", "max_tokens": 4, "prompt": "\\ud83d\\ude00"}'
    answer = server.client.post("/v1/completions", content=whole, headers=JSON)
    assert answer.json()["usage"]["prompt_tokens"] == 4


@pytest.mark.parametrize(
    "path",
    [
        "/web/../app.py",
        "/web/..%2f..%2fapp.py",
        "/web/%00",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1//models",
        "/%2e%2e/etc/passwd",
        "/v1/models/" + "a" * 5000,
        "/\ud83d".encode("utf-8", "surrogatepass").hex(),
    ],
)
def test_paths_reach_nothing_but_what_is_served(server, path):
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split(b" ")[1] in (b"400", b"404")
    assert b"root:" not in answer and b"Traceback" not in answer


def test_broken_http_is_no_fault_of_ours(server):
    host, _, port = server.url.removeprefix("http://").partition(":")
    for junk in (
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST\r\n\r\n",
        b"A" * 70_000,
    ):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(junk + b"\r\n\r\n")
            assert b" 500 " not in connection.recv(4096)[:40]
    length = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(length)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")
    assert server.client.get("/health").status_code == 200


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionBody, '{"model": "m", "prompt": [%s]}' % ("true, " * 150_000 + "1")),
        (CompletionBody, '{"model": "m", "prompt": [[%s]]}' % ("-1, " * 200_000 + "1")),
        (CompletionBody, '{"model": "m", "stop": [%s], "prompt": ""}' % ("1, " * 300_000 + "1")),
        (ChatBody, '{"model": "m", "messages": [{"role": "user", "content": [%s]}]}'),
        (ChatBody, '{"model": "m", "messages": [{"role": "user", "tool_calls": [%s]}]}'),
        (EmbeddingBody, '{"model": "m", "input": [%s]}' % ("1, " * 300_000 + "1")),
    ],
)
def test_a_million_wrong_items_cost_no_more_than_one(kind, body):
    data = body.replace("%s", "1, " * 300_000 + "1").encode()
    start = time.process_time()
    with pytest.raises(Refusal) as refused:
        read_body(kind, data)
    assert refused.value.status == 422
    assert time.process_time() - start < 0.5


def test_many_unknown_fields_are_ignored_quickly():
    fields = ", ".join(f'"max_tokez{i}": 1' for i in range(40_000))
    start = time.process_time()
    body = read_body(CompletionBody, f'{{"model": "m", "prompt": "", {fields}}}'.encode())
    assert len(body.model_extra) == 40_000
    assert time.process_time() - start < 0.5
