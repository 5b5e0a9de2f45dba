"""How much of the server one caller, or all of them, may have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    body_bytes, body_seconds: of a request's body, and for sending it. prompt_tokens, new_tokens:
    of a text, where the model's context holds more. request_seconds: until an answer must be
    whole. n_open: texts being written or waiting, by model; more are told to come back (503).
    per_client: requests of one client at once, and per_minute: in a minute, in bursts of at most a
    quarter of it (429); a client is a key, or an address where there is none. grace_seconds: for
    streams to finish when the server shuts down.
    """

    body_bytes: int = 1 << 20
    body_seconds: float = 20.0
    prompt_tokens: int | None = None
    new_tokens: int = 8192
    request_seconds: float = 300.0
    n_open: int = 72
    per_client: int = 64
    per_minute: int = 3000
    grace_seconds: float = 10.0
