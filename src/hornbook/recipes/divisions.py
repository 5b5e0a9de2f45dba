"""How data are divided for an evaluation: as for a run's training, or not at all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from hornbook.data.roles import role_of
from hornbook.errors import ConfigError, DataError
from hornbook.evaluation.evaluate import hash_of
from hornbook.recipes.kinds import KINDS
from hornbook.records import Part
from hornbook.tasks.task import Parts

_PLACE = ("id", "place")  # where an example stood, not what it says
# A note on how data were divided, or on what the parts then lack.
_DIVIDED = re.compile(
    r"\bset aside\b|\(seed \d+\)|by the seed|\btest (texts?|split)\b|it is trained on|validat"
)


@dataclass(frozen=True)
class Division:
    """What divides data: the same for the same task gives the same parts."""

    task: str
    data: str
    columns: tuple[tuple[str, str], ...]
    seed: int

    @classmethod
    def of(cls, settings: Mapping[str, Any], task: str) -> Division | None:
        """That of a run's training; None where config.yaml does not name the data."""
        if settings.get("data") is None:
            return None
        columns = tuple(sorted((settings.get("columns") or {}).items()))
        return cls(task, str(settings["data"]), columns, int(settings.get("seed", 0)))

    def parts(self) -> Parts:
        found: Parts = KINDS.load(self.task).open_data(
            self.data, dict(self.columns), seed=self.seed
        )
        return found


def same_place(one: str, other: str | None) -> bool:
    """Whether two names of data mean the same."""
    if other is None or one == other:
        return one == other
    first, second = Path(one).expanduser(), Path(other).expanduser()
    return first.exists() and second.exists() and first.samefile(second)


def examples_of(parts: Parts, part: Part, data: str, *, own: bool) -> tuple[list[Any], list[str]]:
    """The examples to evaluate on, and notes on how they were divided.

    All of a file that its name says to be the part asked for, such as test.csv; own: of the data of
    training, which are divided as they were. Raises ConfigError for all of these, DataError where
    there is no such part.
    """
    role = None if own or not Path(data).expanduser().is_file() else role_of(Path(data).name)
    if part == "all" and own:
        raise ConfigError(
            f"all of {data} has in it what the run was trained on",
            hint="--on all is for other data: --data D. Of these: --on test.",
        )
    if role == "test" and part not in ("test", "all"):
        raise DataError(
            f"{data} is a test part by its name, and has no {part} part",
            hint="Take --on test, which counts as a look.",
        )
    if part == "all" or role == part:
        whole = [*parts.train, *parts.validation, *(parts.test or [])]
        notes = [note for note in parts.notes if not _DIVIDED.search(note)]
        return sorted(whole, key=_in_order), [*notes, "All examples of the data, undivided."]
    examples = getattr(parts, part)
    if not examples:
        raise DataError(
            f"{data} has no {part} part",
            hint="Take --on validation, or data that have one."
            if part == "test"
            else "Give data that have one.",
        )
    return list(examples), list(parts.notes)


def key_of(example: Any) -> str:
    """What an example says, whatever its place and number: equal for equal ones."""
    if not is_dataclass(example):
        return hash_of([example])
    values = {f.name: getattr(example, f.name) for f in fields(example) if f.name not in _PLACE}
    return hash_of([values])


def _in_order(example: Any) -> tuple[list[int], str]:
    """As they stand in the file, whatever the seed: so that a hash tells the same examples."""
    place = next((str(getattr(example, name)) for name in _PLACE if hasattr(example, name)), "")
    return [int(number) for number in re.findall(r"\d+", place)], key_of(example)
