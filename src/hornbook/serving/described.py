"""What the OpenAPI document says of a route beside its answer: its body, and how it refuses."""

from __future__ import annotations

from typing import Any

from hornbook.serving import schemas

Responses = dict[int | str, dict[str, Any]]

_ABOUT = {
    400: "Not possible as asked.",
    401: "No key, or a wrong one.",
    403: "Not the name of this host.",
    404: "There is none of that name.",
    408: "The time is over.",
    409: "It has been saved by somebody else since.",
    413: "The body is too large.",
    415: "Not JSON by its content type.",
    422: "A field is missing, unknown or out of range.",
    429: "Too many requests.",
    503: "Too busy, shutting down, or the disk says no.",
}
ASKED = (401, 403, 429)  # whoever asks for anything
COMMON = (*ASKED, 400, 408, 413, 415, 422)  # and sends a body


def errors(*statuses: int) -> Responses:
    return {s: {"model": schemas.Error, "description": _ABOUT[s]} for s in statuses}


def plain_text() -> Responses:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {200: {"content": content, "description": "Text."}, **errors(*ASKED)}


def takes(body: type[schemas.Body]) -> dict[str, Any]:
    """A body that the route reads by itself, from bytes."""
    shape = {"$ref": f"#/components/schemas/{body.__name__}"}
    content = {"application/json": {"schema": shape}}
    return {"requestBody": {"required": True, "content": content}}
