"""How often a test part was looked at: a figure of many looks is too good, as soon as anything was
chosen after one of them.

    RUN/test_looks.jsonl     a line a look; of the trials of a search, one file for all of them
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hornbook.errors import ConfigError
from hornbook.runs import now

LOOKS = "test_looks.jsonl"
SEARCH = "tuning.json"  # what tells the folder of a search


@dataclass(frozen=True)
class Look:
    """number: from 1 on, at these examples. shared: counted over all trials of a search."""

    number: int
    shared: bool


def look(run: Path, *, data: str, examples_hash: str) -> Look:
    """Note a look at a test part; which one it is."""
    search = search_of(run)
    path = (search or run) / LOOKS
    before = _looks(path).count(examples_hash)
    line = {"run": run.name, "data": data, "examples_hash": examples_hash, "at": now()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return Look(before + 1, search is not None)


def times(run: Path, examples_hash: str) -> int:
    """How often these examples were looked at until now, by the run or its search."""
    return _looks((search_of(run) or run) / LOOKS).count(examples_hash)


def said(found: Look) -> str:
    """What a reader must know of it, a sentence."""
    whose = "by the trials of this search" if found.shared else "by this run"
    if found.number == 1:
        return f"The first look at this test part {whose}."
    return (
        f"Look {found.number} at this test part {whose}: if anything was chosen after an earlier "
        "one, these figures are too good."
    )


def refuse_selection(run: Path, other: Path) -> None:
    """Refuse to compare trials of one search on a test part: that would be choosing by it.

    Raises ConfigError.
    """
    search = search_of(run)
    if search is not None and search == search_of(other):
        raise ConfigError(
            f"{run.name} and {other.name} are trials of one search: to choose between them by the "
            "test part would leave nothing to test with",
            hint="Compare them with --on validation, then evaluate the one chosen on test, once.",
        )


def search_of(run: Path) -> Path | None:
    """The search that a run was a trial of."""
    return next((p for p in run.resolve().parents if (p / SEARCH).is_file()), None)


def _looks(path: Path) -> list[str]:
    """The examples of each look. A line that was cut short still is a look, at who knows what."""
    if not path.is_file():
        return []
    looks = []
    # Not splitlines(): a name may hold U+2028 and the like as they are.
    for line in path.read_text(encoding="utf-8").removesuffix("\n").split("\n"):
        try:
            looks.append(str(json.loads(line)["examples_hash"]))
        except (ValueError, KeyError, TypeError):
            looks.append("")
    return looks
