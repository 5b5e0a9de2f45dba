"""The door: what every request passes before any route sees it.

Host, key, rate, size and time of the body, in this order, so that a stranger can make the server do
as little as possible; then the headers of every answer. Plain ASGI, as it is passed once a token.

- On loopback without keys, only requests that name this machine as their host are let in: the page
  of somebody else, whose name was made to point here (DNS rebinding), names its own.
- Bodies must be JSON by their content type. A foreign page can't send such without asking first
  (CORS), and is never told yes.
- What goes wrong inside ends as OpenAI's error with status 500; the log gets its type and place.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from hornbook.serving.engine import log_fault
from hornbook.serving.keys import Keys
from hornbook.serving.limits import Limits
from hornbook.serving.refusals import Refusal

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
N_CLIENTS = 10_000  # remembered at once

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
]
_NO_STORE = (b"cache-control", b"no-store")


class _Client:
    """What one client has used: a bucket that fills by the minute, and requests at once."""

    def __init__(self, burst: float) -> None:
        self.left, self.seen, self.n_open = burst, time.monotonic(), 0


class Door:
    """ASGI middleware. hosts: names that requests may call this server by; None: any.

    observe is called with (method, path, status, seconds) when an answer has ended.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        *,
        limits: Limits,
        keys: Keys,
        hosts: frozenset[str] | None,
        observe: Callable[[Scope, int, float], None],
    ) -> None:
        self._app, self._limits, self._keys = app, limits, keys
        self._hosts, self._observe = hosts, observe
        self._clients: OrderedDict[object, _Client] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, begun = time.perf_counter(), 500, False
        private = is_private(scope["path"])

        async def answer(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                ours = [*_HEADERS, _NO_STORE] if private else _HEADERS
                message["headers"] = given + [h for h in ours if h[0] not in names]
            await send(message)

        client = None
        try:
            headers = dict(scope["headers"])
            self._check_host(headers)
            if private:
                client = self._admit(scope, headers)
            receive = await self._body(scope, headers, receive)
            await self._app(scope, receive, answer)
        except Refusal as refusal:
            await _refuse(answer, refusal, begun)
        except Exception as error:
            log_fault(error)
            fault = Refusal(500, "a fault of the server", code="internal_error")
            await _refuse(answer, fault, begun)
        finally:
            if client is not None:
                client.n_open -= 1
            self._observe(scope, status, time.perf_counter() - start)

    def _check_host(self, headers: dict[bytes, bytes]) -> None:
        if self._hosts is None:
            return
        given = headers.get(b"host", b"").decode("latin-1").lower()
        name = given[1:].partition("]")[0] if given.startswith("[") else given.partition(":")[0]
        if name not in self._hosts:
            raise Refusal(403, "this server is not known by that host name", code="unknown_host")

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> _Client:
        """Whose request this is, counted in. Raises Refusal 401 or 429."""
        who: object = (scope.get("client") or ("", 0))[0]
        if self._keys:
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            key = self._keys.find(given.strip()) if scheme.lower() == b"bearer" else None
            if key is None:
                self._spend(("stranger", who))  # so that guessing is slow
                raise Refusal(401, "the API key is missing or wrong", code="invalid_api_key")
            who = key
        client = self._spend(who)
        if client.n_open >= self._limits.per_client:
            raise Refusal(
                429,
                f"{client.n_open} of your requests are open, of at most {self._limits.per_client}",
                code="too_many_requests",
                retry_after=1,
            )
        client.n_open += 1
        return client

    def _spend(self, who: object) -> _Client:
        rate = self._limits.per_minute / 60
        burst = max(1.0, self._limits.per_minute / 4)
        client = self._clients.pop(who, None) or _Client(burst)
        self._clients[who] = client
        if len(self._clients) > N_CLIENTS:
            oldest = next((w for w, c in self._clients.items() if not c.n_open), who)
            del self._clients[oldest]
        now = time.monotonic()
        client.left = min(burst, client.left + (now - client.seen) * rate)
        client.seen = now
        if client.left < 1:
            raise Refusal(
                429,
                f"more than {self._limits.per_minute} requests a minute",
                code="rate_limit_exceeded",
                retry_after=math.ceil((1 - client.left) / rate),
            )
        client.left -= 1
        return client

    async def _body(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        """Read the body within its bounds; what is returned gives it, then what comes after."""
        most = self._limits.body_bytes
        too_large = Refusal(
            413, f"the body is larger than {most:,} bytes", code="request_too_large"
        )
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > most:
            raise too_large
        parts, size, more = [], 0, True
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(499, "the client has gone away", code="cancelled")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    more = message.get("more_body", False)
                    if size > most:
                        raise too_large
        except TimeoutError as error:
            seconds = self._limits.body_seconds
            raise Refusal(
                408, f"the body did not come within {seconds:g} s", code="request_timeout"
            ) from error
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if scope["method"] == "POST" and kind != b"application/json":
            raise Refusal(
                415, "the content type must be application/json", code="unsupported_media_type"
            )
        whole: Message | None = {"type": "http.request", "body": b"".join(parts)}

        async def replay() -> Message:
            nonlocal whole
            if whole is None:
                return await receive()
            message, whole = whole, None
            return message

        return replay


def is_private(path: str) -> bool:
    """Whether a path needs a key, where there are keys; pages and /health do not."""
    return path.startswith("/v1/") or path == "/metrics"


async def _refuse(send: Send, refusal: Refusal, begun: bool) -> None:
    if begun:  # too late to say so: what ends without an end is cut
        return
    content = json.dumps(refusal.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content))}
    raw = [(k.encode(), v.encode()) for k, v in (headers | refusal.headers).items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
    await send({"type": "http.response.body", "body": content})
