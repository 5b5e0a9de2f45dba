"""Energy and emissions of a stretch of work, by codecarbon's offline tracker: no request is sent.

HORNBOOK_COUNTRY, a three-letter code such as DEU, says how clean the electricity is; the world's
average is taken without it.
"""

from __future__ import annotations

import csv
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from threading import Lock
from typing import Any

from hornbook.errors import ConfigError
from hornbook.records import EnergySource

WORLD_AVERAGE = 475.0  # codecarbon's own figure for a country that it doesn't know, gCO2e a kWh
MEASURED_EVERY = 15  # seconds
_METERED = ("rapl", "power_gadget", "powergadget", "windows_emi", "applesilicon")


@dataclass
class Energy:
    """Kilowatt-hours and kilograms of CO2 equivalents; None until the run has ended.

    "measured": the processor's and, where there is one, the graphics card's counters were read
    (codecarbon estimates the memory's share even so). "estimated": processor time against the
    power the processor is rated for.
    """

    kwh: float | None = None
    kg: float | None = None
    source: EnergySource = "none"


@contextmanager
def metered(name: str, path: Path) -> Iterator[Energy]:
    """Measure this block; what it gives is filled in at the end, and a row is added to the CSV.

    Also when the block is left by an error or Ctrl-C: that energy is spent too. What a killed
    process had spent until its last measurement is added when the next one begins. Follows this
    process and its children. Raises ConfigError for a HORNBOOK_COUNTRY that is none.
    """
    energy = Energy()
    so_far = SoFar(path.with_name(f"{path.stem}.unfinished.csv"))
    tracker = tracker_of(name, country(), so_far)
    so_far.move_to(path)  # of a process that was killed
    tracker.start()
    try:
        yield energy
    finally:
        so_far.end()
        tracker.stop()
        if (data := getattr(tracker, "final_emissions_data", None)) is not None:
            energy.kwh, energy.kg = data.energy_consumed, data.emissions
            energy.source = source_of(tracker)
            add_row(path, dict(data.values))
            so_far.path.unlink(missing_ok=True)
        else:
            so_far.move_to(path)


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


def add_row(path: Path, values: dict[str, Any]) -> None:
    """Add a row to emissions.csv, with its head where the file is new."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(values))
        if new:
            writer.writeheader()
        writer.writerow(values)


def spent(path: Path) -> tuple[float | None, float | None]:
    """Kilowatt-hours and kilograms over all rows of emissions.csv: each part of a resumed run."""
    if not path.is_file():
        return None, None
    rows = read_rows(path)
    kwh, kg = (sum(float(row[name]) for row in rows) for name in ("energy_consumed", "emissions"))
    return kwh, kg


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of an emissions.csv."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class SoFar:
    """A CSV of one row, written at every measurement: what was spent so far.

    An output of codecarbon's, by its methods. It stays when the process is killed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ended = False
        self._lock = Lock()  # measurements come from a thread

    def live_out(self, total: Any, delta: Any) -> None:
        """A measurement, in codecarbon's words."""
        with self._lock:
            if not self._ended:
                beside = self.path.with_suffix(".tmp")
                beside.unlink(missing_ok=True)
                add_row(beside, dict(total.values))
                beside.replace(self.path)

    def end(self) -> None:
        """Write no more."""
        with self._lock:
            self._ended = True

    def move_to(self, path: Path) -> None:
        """Add what stands here to emissions.csv."""
        if self.path.is_file():
            for row in read_rows(self.path):
                add_row(path, row)
            self.path.unlink()

    def out(self, total: Any, delta: Any) -> None: ...
    def task_out(self, data: Any, experiment_name: str) -> None: ...
    def exit(self) -> None: ...


def tracker_of(name: str, country: str | None, so_far: SoFar | None = None) -> Any:
    """Codecarbon's tracker of this process and its children, in a country that it knows."""
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
        measure_power_secs=MEASURED_EVERY,
        output_methods=[],  # the row is written here: its own writer would load pandas to do it
        output_handlers=[so_far] if so_far else [],
        api_call_interval=1,  # that row is written at every measurement
        electricitymaps_api_token="",  # a token in the user's settings would make it ask online
        emissions_endpoint=False,
        log_level="critical",
        allow_multiple_runs=True,
        **place,
    )


def source_of(tracker: Any) -> EnergySource:
    """Whether counters were read, from the names of what the tracker follows."""
    described = [part.description().lower() for part in getattr(tracker, "_hardware", [])]
    processors = [words for words in described if words.startswith(("cpu", "applesilicon"))]
    if processors and all(any(m in words for m in _METERED) for words in processors):
        return "measured"
    return "estimated"
