"""What a technique costs: processor time, memory, latency, energy.

Energy is codecarbon's, by its offline tracker: no request leaves the machine. It runs in the parent
process and follows the worker, so that it neither slows nor weighs down what it measures, and a
worker that is killed is counted too.
"""

from __future__ import annotations

import csv
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.errors import ConfigError
from hornbook.records import EnergySource

# codecarbon's own figure for a country that it doesn't know, gCO2e a kWh.
WORLD_AVERAGE = 475.0
_METERED = ("rapl", "power_gadget", "powergadget", "windows_emi", "applesilicon")


def cpu_seconds() -> float:
    """Processor seconds of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_bytes() -> int:
    """The most memory that this process, or an ended child of it, has held at once."""
    own = _status_peak()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    # ru_maxrss of the process itself counts what its parent held before the exec; VmHWM doesn't.
    return max(own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, children)


def _status_peak() -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


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


@dataclass(frozen=True)
class Energy:
    """Kilowatt-hours and kilograms of CO2 equivalents.

    "measured": the processor's and, where there is one, the graphics card's counters were read
    (codecarbon estimates the memory's share even so). "estimated": processor time against the
    power the processor is rated for.
    """

    kwh: float | None = None
    kg: float | None = None
    source: EnergySource = "none"


def country() -> str | None:
    """HORNBOOK_COUNTRY, or None without it: whose electricity is used.

    Raises ConfigError when it is no three-letter code that codecarbon has figures for.
    """
    given = os.environ.get("HORNBOOK_COUNTRY", "").strip()
    if not given:
        return None
    from codecarbon.input import DataSource

    known = DataSource().get_global_energy_mix_data()
    if given.upper() in known:
        return given.upper()
    by_name = {str(entry["country_name"]).casefold(): code for code, entry in known.items()}
    if close := get_close_matches(given.casefold(), list(by_name), n=1, cutoff=0.75):
        meant = [by_name[close[0]]]
    else:
        meant = get_close_matches(given.upper(), list(known), n=3, cutoff=0.5)
    near = ", ".join(f"{code} ({known[code]['country_name']})" for code in meant)
    raise ConfigError(
        f"HORNBOOK_COUNTRY is '{given}', of whose electricity nothing is known",
        hint=(f"Did you mean {near}? " if near else "")
        + "It is a country's three letters (ISO 3166), such as DEU; unset, the world's average.",
    )


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
        self._tracker = _tracker(name, self._country)
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
        values = dict(data.values)
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(values))
            if new:
                writer.writeheader()
            writer.writerow(values)
        return Energy(data.energy_consumed, data.emissions, _source(tracker))

    def _warm_up(self) -> None:
        tracker = _tracker("warm-up", self._country)
        tracker.start()
        tracker.stop()


def _tracker(name: str, country: str | None) -> Any:
    import codecarbon

    # It logs a line before it takes its log level.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    place = (
        {"country_iso_code": country}
        if country
        else {"force_carbon_intensity_g_co2e_kwh": WORLD_AVERAGE}
    )
    return codecarbon.OfflineEmissionsTracker(
        project_name=name,
        tracking_mode="process",  # this process and its children
        measure_power_secs=15,
        output_methods=[],  # the row is written here: its own writer would load pandas to do it
        output_handlers=[],
        electricitymaps_api_token="",  # a token in the user's settings would make it ask online
        emissions_endpoint=False,
        log_level="critical",
        allow_multiple_runs=True,
        **place,
    )


def _source(tracker: Any) -> EnergySource:
    """Whether counters were read, from the names of what the tracker follows."""
    described = [part.description().lower() for part in getattr(tracker, "_hardware", [])]
    processors = [words for words in described if words.startswith(("cpu", "applesilicon"))]
    if processors and all(any(m in words for m in _METERED) for words in processors):
        return "measured"
    return "estimated"
