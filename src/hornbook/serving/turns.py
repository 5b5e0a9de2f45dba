"""Several threads that compute, one at a time, in order of arrival."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """A fair lock. `threading.Lock` isn't: a loop that gives it back and takes it again keeps it.

    The engines and encoders of one server share the processor by it, a step at a time: two that
    compute at once would each use all the cores, and slow each other by more than half.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._line: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        mine = threading.Lock()
        mine.acquire()
        with self._guard:
            self._line.append(mine)
            first = len(self._line) == 1
        if not first:
            mine.acquire()  # given back by the one before

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._guard:
            self._line.popleft()
            if self._line:
                self._line[0].release()
