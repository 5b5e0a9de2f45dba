"""Learning-rate schedules as functions of progress: 0 at the first step, 1 at the last.

Progress may be counted in steps or in seconds; `Clock` takes whichever is further along, so that a
run sized to a budget ends with its learning rate at the bottom even when the machine slows down.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

Schedule = Callable[[float], float]


def linear(warm_up: float = 0.1, floor: float = 0.0) -> Schedule:
    """Up from 0 over the share `warm_up`, then straight down to `floor` (Devlin et al. 2019)."""
    return lambda p: _warm(p, warm_up) if p < warm_up else 1 - (1 - floor) * _after(p, warm_up)


def cosine(warm_up: float = 0.1, floor: float = 0.1) -> Schedule:
    """Up from 0, then down to `floor` along half a cosine (Loshchilov and Hutter 2017)."""

    def factor(p: float) -> float:
        if p < warm_up:
            return _warm(p, warm_up)
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * _after(p, warm_up)))

    return factor


def warm_up_stable_decay(warm_up: float = 0.02, decay: float = 0.2, floor: float = 0.0) -> Schedule:
    """Up from 0, flat, then straight down to `floor` over the last share `decay`.

    The flat part may be prolonged at will, and every length ends as low as a cosine made for it
    (Zhai et al. 2022, section 3.5; Hu et al. 2024, MiniCPM, section 4; Hägele et al. 2024).
    """
    return lambda p: (
        _warm(p, warm_up) if p < warm_up else 1 - (1 - floor) * max(0.0, _after(p, 1 - decay))
    )


def _warm(p: float, warm_up: float) -> float:
    return max(p, 1e-3) / warm_up


def _after(p: float, warm_up: float) -> float:
    return min(1.0, (p - warm_up) / (1 - warm_up))


SCHEDULES: dict[str, Callable[[float], Schedule]] = {
    "linear": linear,
    "cosine": cosine,
    "warm-up-stable-decay": warm_up_stable_decay,
}


class Clock:
    """Progress by steps or by wall-clock seconds, whichever is further; done at 1.

    spent: seconds that the run took before it was resumed. Only a clock without `seconds` makes
    the same run twice.
    """

    def __init__(
        self, *, n_steps: int | None = None, seconds: float | None = None, spent: float = 0.0
    ) -> None:
        if not n_steps and not seconds:
            raise ValueError("a Clock needs n_steps or seconds")
        self.n_steps, self.seconds = n_steps, seconds
        self._start = time.monotonic() - spent

    @property
    def spent(self) -> float:
        """Seconds since the run began, those before it was resumed included."""
        return time.monotonic() - self._start

    def __call__(self, step: int) -> float:
        """Progress before step number `step` (from 0)."""
        by_steps = step / self.n_steps if self.n_steps else 0.0
        by_time = self.spent / self.seconds if self.seconds else 0.0
        return min(1.0, max(by_steps, by_time))
