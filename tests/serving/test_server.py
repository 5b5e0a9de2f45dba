"""The server's answers and refusals, over HTTP, without a model."""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from fake_batch import FakeBatch, byte_tokenizer
from small_server import CHAT, events_of, serving, text_of

from hornbook.errors import ConfigError
from hornbook.generation.request import Scored
from hornbook.serving.answers import CompletionLogprobs
from hornbook.serving.keys import Keys, read_keys
from hornbook.serving.limits import Limits
from hornbook.serving.listening import allowed_hosts, bind, is_loopback

KEY = "a-key-of-this-test-0123456789"


def error_of(response: httpx.Response, status: int) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert "Traceback" not in response.text
    return error


def wait_until(condition, seconds: float = 3.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.005)


def test_models_and_health(client):
    rows = client.get("/v1/models").json()["data"]
    able = {row["id"]: row["capabilities"] for row in rows}
    assert able == {
        "tiny": ["chat", "completions"],
        "plain": ["completions"],
        "vowels": ["embeddings"],
        "loud": ["classify"],
    }
    assert client.get("/v1/models/tiny").json() == rows[0]
    assert client.get("/health").json()["status"] == "ok"


def test_a_stream_says_what_the_whole_answer_says(client):
    whole = client.chat(max_tokens=9).json()
    assert whole["choices"][0]["message"] == {"role": "assistant", "content": "user: hel"}
    assert whole["choices"][0]["finish_reason"] == "length"
    options = {"stream": True, "stream_options": {"include_usage": True}}
    events = events_of(client.chat(max_tokens=9, **options).text)
    assert text_of(events) == "user: hel"
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert [e["choices"][0]["finish_reason"] for e in events[:-1]][-1] == "length"
    assert events[-1] == events[-1] | {"choices": [], "usage": whole["usage"]}
    assert whole["usage"] | {"prompt_tokens_details": 0} == {
        "prompt_tokens": 12,
        "completion_tokens": 9,
        "total_tokens": 21,
        "prompt_tokens_details": 0,
    }
    assert all(e["usage"] is None for e in events[:-1])


def test_n_answers_are_told_apart_and_the_prompt_counted_once(client):
    body = client.chat(max_tokens=5, n=3).json()
    assert [c["message"]["content"] for c in body["choices"]] == ["user:"] * 3
    assert (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]) == (12, 15)
    events = events_of(client.chat(max_tokens=5, n=3, stream=True).text)
    for index in range(3):
        mine = [c for e in events for c in e["choices"] if c["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in mine) == "user:"


def test_chat_logprobs(client):
    choice = client.chat(max_tokens=2, logprobs=True, top_logprobs=2).json()["choices"][0]
    first = choice["logprobs"]["content"][0]
    assert (first["token"], first["logprob"], first["bytes"]) == ("u", -0.5, [117])
    assert len(first["top_logprobs"]) == 2
    events = events_of(client.chat(max_tokens=2, logprobs=True, stream=True).text)
    rows = [c["logprobs"]["content"] for e in events for c in e["choices"] if c["logprobs"]]
    assert [row["token"] for part in rows for row in part] == ["u", "s"]


def test_completions_echo_and_score_a_text(client):
    body = client.complete("abc", max_tokens=2, echo=True, logprobs=1).json()
    choice = body["choices"][0]
    assert choice["text"] == "abcab"
    assert choice["logprobs"]["tokens"] == list("abcab")
    assert choice["logprobs"]["token_logprobs"] == [None] + [-0.5] * 4
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]
    scored = client.complete("abc", max_tokens=0, echo=True, logprobs=0).json()["choices"][0]
    assert (scored["text"], len(scored["logprobs"]["tokens"])) == ("abc", 3)
    streamed = events_of(client.complete("abc", max_tokens=2, echo=True, stream=True).text)
    assert "".join(c["text"] for e in streamed for c in e["choices"]) == "abcab"


def test_completions_take_texts_and_tokens(client, shared):
    body = client.complete(["ab", "cd"], max_tokens=4, n=2).json()
    assert [c["text"] for c in body["choices"]] == ["abab", "abab", "cdcd", "cdcd"]
    assert body["usage"]["prompt_tokens"] == 4
    tokens = shared.batch.tokenizer.encode(["xy"], special=False)[0]
    assert client.complete(tokens, max_tokens=2).json()["choices"][0]["text"] == "xy"
    assert client.complete([tokens], max_tokens=2).json()["choices"][0]["text"] == "xy"
    error = error_of(client.complete([100_000]), 400)
    assert error["code"] == "unknown_token"


def test_control_tokens_that_a_user_types_stay_text(client):
    typed = "<|im_end|>"
    assert client.complete(typed, max_tokens=1).json()["usage"]["prompt_tokens"] == len(typed)


def test_embeddings_as_numbers_and_as_bytes(client):
    ask = {"model": "vowels", "input": ["a e", "o"]}
    body = client.post("/v1/embeddings", json=ask).json()
    vectors = [row["embedding"] for row in body["data"]]
    assert [len(v) for v in vectors] == [5, 5] and body["usage"]["prompt_tokens"] == 3
    packed = client.post("/v1/embeddings", json=ask | {"encoding_format": "base64"}).json()
    raw = base64.b64decode(packed["data"][1]["embedding"])
    assert list(struct.unpack("<5f", raw)) == pytest.approx(vectors[1])
    error_of(client.post("/v1/embeddings", json=ask | {"dimensions": 3}), 400)


def test_classify_gives_all_scores_and_the_decision(client):
    ask = {"model": "loud", "input": ["HEY", "hush", " "]}
    data = client.post("/v1/classify", json=ask).json()["data"]
    assert data[0]["predicted"] == ["loud"]
    assert data[0]["labels"][0] == {"label": "loud", "score": 1.0}
    assert data[1]["labels"][0]["label"] == "quiet"
    assert (data[2]["labels"], data[2]["predicted"]) == ([], [])


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        (CHAT, {"model": "nobody", "messages": []}, 422, "invalid_value"),
        (CHAT, {"model": "../etc", "messages": [{"role": "user", "content": ""}]}, 404, None),
        (CHAT, {"model": "vowels", "messages": [{"role": "user", "content": ""}]}, 400, None),
        (CHAT, {"model": "plain", "messages": [{"role": "user", "content": "a"}]}, 400, None),
        (CHAT, {"model": "tiny", "messages": [{"role": "boss", "content": "a"}]}, 422, None),
        (CHAT, {"model": "tiny", "messages": [{"role": "user"}]}, 422, None),
        (CHAT, {"model": "tiny", "messages": [{"role": "user", "content": "fail"}]}, 400, None),
        ("/v1/completions", {"model": "tiny", "prompt": ""}, 400, "empty_prompt"),
        ("/v1/completions", {"model": "tiny", "prompt": []}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a" * 512}, 400, "context_length_exceeded"),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "max_tokens": 9000}, 400, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "max_token": 5}, 422, "unknown_field"),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "temperature": "1"}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "temperature": 3}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "n": 1.5}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "stop": ""}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "suffix": "b"}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "best_of": 3}, 400, None),
        ("/v1/completions", {"model": "tiny", "prompt": ["a"] * 20, "n": 4}, 400, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "logit_bias": {"x": 1}}, 422, None),
        ("/v1/completions", {"model": "tiny", "prompt": "a", "logit_bias": {"999": 1}}, 400, None),
        ("/v1/classify", {"model": "tiny", "input": "a"}, 400, "model_not_suited"),
        ("/v1/embeddings", {"model": "vowels", "input": []}, 422, None),
        ("/v1/nothing", {}, 404, "not_found"),
        ("/v1/models", {}, 405, None),
    ],
)
def test_what_is_refused_is_refused_in_openai_s_form(client, path, body, status, code):
    error = error_of(client.post(path, json=body), status)
    assert code is None or error["code"] == code


def test_fields_that_only_matter_elsewhere_are_ignored(client):
    extra = {"store": True, "metadata": {"a": "b"}, "user": "me", "whatever": 1}
    assert client.chat(max_tokens=1, **extra).status_code == 200


def test_a_foreign_page_cannot_ask(client, shared):
    port = shared.url.rpartition(":")[2]
    names = {"evil.example": 403, f"localhost:{port}": 200, f"127.0.0.1:{port}": 200, "[::1]": 200}
    with serving(hosts=allowed_hosts("127.0.0.1", Keys())) as server:
        for name, status in names.items():
            assert server.client.get("/v1/models", headers={"host": name}).status_code == status
        form = {"content-type": "text/plain"}
        error_of(server.client.post(CHAT, content=b"{}", headers=form), 415)
        asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
        answer = server.client.options(CHAT, headers=asked)
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_pages_load_nothing_from_elsewhere(client):
    for path in ("/", "/docs", "/docs.css", "/openapi.json"):
        page = client.get(path)
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert "http://" not in page.text.replace("http://www.w3.org/", "")
        assert "https://" not in page.text
    assert "/v1/chat/completions" in client.get("/docs").text


def test_a_key_is_asked_for_where_there_is_one(caplog):
    with serving(keys=Keys(["another-key-0123456789", KEY])) as server:
        for value in (None, "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xff"):
            headers = {"authorization": value.encode("latin-1")} if value else {}
            for path in ("/v1/models", "/metrics", "/v1/models/tiny"):
                refused = server.client.get(path, headers=headers)
                assert error_of(refused, 401)["code"] == "invalid_api_key"
                assert refused.headers["www-authenticate"] == "Bearer"
        allowed = server.client.get("/v1/models", headers={"authorization": f"Bearer {KEY}"})
        assert allowed.status_code == 200
        for path in ("/", "/health", "/docs", "/openapi.json"):
            assert server.client.get(path).status_code == 200
    assert KEY not in caplog.text


def test_every_route_is_private_or_known_to_be_public(shared):
    paths = {getattr(route, "path", "") for route in shared.app.routes}
    private = {path for path in paths if path.startswith("/v1/") or path == "/metrics"}
    pages = {"/", "/web/{name}", "/health", "/docs", "/docs.css", "/openapi.json"}
    assert paths == private | pages and len(private) == 7


def test_limits_of_size_time_rate_and_callers():
    batch = FakeBatch(delay=0.01)
    limits = Limits(
        body_bytes=2000, body_seconds=0.3, n_open=2, per_client=3, per_minute=120, request_seconds=9
    )
    with serving(batch, limits=limits) as server:
        client = server.client
        error_of(client.chat("a" * 3000), 413)
        chunks = iter([b"{" * 1500, b"{" * 1500])
        json_type = {"content-type": "application/json"}
        error_of(client.post(CHAT, content=chunks, headers=json_type), 413)
        assert slow(server.url, 'Content-Length: 90\r\n\r\n{"model":').startswith(b"HTTP/1.1 408")
        assert slow(server.url, "X-Half-A-Head: ") == b""  # closed
        with ThreadPoolExecutor() as pool:
            long = [pool.submit(client.chat, max_tokens=100) for _ in range(2)]
            wait_until(lambda: server.served.find("tiny").engine.n_open == 2)
            full = client.chat(max_tokens=1)
            assert error_of(full, 503)["code"] == "server_busy"
            assert int(full.headers["retry-after"]) >= 1
            ask = {"model": "plain", "prompt": "ab", "max_tokens": 60, "stream": True}
            with client.stream("POST", "/v1/completions", json=ask) as third:
                third.read()
            assert all(future.result().status_code == 200 for future in long)
        statuses = [client.get("/v1/models").status_code for _ in range(40)]
        assert statuses[0] == 200 and statuses[-1] == 429
        slower = client.get("/v1/models")
        assert error_of(slower, 429)["type"] == "rate_limit_error"
        assert int(slower.headers["retry-after"]) >= 1
        assert client.get("/health").status_code == 200


def slow(url: str, rest: str) -> bytes:
    """What a client hears that begins a request, and then says no more."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        connection.sendall((head + rest).encode())
        return connection.recv(1000)


def test_one_client_cannot_have_all_slots():
    with serving(FakeBatch(delay=0.01), limits=Limits(per_client=1)) as server:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(server.client.chat, max_tokens=60)
            wait_until(lambda: server.served.find("tiny").engine.n_open == 1)
            error = error_of(server.client.chat(max_tokens=1), 429)
            assert error["code"] == "too_many_requests"
            assert first.result().status_code == 200
        assert server.client.chat(max_tokens=1).status_code == 200


def test_time_is_over_before_and_after_the_first_token():
    limits = Limits(request_seconds=0.15)
    with serving(FakeBatch(delay=0.02, n_slots=1), limits=limits) as server:
        assert error_of(server.client.chat(max_tokens=400), 408)["type"] == "timeout_error"
        events = events_of(server.client.chat(max_tokens=400, stream=True).text)
        assert events[-1]["error"]["code"] == "deadline_exceeded"
        assert len(text_of(events[:-1])) > 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_frees_its_slot(stream):
    with serving(FakeBatch(delay=0.01, n_slots=1)) as server:
        engine = server.served.find("tiny").engine
        ask = {"model": "tiny", "prompt": "ab", "max_tokens": 500, "stream": stream}
        if stream:
            with server.client.stream("POST", "/v1/completions", json=ask) as response:
                next(response.iter_raw())
        else:
            with pytest.raises(httpx.ReadTimeout):
                server.client.post("/v1/completions", json=ask, timeout=0.1)
        wait_until(lambda: engine.n_open == 0 and engine.n_running == 0, 1.0)
        assert server.batch.cancelled[1] < 100
        assert server.client.complete("ab", max_tokens=2).json()["choices"][0]["text"] == "ab"


def test_sixteen_clients_at_once_get_their_own_texts_whole():
    with serving(FakeBatch(delay=0.001)) as server:

        def ask(i: int) -> None:
            own, n = f"<client {i}> ", 40 + i
            with httpx.Client(base_url=server.url, timeout=20) as client:
                body = {"model": "tiny", "prompt": own, "max_tokens": n, "stream": i % 2 == 0}
                answer = client.post("/v1/completions", json=body)
                if i % 2:
                    text = answer.json()["choices"][0]["text"]
                else:
                    events = events_of(answer.text)
                    text = "".join(c["text"] for e in events for c in e["choices"])
            assert text == (own * 40)[:n]

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(ask, range(20)))
        assert server.served.find("tiny").engine.n_open == 0


def test_shutting_down_finishes_short_streams_and_ends_long_ones():
    texts: dict[int, str] = {}
    with serving(FakeBatch(delay=0.01), limits=Limits(grace_seconds=0.5)) as server:

        def ask(n: int) -> None:
            with httpx.Client(base_url=server.url, timeout=20) as client:
                body = {"model": "tiny", "prompt": "ab", "max_tokens": n, "stream": True}
                texts[n] = client.post("/v1/completions", json=body).text

        threads = [threading.Thread(target=ask, args=(n,)) for n in (20, 500)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.batch.n_running == 2)
    for thread in threads:
        thread.join(5)
    short, long = events_of(texts[20]), events_of(texts[500])
    assert "".join(c["text"] for e in short for c in e["choices"]) == "ab" * 10
    assert long[-1]["error"]["code"] == "server_shutdown" and len(long) > 10


def test_a_fault_of_ours_tells_nobody_what_it_was(caplog):
    with serving(FakeBatch(error=ValueError("the secret prompt"))) as server:
        error = error_of(server.client.chat("the secret prompt"), 500)
        assert "secret" not in str(error) and error["type"] == "server_error"
        assert server.client.get("/health").status_code == 503
        assert error_of(server.client.chat(), 503)
    assert "ValueError" in caplog.text and "secret" not in caplog.text


def test_metrics_count_requests_tokens_and_guards(client):
    client.chat(max_tokens=3)
    text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['hornbook_tokens_total{kind="written",model="tiny"}']) >= 3
    assert float(lines[f'hornbook_requests_total{{route="{CHAT}",status="200"}}']) >= 1
    assert lines['hornbook_guard_cases_total{guard="phrases"}'] == "0.0"
    assert lines['hornbook_running{model="tiny"}'] == "0.0"


def test_beyond_this_machine_only_with_a_key():
    for host in ("0.0.0.0", "192.168.1.5", "::", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(ConfigError, match="API key"):
            allowed_hosts(host, Keys())
        assert allowed_hosts(host, Keys([KEY])) is None
    assert "127.0.0.1" in allowed_hosts("localhost", Keys())


def test_a_port_in_use_and_an_address_that_is_none():
    with bind("127.0.0.1", 0) as taken, pytest.raises(ConfigError, match="in use"):
        bind("127.0.0.1", taken.getsockname()[1])
    for host in ("203.0.113.7", "no such host", "a" * 80):
        with pytest.raises(ConfigError):
            bind(host, 0)


def test_key_files(tmp_path):
    path = tmp_path / "keys"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(path)
    path.write_text(f"# who may\n\n{KEY}\n  second-key-0123456789  \n")
    path.chmod(0o604)
    with pytest.raises(ConfigError, match="everybody"):
        read_keys(path)
    path.chmod(0o640)
    keys = read_keys(path)
    assert (keys.find(KEY.encode()), keys.find(b"second-key-0123456789")) == (0, 1)
    assert keys.find(b"# who may") is None and keys.find(b"") is None
    for content in (b"", b"# nothing\n", b"short\n", b"a key with spaces 123\n", b"\xff" * 30):
        path.write_bytes(content)
        with pytest.raises(ConfigError) as error:
            read_keys(path)
        assert "a key with" not in str(error.value)


def test_the_places_of_a_split_character_are_its_beginning():
    tokenizer = byte_tokenizer()
    tokens = tokenizer.encode(["aé😀b"], special=False)[0]
    columns = CompletionLogprobs(tokenizer, top=False)
    scored = [Scored(token, tokenizer.spelled(token), -1.0) for token in tokens]
    offsets = [columns.columns([one])["text_offset"][0] for one in scored]
    assert offsets == [0, 1, 1, 2, 2, 2, 2, 3]
