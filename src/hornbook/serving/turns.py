"""The thread that computes: everything of one server is computed in it, in order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


class Turns:
    """Engines and encoders take turns in one thread, a step at a time.

    Two that compute at once would each use all the cores, and slow each other by more than half.
    And one thread, not many in turn: each that computes gets a team of helpers from OpenMP, one a
    core, which wait for work by turning round for a moment. As soon as there are more of them than
    cores GNU's lets none turn round any more, and a step of many short products takes 1.6 times as
    long. So models should be opened here too: the main thread's team would be one too many.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="computing")

    def run(self, function: Callable[[], Result]) -> Result:
        """Call it in that thread, after what came before; its result, or its error.

        Don't call it from that thread: it would wait for itself.
        """
        return self._thread.submit(function).result()

    def soon(self, function: Callable[[], None]) -> None:
        """Have it called in that thread, after what came before; not to be waited for."""
        self._thread.submit(function)
