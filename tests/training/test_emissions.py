"""The energy of a run is measured and written, also of one that fails."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys

import pytest

from hornbook.training.emissions import metered


def test_a_run_that_fails_has_its_energy_counted(tmp_path):
    path = tmp_path / "emissions.csv"
    with pytest.raises(ZeroDivisionError), metered("run", path) as energy:
        assert energy.source == "none"
        sum(i * i for i in range(10**6)) / 0
    assert energy.kwh > 0 and energy.kg > 0 and energy.source in ("measured", "estimated")
    rows = list(csv.DictReader(path.open()))
    assert len(rows) == 1 and rows[0]["project_name"] == "run"
    assert float(rows[0]["energy_consumed"]) == energy.kwh


ENDLESS = """
import sys, time
from pathlib import Path
from hornbook.training import emissions
emissions.MEASURED_EVERY = 0.5
path = Path(sys.argv[1])
with emissions.metered("killed", path):
    unfinished = path.with_name("emissions.unfinished.csv")
    while not unfinished.exists() or float(emissions.read_rows(unfinished)[0]["duration"]) < 1:
        sum(range(10**5))
    print("measured", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_spent_is_counted_when_the_next_begins(tmp_path):
    path = tmp_path / "emissions.csv"
    command = [sys.executable, "-c", ENDLESS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "measured\n"
        process.send_signal(signal.SIGKILL)
    assert not path.exists()
    for _ in range(2):
        with metered("resumed", path):
            pass
    rows = list(csv.DictReader(path.open()))
    assert [row["project_name"] for row in rows] == ["killed", "resumed", "resumed"]
    assert float(rows[0]["energy_consumed"]) > 0
    assert [p.name for p in tmp_path.iterdir()] == ["emissions.csv"]
