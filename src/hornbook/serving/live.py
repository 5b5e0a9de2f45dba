"""An answer that is being written, for as long as the client is there to read it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hornbook.errors import HornbookError
from hornbook.serving.engine import Stream
from hornbook.serving.refusals import Refusal, error_body, gone

Result = TypeVar("Result")

DONE = b"data: [DONE]\n\n"
_STALLED = 60.0  # seconds, beyond the answer's own, that a client may take to read it


def event(content: dict[str, Any]) -> bytes:
    """A server-sent event. Half an emoji, which is no text, becomes "?"."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return b"data: " + text.encode("utf-8", "replace") + b"\n\n"


class Live(Response):
    """Sends chunks as they come, and cancels the stream when the client goes away.

    The status is sent with the first chunk: what goes wrong before is an error with its status;
    what goes wrong later is an event with an error, the last one.
    """

    def __init__(
        self, stream: Stream, chunks: AsyncIterator[bytes], *, events: bool, request_id: str
    ) -> None:
        self._stream, self._chunks, self._events = stream, chunks, events
        self.status_code = 200
        self.background = None
        self.media_type = "text/event-stream" if events else "application/json"
        buffering = {"x-accel-buffering": "no"} if events else {}  # of a proxy before this server
        self.init_headers({"x-request-id": request_id} | buffering)
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self._stream.seconds + _STALLED):
                with _watched(receive, self._stream.cancel):
                    await self._send_all(send)
        except TimeoutError:
            raise gone() from None
        finally:
            self._stream.cancel()

    async def _send_all(self, send: Send) -> None:
        chunk = await anext(self._chunks)
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        try:
            while True:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
                chunk = await anext(self._chunks)
        except StopAsyncIteration:
            chunk = b""
        except HornbookError as error:
            chunk = event(_error_of(error)) + DONE
        await send({"type": "http.response.body", "body": chunk})


def _error_of(error: HornbookError) -> dict[str, Any]:
    if isinstance(error, Refusal):
        return error.body
    return error_body(400, error.message, code="invalid_value")


@contextmanager
def _watched(receive: Receive, when_gone: Callable[[], object]) -> Iterator[None]:
    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        when_gone()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


async def while_there(request: Request, work: Awaitable[Result]) -> Result:
    """The result of some work, which is cancelled when the client goes away."""
    task = asyncio.ensure_future(work)
    with _watched(request.receive, task.cancel):
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise  # not the client, but the server that stops
            raise gone() from None
        finally:
            task.cancel()
