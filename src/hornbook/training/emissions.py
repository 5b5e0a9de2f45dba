"""Energy and emissions of a training run, by codecarbon's offline tracker: no request is sent.

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
from pathlib import Path
from typing import Any

from hornbook.records import EnergySource

WORLD_AVERAGE = 475.0  # codecarbon's own figure for a country that it doesn't know, gCO2e a kWh
_METERED = ("rapl", "power_gadget", "powergadget", "windows_emi", "applesilicon")


@dataclass
class Energy:
    """Kilowatt-hours and kilograms of CO2 equivalents; None until the run has ended.

    "measured": the processor's and the graphics card's counters were read. "estimated": processor
    time against the power the processor is rated for.
    """

    kwh: float | None = None
    kg: float | None = None
    source: EnergySource = "none"


@contextmanager
def metered(name: str, path: Path) -> Iterator[Energy]:
    """Measure this block; what it gives is filled in at the end, and a row is added to the CSV.

    Also when the block is left by an error or Ctrl-C: that energy is spent too. Follows this
    process and its children.
    """
    energy = Energy()
    tracker = _tracker(name)
    tracker.start()
    try:
        yield energy
    finally:
        tracker.stop()
        if (data := getattr(tracker, "final_emissions_data", None)) is not None:
            energy.kwh, energy.kg = data.energy_consumed, data.emissions
            energy.source = _source(tracker)
            _add_row(path, dict(data.values))


def _add_row(path: Path, values: dict[str, Any]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(values))
        if new:
            writer.writeheader()
        writer.writerow(values)


def _tracker(name: str) -> Any:
    import codecarbon

    # It logs a line before it takes its log level.
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    country = os.environ.get("HORNBOOK_COUNTRY", "").strip().upper()
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
