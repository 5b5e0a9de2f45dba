"""What a technique costs: processor time, latency, energy.

Energy is codecarbon's, by its offline tracker: no request leaves the machine. It runs in the parent
process and follows the worker, so that it neither slows nor weighs down what it measures, and a
worker that is killed is counted too.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.training.emissions import Energy, add_row, country, source_of, tracker_of


def cpu_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def latencies(
    call: Callable[[Any], object], items: Sequence[Any], *, seconds: float = 3.0, most: int = 50
) -> np.ndarray:
    """Milliseconds of single calls, (n,): up to `most` items or `seconds`, after one to warm up."""
    call(items[0])
    taken: list[float] = []
    end = time.perf_counter() + seconds
    for item in items[:most]:
        start = time.perf_counter()
        call(item)
        taken.append((time.perf_counter() - start) * 1e3)
        if time.perf_counter() > end:
            break
    return np.array(taken)


class EnergyMeter:
    """Measures one stretch after another and adds a row for each to emissions.csv.

    HORNBOOK_COUNTRY, a three-letter code such as DEU, says how clean the electricity is; the
    world's average is taken without it. Raises ConfigError for an unknown one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._country = country()
        self._tracker: Any = None
        # Looking at the hardware takes codecarbon two seconds, once: meanwhile the study begins.
        self._warm = threading.Thread(target=self._warm_up, daemon=True)
        self._warm.start()

    def start(self, name: str) -> None:
        """Begin a stretch; `name` goes into the project_name column."""
        self._warm.join()
        self._tracker = tracker_of(name, self._country)
        self._tracker.start()

    def stop(self) -> Energy:
        """End the stretch and write its row; nothing when none was begun."""
        if self._tracker is None:
            return Energy()
        tracker, self._tracker = self._tracker, None
        tracker.stop()
        data = getattr(tracker, "final_emissions_data", None)
        if data is None:
            return Energy()
        add_row(self.path, dict(data.values))
        return Energy(data.energy_consumed, data.emissions, source_of(tracker))

    def _warm_up(self) -> None:
        tracker = tracker_of("warm-up", self._country)
        tracker.start()
        tracker.stop()
