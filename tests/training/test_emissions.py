"""The energy of a run is measured and written, also of one that fails."""

from __future__ import annotations

import csv

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
