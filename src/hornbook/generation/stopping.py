"""Where a text ends: stops that may lie across the joints of tokens, found as they are written.

A stop is found in any run of things that can be compared, characters as well as token ids:

    stops = Stops([[1, 1, 2]])
    stops.add([1, 1, 1])     # [1] is certain; [1, 1] may be a stop's beginning and is held back
    stops.add([2])           # found: nothing more is given

After a mismatch the search goes on from the longest end that begins the stop as well, not from
nothing: in 1 1 1 2 the stop 1 1 2 begins at the second place (Knuth, Morris and Pratt 1977).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

from hornbook.errors import ConfigError

Item = TypeVar("Item", bound=Hashable)


class Stops(Generic[Item]):
    """Finds the first of several stops. Raises ConfigError for an empty one."""

    def __init__(self, stops: Iterable[Sequence[Item]]) -> None:
        self._patterns = [_Pattern(stop) for stop in stops]
        self._held: list[Item] = []
        self.found = False

    def add(self, items: Iterable[Item]) -> list[Item]:
        """Go on; what is certain to come before any stop. After a stop nothing comes."""
        certain: list[Item] = []
        for item in items:
            if self.found:
                break
            self._held.append(item)
            matched = [pattern.add(item) for pattern in self._patterns]
            n_stop = max(
                (n for n, p in zip(matched, self._patterns, strict=True) if n == len(p.stop)),
                default=0,
            )
            keep = max(matched, default=0)
            if n_stop:
                self.found = True
                keep = n_stop
            n_free = len(self._held) - keep
            certain += self._held[:n_free]
            self._held = [] if self.found else self._held[n_free:]
        return certain

    def end(self) -> list[Item]:
        """What was held back and did not become a stop."""
        rest, self._held = self._held, []
        return rest


class _Pattern(Generic[Item]):
    def __init__(self, stop: Sequence[Item]) -> None:
        if not len(stop):
            raise ConfigError("a stop is empty", hint="Give at least one character.")
        self.stop = list(stop)
        # How long an end of stop[:n] begins the stop as well, for n = 0 ...
        self._shorter = [0, 0]
        for n in range(1, len(self.stop)):
            self._shorter.append(self._next(self._shorter[n], self.stop[n]))
        self._n = 0

    def add(self, item: Item) -> int:
        """How many items of the stop stand at the end now."""
        self._n = self._next(self._n, item)
        return self._n

    def _next(self, n: int, item: Item) -> int:
        while n and (n == len(self.stop) or self.stop[n] != item):
            n = self._shorter[n]
        return n + 1 if self.stop[n] == item else 0
