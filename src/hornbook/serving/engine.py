"""The engine: a batch stepped again and again; async callers get what it writes, each their own.

    submit -> inbox -> Batch.add          waits there for a slot
                       Batch.step         a token more for everybody, again and again
    Stream <- one call into each event loop, with all that its callers get

A text's first piece and its end are told at once, what lies between at most every `PAUSE`: a small
model steps more often than eyes can follow, and each event of each stream is a call of the system.

A request counts as open from submit to its last piece; so many may be open, no more. Only the
thread that computes (`serving.turns`) touches the batch: a round there makes a step, and asks for
the next round as long as there is work. What the callers want of it (cancel, close) lies in the
inbox, and is done before the next step.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from hornbook.errors import HornbookError
from hornbook.generation.request import Piece, Request
from hornbook.serving.refusals import Refusal, busy, closing, expired, failed, gone, invalid
from hornbook.serving.turns import Turns

log = logging.getLogger(__name__)

PAUSE = 0.05  # seconds

Event = tuple[int, Piece]  # which of the stream's requests, and what was added to it


class Steps(Protocol):
    """What the engine needs of a batch; `generation.batch.Batch` is one."""

    @property
    def n_running(self) -> int: ...
    @property
    def n_waiting(self) -> int: ...
    def add(self, request: Request) -> int: ...
    def cancel(self, id: int) -> None: ...
    def step(self) -> list[Piece]: ...


class Stream:
    """What the requests of one caller write: `async for events in stream` until all have finished.

    Each round gives everything that has come since the last, so that a slow reader catches up in
    one go. Raises the Refusal or the error that ended it. `cancel` may be called at any time.
    """

    def __init__(self, engine: Engine, n_requests: int, seconds: float) -> None:
        self._engine = engine
        self.loop = asyncio.get_running_loop()
        self.seconds = seconds
        self.ends_at = time.monotonic() + seconds
        self.has_begun = False  # the engine's note
        self._events: list[Event] = []
        self._n_left = n_requests
        self._error: HornbookError | None = None
        self._ready = asyncio.Event()

    def cancel(self) -> None:
        """Stop writing: the slots are free before the next step."""
        if self._n_left and self._error is None:
            self._engine.cancel(self)

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> list[Event]:
        while not self._events:
            if not self._n_left:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._error
            self._ready.clear()
            await self._ready.wait()
        events, self._events = self._events, []
        return events

    def receive(self, item: Event | HornbookError) -> None:
        """Called in the event loop, by the engine."""
        if isinstance(item, HornbookError):
            self._error = item
        else:
            self._events.append(item)
            self._n_left -= item[1].finish is not None
        self._ready.set()


class Engine:
    """Owns a batch. n_open: requests at once, running and waiting together.

    on_step is called after each step, in its thread, with its seconds and pieces.
    """

    def __init__(
        self,
        batch: Steps,
        *,
        n_open: int = 72,
        turns: Turns | None = None,
        on_step: Callable[[float, Sequence[Piece]], None] = lambda seconds, pieces: None,
    ) -> None:
        self._batch = batch
        self._most = n_open
        self._turns = turns or Turns()
        self.on_step = on_step
        self._guard = threading.RLock()  # a handler of signals may close in the midst of anything
        self._has_round = False  # one is under way, or asked for
        self._ended = threading.Event()
        self._inbox: deque[Callable[[], None]] = deque()
        self._n_open = 0
        self._mean_seconds = 1.0  # of a request: how long one who is turned away should wait
        self._closes_at: float | None = None
        self.is_broken = False
        # Of the rounds alone: whose request an id is, and when it came.
        self._owners: dict[int, tuple[Stream, int, float]] = {}
        self._out: list[tuple[Stream, Event | HornbookError]] = []
        self._is_urgent = False
        self._told_at = 0.0

    @property
    def n_open(self) -> int:
        return self._n_open

    @property
    def n_running(self) -> int:
        return self._batch.n_running

    @property
    def n_waiting(self) -> int:
        return max(0, self._n_open - self._batch.n_running)

    @property
    def is_up(self) -> bool:
        return not self.is_broken and self._closes_at is None

    def submit(self, requests: Sequence[Request], *, seconds: float = 300.0) -> Stream:
        """Have texts written, within so many seconds. Call it in an event loop.

        Raises Refusal: 503 when the queue is full, or the server is shutting down or broken; 400
        for more requests than it can ever hold.
        """
        if len(requests) > self._most:
            raise invalid(f"{len(requests)} texts are asked for at once, of at most {self._most}")
        stream = Stream(self, len(requests), seconds)
        with self._guard:
            if self._closes_at is not None:
                raise closing()
            if self.is_broken:
                raise Refusal(503, "the model has failed", code="model_failed", retry_after=60)
            if self._n_open + len(requests) > self._most:
                raise busy(
                    f"{self._n_open} requests are open, of at most {self._most}",
                    retry_after=self._mean_seconds,
                )
            self._n_open += len(requests)
            self._inbox.append(lambda: self._add(stream, requests))
            self._ask_for_round()
        return stream

    def cancel(self, stream: Stream) -> None:
        """End a stream; it raises a Refusal. Safe from any thread."""
        with self._guard:
            self._inbox.append(lambda: self._end(stream, gone()))
            self._ask_for_round()

    def close(self, grace: float = 0.0) -> None:
        """Take nothing more; streams have `grace` seconds to finish. Returns at once."""
        with self._guard:
            ends = time.monotonic() + grace
            self._closes_at = min(ends, self._closes_at or ends)
            self._ask_for_round()

    def join(self, seconds: float = 10.0) -> bool:
        """Wait until the last round has ended, after `close`. Whether it has."""
        return self._ended.wait(seconds)

    def _ask_for_round(self) -> None:
        """With the guard held."""
        if not self._has_round:
            self._has_round = True
            self._turns.soon(self._round)

    # What follows runs in the thread that computes.

    def _round(self) -> None:
        try:
            with self._guard:
                todo, self._inbox = self._inbox, deque()
            for action in todo:
                action()
            self._end_late()
            if self._has_work:
                self._step()
            self._deliver()
        except BaseException as error:  # a fault of this page: nobody may wait for ever
            log_fault(error)
            self._give_up()
            self._deliver()
        finally:
            with self._guard:
                self._has_round = False
                if self._inbox or self._has_work:
                    self._ask_for_round()
                elif self._closes_at is not None:
                    self._ended.set()

    @property
    def _has_work(self) -> bool:
        return bool(self._owners or self._batch.n_running or self._batch.n_waiting)

    def _add(self, stream: Stream, requests: Sequence[Request]) -> None:
        try:
            for index, request in enumerate(requests):
                self._owners[self._batch.add(request)] = (stream, index, time.monotonic())
        except HornbookError as error:
            missing = len(requests) - index
            self._end(stream, error)
            self._forget(missing)
        except Exception as error:
            missing = len(requests) - index
            log_fault(error)
            self._end(stream, failed())
            self._forget(missing)

    def _step(self) -> None:
        start = time.perf_counter()
        try:
            pieces = self._batch.step()
        except BaseException as error:  # whatever it is (a panic of Rust's is no Exception)
            log_fault(error)
            self._give_up()
            return
        self.on_step(time.perf_counter() - start, pieces)
        for piece in pieces:
            if piece.request not in self._owners:
                continue  # cancelled in the meantime
            stream, index, came = self._owners[piece.request]
            self._out.append((stream, (index, piece)))
            self._is_urgent |= piece.finish is not None or not stream.has_begun
            stream.has_begun = True
            if piece.finish is not None:
                del self._owners[piece.request]
                self._mean_seconds += 0.1 * (time.monotonic() - came - self._mean_seconds)
                self._forget(1)

    def _end_late(self) -> None:
        now = time.monotonic()
        streams = {id(stream): stream for stream, _, _ in self._owners.values()}
        for stream in streams.values():
            if now >= stream.ends_at:
                self._end(stream, expired(stream.seconds))
            elif self._closes_at is not None and now >= self._closes_at:
                self._end(stream, closing())

    def _end(self, stream: Stream, error: HornbookError) -> None:
        mine = [i for i, (owner, _, _) in self._owners.items() if owner is stream]
        for i in mine:
            del self._owners[i]
            self._batch.cancel(i)
        self._forget(len(mine))
        self._out.append((stream, error))
        self._is_urgent = True

    def _give_up(self) -> None:
        """A step failed: end everything; go on if the batch can still be emptied."""
        streams = {id(stream): stream for stream, _, _ in self._owners.values()}
        for stream in streams.values():
            self._out.append((stream, failed()))
            self._is_urgent = True
        ids = list(self._owners)
        self._owners.clear()
        self._forget(len(ids))
        try:
            for i in ids:
                self._batch.cancel(i)
            self._batch.step()
            self.is_broken = self._batch.n_running > 0
        except BaseException as error:
            log_fault(error)
            self.is_broken = True

    def _forget(self, n: int) -> None:
        with self._guard:
            self._n_open -= n

    def _deliver(self) -> None:
        now = time.monotonic()
        if not self._out or not (self._is_urgent or now - self._told_at >= PAUSE):
            return
        self._told_at, self._is_urgent = now, False
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event | HornbookError]]] = {}
        for item in self._out:
            by_loop.setdefault(item[0].loop, []).append(item)
        self._out = []
        for loop, items in by_loop.items():
            try:
                loop.call_soon_threadsafe(_receive, items)
            except RuntimeError:  # the loop is closed: its callers are no more
                for stream in {id(s): s for s, _ in items}.values():
                    self._end(stream, gone())
                self._out = []


def _receive(items: Sequence[tuple[Stream, Event | HornbookError]]) -> None:
    for stream, item in items:
        stream.receive(item)


def log_fault(error: BaseException) -> None:
    """Type and place of a fault; its text could quote a prompt."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "?"
    log.error("the model failed: %s at %s", type(error).__name__, place)
