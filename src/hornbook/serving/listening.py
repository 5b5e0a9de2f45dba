"""Listening for requests, until a signal or a caller ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from hornbook.errors import ConfigError
from hornbook.serving.door import LOOPBACK
from hornbook.serving.keys import Keys
from hornbook.serving.shop import Shop


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def allowed_hosts(host: str, keys: Keys) -> frozenset[str] | None:
    """The names a server there answers to; None: any, as whoever asks needs a key.

    Raises ConfigError where others could reach it and no key would be asked for.
    """
    if not is_loopback(host) and not keys:
        raise ConfigError(
            f"whoever reaches {host} could use this server: there is no API key",
            hint="Give --api-key-file FILE, or leave out --host to stay on this machine.",
        )
    return None if keys else frozenset({*LOOPBACK, host.strip("[]").lower()})


def bind(host: str, port: int) -> socket.socket:
    """Take an address. Raises ConfigError when it is in use, not allowed or not of this machine."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConfigError(f"{host}:{port} is no address: {error}", hint=_TRY) from error
    try:
        if sys.platform != "win32":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is in use",
                hint="Stop what uses it, or take another: --port 8001, or 0 for any that is free.",
            ) from error
        reason = error.strerror or str(error)
        raise ConfigError(f"cannot listen on {host}:{port}: {reason}", hint=_TRY) from error
    listener.setblocking(False)
    return listener


_TRY = "Leave out --host for this machine alone; ports below 1024 need rights."


def url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Connection(H11Protocol):
    """uvicorn's, but it waits for a request's head only so long; it would wait for ever."""

    patience = 20.0  # seconds

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._was_idle = False
        self._look = self.loop.call_later(self.patience, self._look_whether_idle)

    def _look_whether_idle(self) -> None:
        """Close what has been between two requests at two looks, but for uvicorn's keep-alive."""
        idle = self.cycle is None or self.cycle.response_complete
        idle = idle and self.timeout_keep_alive_task is None
        if idle and self._was_idle:
            self.transport.close()
            return
        self._was_idle = idle
        self._look = self.loop.call_later(self.patience / 2, self._look_whether_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """uvicorn's, but what is being written ends in time when the server does.

    The first signal, or `should_exit`, stops taking requests and gives streams grace_seconds; then
    they get an event with an error, and their connections are closed. A second signal ends at once.
    """

    def __init__(self, app: Any) -> None:
        self._shop: Shop = app.state.shop
        grace = self._shop.limits.grace_seconds
        patience = {"patience": self._shop.limits.body_seconds}
        config = uvicorn.Config(
            app,
            http=type("Connection", (_Connection,), patience),
            ws="none",
            lifespan="on",
            loop="asyncio",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(grace) + 5,
        )
        super().__init__(config)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._shop.served.close(0 if self.force_exit else self._shop.limits.grace_seconds)
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn leaves this out then, and logs what it cuts off as a fault
            await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal again: having been told to end is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            self._shop.served.close(0)
        self.should_exit = True


def serve(app: Any, listener: socket.socket) -> None:
    """Answer requests until a signal ends it."""
    asyncio.run(Server(app).serve(sockets=[listener]))


@contextlib.contextmanager
def in_thread(app: Any, *, port: int = 0) -> Iterator[str]:
    """A server of this process, for tests, lessons and measurements. Yields its URL."""
    listener = bind("127.0.0.1", port)
    server = Server(app)
    url = url_of(listener)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), name="server", daemon=True
    )
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.005)
        yield url
    finally:
        server.should_exit = True
        thread.join(30)
