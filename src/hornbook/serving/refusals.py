"""What the server says no to: each refusal knows its HTTP status and OpenAI's names for it."""

from __future__ import annotations

import math
from typing import Any

from hornbook.errors import HornbookError


class Refusal(HornbookError):
    """A request that is not answered.

    status: of HTTP. code: OpenAI's short name, which a client may compare. param: the field that
    is at fault. retry_after: seconds until another try makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.retry_after = retry_after

    @property
    def body(self) -> dict[str, Any]:
        return error_body(self.status, self.message, code=self.code, param=self.param)

    @property
    def headers(self) -> dict[str, str]:
        """Retry-After in whole seconds, and who may authenticate how."""
        found = {}
        if self.retry_after is not None:
            found["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        if self.status == 401:
            found["www-authenticate"] = "Bearer"
        if self.status in (408, 413):  # the rest of the body is not read
            found["connection"] = "close"
        return found


_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}


def error_body(
    status: int, message: str, *, code: str | None, param: str | None = None
) -> dict[str, Any]:
    """An error as OpenAI's clients read it. What is no text in the message becomes "?"."""
    message = message.encode("utf-8", "replace").decode("utf-8")
    kind = _TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def invalid(message: str, *, param: str | None = None, code: str = "invalid_value") -> Refusal:
    """400: understood, but it cannot be done as asked."""
    return Refusal(400, message, code=code, param=param)


def busy(message: str, *, retry_after: float) -> Refusal:
    """503: the queue is full."""
    return Refusal(503, message, code="server_busy", retry_after=retry_after)


def expired(seconds: float) -> Refusal:
    """408: the request's time is over."""
    return Refusal(408, f"not finished within {seconds:g} s", code="deadline_exceeded")


def gone() -> Refusal:
    """499: whoever asked has gone away; nobody reads this."""
    return Refusal(499, "the client has gone away", code="cancelled")


def closing() -> Refusal:
    """503: the server is shutting down."""
    return Refusal(503, "the server is shutting down", code="server_shutdown", retry_after=5)


def failed() -> Refusal:
    """500: a fault of ours; what it was stands in the log."""
    return Refusal(500, "the model failed on this request", code="internal_error")
