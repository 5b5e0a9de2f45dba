"""OpenAI's own client against this server: what a user's program will do."""

from __future__ import annotations

import json
import time

import jsonschema
import openai
import pytest
from fake_batch import FakeBatch
from small_server import serving
from tiny_model import add_tiny_model

from hornbook.serving.app import create_app
from hornbook.serving.keys import Keys
from hornbook.serving.limits import Limits
from hornbook.serving.listening import in_thread
from hornbook.serving.served import Served

KEY = "a-key-of-this-test-0123456789"
ASK = [{"role": "user", "content": "What is 2 and 3?"}]
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}


def client_of(url: str, key: str = "none", **settings) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, **settings)


@pytest.fixture(scope="module")
def tiny():
    """A client of a real model with random weights: bytes in, bytes out."""
    served = Served()
    add_tiny_model(served)
    with in_thread(create_app(served)) as url, client_of(url) as client:
        yield client


def test_a_key_right_and_wrong():
    with serving(keys=Keys([KEY])) as server:
        names = [model.id for model in client_of(server.url, KEY).models.list()]
        assert names == ["tiny", "plain", "vowels", "loud"]
        with pytest.raises(openai.AuthenticationError) as error:
            client_of(server.url, KEY[:-1]).models.list()
        assert error.value.code == "invalid_api_key"


def test_streaming_with_usage(tiny):
    stream = tiny.chat.completions.create(
        model="tiny",
        messages=ASK,
        max_completion_tokens=12,
        seed=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = tiny.chat.completions.create(
        model="tiny", messages=ASK, max_completion_tokens=12, seed=3
    )
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage.model_copy(
        update={"prompt_tokens_details": chunks[-1].usage.prompt_tokens_details}
    )
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_an_answer_without_chance_is_read_as_one_with_a_seed(tiny):
    def used(**settings) -> int:
        ask = {"model": "tiny", "prompt": "a sentence to be read", "max_tokens": 2, **settings}
        tiny.completions.create(**ask)
        details = tiny.completions.create(**ask).usage.prompt_tokens_details
        return details.cached_tokens if details else 0

    assert used(temperature=1.0) > 0  # what another request has read may be taken
    assert used(temperature=0.0) == 0  # a part of a chunk is not read as the whole was


def test_the_same_seed_writes_the_same_n_texts(tiny):
    def texts(seed: int) -> list[str]:
        found = tiny.completions.create(model="tiny", prompt="a", n=3, max_tokens=8, seed=seed)
        return [choice.text for choice in found.choices]

    assert texts(1) == texts(1) != texts(2)
    assert len(set(texts(1))) == 3


def test_a_stop_text_ends_the_answer(tiny):
    free = tiny.completions.create(model="tiny", prompt="go", max_tokens=40, temperature=0)
    stop = free.choices[0].text[7:10]
    cut = tiny.completions.create(
        model="tiny", prompt="go", max_tokens=40, temperature=0, stop=[stop]
    )
    assert cut.choices[0].text == free.choices[0].text[: free.choices[0].text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_logprobs_are_those_of_the_model(tiny):
    found = tiny.chat.completions.create(
        model="tiny", messages=ASK, max_tokens=3, temperature=0, logprobs=True, top_logprobs=4
    )
    for token in found.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 4
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)
    scored = tiny.completions.create(
        model="tiny", prompt="abcd", max_tokens=0, echo=True, logprobs=0
    )
    assert [p is None for p in scored.choices[0].logprobs.token_logprobs] == [True] + [False] * 3


def test_json_of_a_schema_always_validates(tiny):
    schema = {
        "type": "object",
        "properties": {
            "kind": {"enum": ["cat", "dog"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 30},
            "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
        },
        "required": ["kind", "age", "tags"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "pet", "schema": schema}}
    found = tiny.chat.completions.create(
        model="tiny", messages=ASK, response_format=form, n=4, seed=0, max_tokens=200
    )
    for choice in found.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), schema)
    cut = tiny.chat.completions.create(
        model="tiny", messages=ASK, response_format=form, max_tokens=5
    )
    assert cut.choices[0].finish_reason == "length"


def test_a_schema_that_cannot_be_met_is_refused(tiny):
    for schema in (
        {"type": "integer", "minimum": 5, "maximum": 1},
        {"type": "no such type"},
        {"$ref": "#/nowhere"},
        {"const": "x" * 200_000},
    ):
        form = {"type": "json_schema", "json_schema": {"name": "none", "schema": schema}}
        with pytest.raises(openai.BadRequestError) as error:
            tiny.chat.completions.create(model="tiny", messages=ASK, response_format=form)
        assert error.value.code == "invalid_schema"


def test_a_required_tool_is_called_with_fitting_arguments(tiny):
    for choice in ("required", {"type": "function", "function": {"name": "add"}}):
        found = tiny.chat.completions.create(
            model="tiny", messages=ASK, tools=[ADD], tool_choice=choice, max_tokens=200, seed=1
        )
        assert found.choices[0].finish_reason == "tool_calls"
        (call,) = found.choices[0].message.tool_calls
        assert call.function.name == "add"
        jsonschema.validate(json.loads(call.function.arguments), ADD["function"]["parameters"])


CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n</tool_call>'


@pytest.fixture(scope="module")
def scripted():
    """A server whose model says what its batch's script says."""
    with serving() as server, client_of(server.url) as client:
        yield server.batch, client


@pytest.mark.parametrize(
    ("script", "content", "n_calls"),
    [
        (CALL, None, 1),
        ("I add. " + CALL + CALL, "I add.", 2),
        ('{"name": "add", "parameters": {"a": 2, "b": 3}}', None, 1),
        ('<tool_call>[{"name": "add", "arguments": {"a": 2, "b": 3}}]</tool_call>', None, 1),
        ("no < tool at all", "no < tool at all", 0),
        ('{"name": "steal", "arguments": {}}', '{"name": "steal", "arguments": {}}', 0),
        ("<tool_call>broken</tool_call>", "<tool_call>broken</tool_call>", 0),
        (" ", " ", 0),
    ],
)
def test_tool_calls_in_a_template_s_form(scripted, script, content, n_calls):
    batch, client = scripted
    batch.script = script
    ask = {"model": "tiny", "messages": ASK, "tools": [ADD], "max_tokens": 300}
    message = client.chat.completions.create(**ask).choices[0].message
    assert message.content == content
    calls = message.tool_calls or []
    assert [call.function.name for call in calls] == ["add"] * n_calls
    assert all(json.loads(c.function.arguments) == {"a": 2, "b": 3} for c in calls)
    chunks = [c.choices[0] for c in client.chat.completions.create(**ask, stream=True)]
    said = "".join(c.delta.content or "" for c in chunks)
    assert said.rstrip() == (content or "").rstrip()
    streamed = [call for c in chunks for call in c.delta.tool_calls or []]
    assert [call.function.name for call in streamed] == ["add"] * n_calls
    assert chunks[-1].finish_reason == ("tool_calls" if n_calls else "stop")


def test_a_conversation_with_a_tool_s_answer(tiny):
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "5"}]},
    ]
    found = tiny.chat.completions.create(model="tiny", messages=messages, max_tokens=2)
    assert found.usage.completion_tokens <= 2


def test_errors_have_the_client_s_types(tiny):
    with pytest.raises(openai.NotFoundError) as missing:
        tiny.chat.completions.create(model="gpt-4", messages=ASK)
    assert missing.value.code == "model_not_found" and missing.value.param == "model"
    with pytest.raises(openai.UnprocessableEntityError):
        tiny.chat.completions.create(model="tiny", messages=ASK, temperature=5)
    with pytest.raises(openai.BadRequestError) as long:
        tiny.completions.create(model="tiny", prompt="a" * 600)
    assert long.value.code == "context_length_exceeded"


def test_the_client_s_time_out_frees_the_slot():
    with serving(FakeBatch(delay=0.01)) as server:
        engine = server.served.find("tiny").engine
        with client_of(server.url, timeout=0.15) as client, pytest.raises(openai.APITimeoutError):
            client.completions.create(model="tiny", prompt="a", max_tokens=400)
        with client_of(server.url) as client:
            stream = client.completions.create(
                model="tiny", prompt="a", max_tokens=400, stream=True
            )
            next(iter(stream))
            stream.close()
        end = time.monotonic() + 1
        while engine.n_open:
            assert time.monotonic() < end
            time.sleep(0.005)


def test_an_error_in_the_middle_of_a_stream_is_raised():
    limits = Limits(request_seconds=0.15)
    with serving(FakeBatch(delay=0.02), limits=limits) as server, client_of(server.url) as client:
        stream = client.chat.completions.create(
            model="tiny", messages=ASK, stream=True, max_tokens=400
        )
        with pytest.raises(openai.APIError, match="not finished"):
            list(stream)


def test_embeddings(shared):
    with client_of(shared.url) as client:
        found = client.embeddings.create(model="vowels", input=["a", "e"])
    assert [len(row.embedding) for row in found.data] == [5, 5]
