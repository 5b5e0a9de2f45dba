"""How far a command is, on a line of the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable


def counting(done_to_them: str) -> Callable[[int, int], None]:
    """Tells "12 of 4,000 predicted" of "predicted", to a terminal alone."""

    def told(done: int, n: int) -> None:
        if sys.stderr.isatty():
            end = "\n" if done >= n else ""
            print(f"\r{done:,} of {n:,} {done_to_them}", end=end, file=sys.stderr, flush=True)

    return told
