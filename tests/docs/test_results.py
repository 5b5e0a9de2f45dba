"""benchmarks/RESULTS.md: what `make bench` pastes there, and the table that it makes of it."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULTS = (BENCHMARKS / "RESULTS.md").read_text(encoding="utf-8")
EMPTY = "# Results\n\n<!-- claims -->\n<!-- end of claims -->\n"


def script(name: str):
    specification = importlib.util.spec_from_file_location(
        f"bench_{name}", BENCHMARKS / f"{name}.py"
    )
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench():
    return script("all")


def test_what_a_benchmark_claims_becomes_a_row(bench, capsys):
    claims = script("claims")
    assert claims.at_least("speed: tokens a second", 2.345, 2)
    assert not claims.at_most("memory | peak", 1.5, 1)
    printed = capsys.readouterr().out
    once = bench.with_table(bench.paste(EMPTY, "speed --fast", printed))
    assert "| speed --fast | speed: tokens a second | at least 2 | 2.35 | holds |" in once
    assert "| speed --fast | memory \\| peak | at most 1 | 1.50 | **missed** |" in once
    assert "## speed --fast" in once and "$ python benchmarks/speed.py --fast" in once


def test_a_second_run_replaces_the_first(bench):
    once = bench.with_table(bench.paste(EMPTY, "a", "holds: x: 1 (wanted: 0)"))
    twice = bench.with_table(bench.paste(once, "a", r"MISSED: x: \1 ``` (wanted: 0)"))
    assert twice.count("## a") == 1 and "holds" not in twice
    assert r"MISSED: x: \1  (wanted: 0)" in twice and twice.count("```") == 2


def test_a_benchmark_that_fails_or_is_unknown_leaves_the_page_alone(bench, tmp_path, monkeypatch):
    (tmp_path / "breaks.py").write_text("print('holds: x: 1 (wanted: 0)'); raise SystemExit('no')")
    (tmp_path / "works.py").write_text(
        "import sys; print('  holds: x: 1 (wanted: 0)', sys.argv[1:])"
    )
    (tmp_path / "RESULTS.md").write_text(EMPTY)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "RESULTS.md")
    for command in ("breaks", "none"):
        monkeypatch.setattr(sys, "argv", ["all.py", command])
        with pytest.raises(SystemExit, match=command):
            bench.main()
        assert "holds" not in (tmp_path / "RESULTS.md").read_text()
    monkeypatch.setattr(sys, "argv", ["all.py", "works 'of two words'"])
    bench.main()
    assert "holds: x: 1 (wanted: 0) ['of two words']" in (tmp_path / "RESULTS.md").read_text()


def test_the_page_holds_the_table_of_what_stands_in_it(bench):
    assert bench.with_table(RESULTS) == RESULTS
    pasted = re.findall("<!-- output: (.*) -->", RESULTS)
    assert pasted and set(pasted) <= set(bench.COMMANDS)
    for command in bench.COMMANDS:
        assert (BENCHMARKS / f"{command.split()[0]}.py").is_file(), command
