"""How much time each technique gets: the same for all, or shares of a total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean

from hornbook.compare.sources import Source

_MIXER = 0.25  # a technique that mixes others fits little of its own: a quarter of a share
_LEAST = 1.0  # seconds; a technique that cannot use so little says so
_FIRST_GUESS = 4.0  # seconds besides fitting, before any technique has shown what it takes


@dataclass
class Shares:
    """Divides a total among the techniques still to come; what one leaves goes to the others.

    Only fitting is budgeted; starting, saving and scoring take time too, which is foreseen from
    what they took so far.
    """

    total: float
    _besides: list[float] = field(default_factory=list)

    def next(self, waiting: Sequence[Source], elapsed: float) -> float:
        """Seconds for the first of those waiting; `elapsed` seconds of the total are gone."""
        return self.all(waiting, elapsed)[0]

    def all(self, waiting: Sequence[Source], elapsed: float) -> list[float]:
        """Seconds for each of those waiting, if none of them leaves anything."""
        besides = max(_FIRST_GUESS, mean(self._besides)) if self._besides else _FIRST_GUESS
        free = self.total - elapsed - besides * len(waiting)
        weights = [_MIXER if source.runs_last else 1.0 for source in waiting]
        return [max(_LEAST, free * weight / sum(weights)) for weight in weights]

    def spent(self, seconds: float, fitting: float) -> None:
        """A technique finished: it took so many seconds in all, so many of them fitting."""
        self._besides.append(max(0.0, seconds - fitting))
