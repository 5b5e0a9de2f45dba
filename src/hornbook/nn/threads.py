"""One thread or all: what is faster just now, found by trying.

Threads that share each small product wait for each other a hundred times a step. Where another
program has one of the cores, that costs many times what the second thread brings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

N_TRIED = 4  # steps with each number; their sum counts, as it is the slow ones that tell
N_KEPT = 128  # steps until the next trial


class Threads:
    """Around a step that is taken again and again: `with threads.step(size): ...`"""

    def __init__(self) -> None:
        self._n_taken = 0
        self._size = 0
        self._seconds: dict[int, float] = {}

    @contextmanager
    def step(self, size: int) -> Iterator[None]:
        """size: how much there is to do; a trial begins anew where it changes."""
        n = torch.get_num_threads()
        if n == 1:
            yield
            return
        trial = self._n_taken < 2 * N_TRIED
        if self._n_taken == 0 or (trial and size != self._size):
            self._n_taken, self._size, self._seconds = 0, size, {}
        if trial:
            chosen = n if self._n_taken < N_TRIED else 1
        else:
            chosen = min(self._seconds, key=self._seconds.__getitem__)
        self._n_taken = (self._n_taken + 1) % (2 * N_TRIED + N_KEPT)
        if chosen != n:
            torch.set_num_threads(chosen)
        start = time.perf_counter()
        try:
            yield
        finally:
            if trial:
                seconds = time.perf_counter() - start
                self._seconds[chosen] = self._seconds.get(chosen, 0.0) + seconds
            if chosen != n:
                torch.set_num_threads(n)
