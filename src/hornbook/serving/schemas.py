"""What is asked and what is answered, in OpenAI's form, read strictly and from bytes.

A body is parsed once, by pydantic's own JSON reader: deep nesting, half surrogates and numbers
beyond all bounds are errors there, never exceptions later. Types are strict ("1" is no number), as
OpenAI's are. Fields that we don't know are ignored, since clients send many that only matter to
OpenAI (`store`, `metadata`, `service_tier`); one that looks like a slip of the pen for a field of
ours (`max_token`) is refused, as to ignore it would be to answer another question.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hornbook.serving.refusals import Refusal

# Fields that clients send and that change nothing here; some look much like one of ours.
IGNORED = {
    *("store", "metadata", "user", "service_tier", "safety_identifier", "verbosity"),
    *("prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "modalities"),
    *("parallel_tool_calls", "prediction", "web_search_options"),
}

_MOST_LOOKED_AT = 32  # unknown fields

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
BiasedToken = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
StopText = Annotated[str, Field(min_length=1, max_length=200)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
# Lists have an end or stop at what is first wrong: an error for each of a million items takes long.
Tokens = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]


class Body(BaseModel):
    """A request's body."""

    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class Part(BaseModel):
    """A part of an answer, or of a request where what is unknown doesn't matter."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class StreamOptions(Part):
    include_usage: bool | None = None


class Sampled(Body):
    """What /v1/chat/completions and /v1/completions share."""

    model: str = Field(description="One of the names that /v1/models lists.")
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[BiasedToken, Bias], Field(max_length=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    n: Annotated[int, Field(ge=1, le=16)] | None = None
    stop: StopText | Annotated[list[StopText], Field(max_length=16)] | None = None
    slide: bool | None = Field(
        None, description="Forget the oldest tokens past the context's end. An addition of ours."
    )


class TextPart(Part):
    type: Literal["text"]
    text: str


class FunctionCall(Part):
    name: str
    arguments: str = Field(description="JSON, as text.")


class ToolCall(Part):
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Part):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | Annotated[list[TextPart], Field(max_length=256)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Message:
        if self.content is None and not self.tool_calls:
            raise ValueError("a message has content, or tool_calls")
        return self


class Function(Part):
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Part):
    type: Literal["function"]
    function: Function


class NamedFunction(Part):
    name: str


class NamedTool(Part):
    type: Literal["function"]
    function: NamedFunction


class TextFormat(Part):
    type: Literal["text"]


class JsonObjectFormat(Part):
    type: Literal["json_object"]


class JsonSchema(Part):
    model_config = ConfigDict(strict=True, extra="ignore", populate_by_name=True)

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Part):
    type: Literal["json_schema"]
    json_schema: JsonSchema


Format = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ChatBody(Sampled):
    messages: Annotated[list[Message], Field(min_length=1, max_length=2000)]
    max_completion_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="The older name of max_completion_tokens."
    )
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: Format | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None


class CompletionBody(Sampled):
    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=64)]
    )
    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        None, description="16 unless given; 0 with echo only scores the prompt."
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = Field(
        None, description="Not supported: these models only write forwards."
    )
    best_of: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None, description="Only as many as n."
    )
    response_format: Format | None = None


class EmbeddingBody(Body):
    model: str
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=2**31 - 1)] | None = Field(
        None, description="Only the model's own."
    )


class ClassifyBody(Body):
    model: str
    input: str | Annotated[list[str], Field(min_length=1, max_length=2048)]


# What is answered. Routes write it by hand, as it is written once a token; these are its contract.


class Cached(Part):
    cached_tokens: int


class Usage(Part):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int
    prompt_tokens_details: Cached | None = None


class Alternative(Part):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenLogprob(Alternative):
    top_logprobs: list[Alternative]


class ChatLogprobs(Part):
    content: list[TokenLogprob]


class Answer(Part):
    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] | None = None


Finish = Literal["stop", "length", "tool_calls", "content_filter"]


class ChatChoice(Part):
    index: int
    message: Answer
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatCompletion(Part):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(Part):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class CompletionChoice(Part):
    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish


class Completion(Part):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class Embedding(Part):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Embeddings(Part):
    object: Literal["list"]
    model: str
    data: list[Embedding]
    usage: Usage


class LabelScore(Part):
    label: str
    score: float


class Classified(Part):
    index: int
    labels: list[LabelScore]
    predicted: list[str]


class Classification(Part):
    object: Literal["list"]
    model: str
    data: list[Classified]


class ModelRow(Part):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    capabilities: list[Literal["chat", "completions", "embeddings", "classify"]]
    context_length: int | None = None


class ModelList(Part):
    object: Literal["list"]
    data: list[ModelRow]
    keeps_texts: bool = Field(False, description="Whether there is /v1/texts. An addition of ours.")


class Health(Part):
    status: Literal["ok", "failing"]
    models: dict[str, str]


class ErrorBody(Part):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(Part):
    error: ErrorBody


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(kind: type[AnyBody], data: bytes) -> AnyBody:
    """Parse a body. Raises Refusal: 400 for what is no JSON, 422 for what does not fit."""
    try:
        body = kind.model_validate_json(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise refusal(found) from error
    known = [name for name in kind.model_fields if len(name) > 3]
    for name in islice(body.model_extra or (), _MOST_LOOKED_AT):
        close = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.85)
        if close and name not in IGNORED:
            raise Refusal(
                422,
                f"there is no field '{name[:64]}'; did you mean '{close[0]}'?",
                code="unknown_field",
                param=name[:64],
            )
    return body


def refusal(found: Sequence[Any]) -> Refusal:
    """The first thing that is wrong, by the field's path; never the value, which may be huge."""
    first = found[0]
    if first["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {first['msg']}"[:300], code="invalid_json")
    path = ".".join(str(step)[:64] for step in first["loc"][:8])
    at = f"{path}: " if path else ""
    message = at + first["msg"].removeprefix("Value error, ")
    return Refusal(422, message[:500], code="invalid_value", param=path or None)
