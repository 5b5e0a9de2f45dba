"""The thread that computes: everything of one server is computed in it, in order of arrival."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class Turns:
    """Engines and encoders take turns in one thread, a step at a time.

    Two that compute at once would each use all the cores, and slow each other by more than half.
    And one thread, not many in turn: each that computes gets a team of helpers from OpenMP, one a
    core, which wait for work by turning round for a moment. As soon as there are more of them than
    cores GNU's lets none turn round any more, and a step of many short products takes 1.6 times as
    long. So models should be opened here too: the main thread's team would be one too many.

    `SimpleQueue`, as a handler of signals may put something in; a daemon, as what has been
    interrupted doesn't wait for the end of a step.
    """

    def __init__(self) -> None:
        self._line: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        threading.Thread(target=_work, args=(self._line,), name="computing", daemon=True).start()
        self._end = weakref.finalize(self, self._line.put, None)

    def run(self, function: Callable[[], Result]) -> Result:
        """Call it in that thread, after what came before; its result, or its error.

        Don't call it from that thread: it would wait for itself.
        """
        return self._put(function).result()

    def soon(self, function: Callable[[], None]) -> None:
        """Have it called in that thread, after what came before. It sees to its own errors."""
        self._put(function)

    def close(self) -> None:
        """End the thread after what stands in line; nothing that comes later is called."""
        self._end()

    def _put(self, function: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        self._line.put((future, function))
        return future


def _work(line: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (turn := line.get()) is not None:
        future, function = turn
        try:
            future.set_result(function())
        except BaseException as error:  # whoever waits gets it, whatever it is
            future.set_exception(error)
        del turn, future, function  # nothing is kept until the next comes
