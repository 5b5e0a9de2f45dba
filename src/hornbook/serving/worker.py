"""One thread that turns texts into results, for those who wait in line: encoders, classifiers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

from hornbook.serving.refusals import busy, closing, expired
from hornbook.serving.turns import Turns

Result = TypeVar("Result")

_AT_ONCE = 32  # texts between two looks at whether anybody still waits


class Worker(Generic[Result]):
    """Calls `function(texts) -> results`, a row a text, for one caller after the other.

    n_open: callers at once, the one being served included.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], Sequence[Result]],
        *,
        n_open: int = 64,
        turns: Turns | None = None,
    ) -> None:
        self._function = function
        self._most = n_open
        self._turns = turns or Turns()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._closed = False
        self.n_open = 0

    @property
    def is_up(self) -> bool:
        return not self._closed

    async def run(self, texts: Sequence[str], *, seconds: float = 300.0) -> list[Result]:
        """The results, in order. Cancelling the caller's task stops the work.

        Raises Refusal: 503 when too many wait, 408 when the time is over.
        """
        if self._closed:
            raise closing()
        if self.n_open >= self._most:
            raise busy(f"{self.n_open} callers wait, of at most {self._most}", retry_after=2)
        stopped = threading.Event()

        def work() -> list[Result]:
            rows: list[Result] = []
            for start in range(0, len(texts), _AT_ONCE):
                if stopped.is_set():
                    break
                some = texts[start : start + _AT_ONCE]
                rows += self._turns.run(partial(self._function, some))
            return rows

        self.n_open += 1
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(self._pool.submit(work))
        except TimeoutError as error:
            raise expired(seconds) from error
        finally:
            stopped.set()
            self.n_open -= 1

    def close(self) -> None:
        """Take nothing more; what waits is given up."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
