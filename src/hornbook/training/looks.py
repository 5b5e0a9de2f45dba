"""When a run looks at its validation part: so often in all, and not for more than its time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LEARNING = 10  # times as long as the last look took, before the next


class Counted(Protocol):
    """Where a run stands. n_evaluations: passed or made, of those that were asked for."""

    n_evaluations: int


class Looks:
    """`n_wanted` looks, spread over a run. timed: its length is in seconds, which a look takes too:
    one that is due is left out where it would eat the time for learning."""

    def __init__(self, n_wanted: int, *, timed: bool) -> None:
        self.n_wanted, self.timed = n_wanted, timed
        self._last, self._took = time.monotonic(), 0.0

    def is_due(self, share: float, progress: Counted) -> bool:
        """Whether to look when this share of the run is done; counts those that are passed."""
        if self.timed and time.monotonic() - self._last < LEARNING * self._took:
            return False
        passed = int(share * self.n_wanted)
        due = passed > progress.n_evaluations
        progress.n_evaluations = passed
        return due

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Around a look."""
        began = time.monotonic()
        yield
        self._last = time.monotonic()
        self._took = self._last - began
