"""Say that something is being done, where nothing else tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """Say what is being done where that takes more than two seconds; yields a way to say more."""
    from rich.console import Console

    console = Console(stderr=True)

    def say(sentence: str) -> None:
        console.print(f"- {sentence}", markup=False, highlight=False, soft_wrap=True)

    if console.is_terminal:
        with console.status(f"{what} …"):
            yield say
        return
    timer = threading.Timer(2.0, say, [f"{what} …"])
    timer.start()
    try:
        yield say
    finally:
        timer.cancel()
