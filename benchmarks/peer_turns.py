"""The peer's side of taking turns: what is called at each step of a trainer of transformers or trl.

Apart from `turns`, because the process of ours shall not hold the peer's libraries in its memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

from transformers import TrainerCallback


class TakingTurns(TrainerCallback):
    """Seconds of each turn: of the trainer's steps, and of as many of ours after them.

    ours: seconds of our turns, each taken when it is asked for. turn: steps in one. seconds: of
    ours in all, after which the trainer is stopped too.
    """

    def __init__(self, ours: Iterator[float], turn: int, seconds: float = math.inf) -> None:
        self.ours, self.turn, self.seconds = ours, turn, seconds
        self.turns: list[tuple[float, float]] = []
        self._taken: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> Any:
        self._taken.append(time.perf_counter() - self._start)
        if len(self._taken) == self.turn:
            self.turns.append((sum(self._taken), next(self.ours)))
            self._taken = []
            if sum(ours for _, ours in self.turns) >= self.seconds:
                control.should_training_stop = True
        return control
