"""Texts and what is to be written from them, divided: translations, summaries.

A folder with a table a part (train.jsonl, dev.jsonl, test.jsonl), whose rows may have several
targets; or whatever `open_pairs` opens, of which parallel files named test are the test part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbook.data.pairs import SOURCE_NAMES, TARGET_NAMES, Pair, open_pairs
from hornbook.data.roles import files_by_role, hold_out
from hornbook.data.rows import is_table, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

HELD_OUT = 0.1


@dataclass(frozen=True, slots=True)
class SourceText:
    """A source and the texts that may be written from it, each as good; id: where it stands."""

    source: str
    targets: tuple[str, ...]
    id: str = ""


@dataclass(frozen=True)
class Sources:
    """Sources with their targets, divided. test is None where the data have none."""

    name: str
    train: list[SourceText]
    validation: list[SourceText]
    test: list[SourceText] | None = None
    notes: list[str] = field(default_factory=list)
    licence: str = ""


def open_sources(data: str, columns: Mapping[str, str], *, seed: int) -> Sources:
    """Open sources with their targets.

    columns: "source" and "target", of a table or as endings of parallel files; "test", which of
    several test files, the first when it is not said. Raises DataError and UnknownNameError as
    `open_pairs` does, and for a test part that isn't there.
    """
    if other := sorted(set(columns) - {"source", "target", "test"}):
        raise UnknownNameError(
            f"there is no column '{other[0]}' to name",
            hint=nearest(other[0], ["source", "target", "test"]),
        )
    source, target = columns.get("source"), columns.get("target")
    path = Path(data).expanduser()
    if path.is_dir() and any(map(is_table, path.iterdir())):
        return _folder(path, source, target, seed)
    if is_table(path):
        notes: list[str] = []
        texts = _table(path, source, target, notes)
        train, validation = _divided(texts, seed, notes)
        return Sources(path.name, train, validation, None, notes)
    pairs = open_pairs(data, source=source, target=target, seed=seed)
    kept = [note for note in pairs.notes if not note.startswith("Left out, as their name says")]
    test = None
    if pairs.tests:
        name = columns.get("test") or next(iter(pairs.tests))
        if name not in pairs.tests:
            raise UnknownNameError(
                f"{data} has no test files '{name}'", hint=nearest(name, list(pairs.tests))
            )
        test = _plain(pairs.tests[name], name)
        if others := [other for other in pairs.tests if other != name]:
            kept.append(f"The test part is {name}; there are also {', '.join(others)}.")
    return Sources(
        pairs.name,
        _plain(pairs.train, "train"),
        _plain(pairs.validation, "validation"),
        test,
        kept,
        pairs.licence,
    )


def _plain(pairs: Sequence[Pair], part: str) -> list[SourceText]:
    return [SourceText(s, (t,), f"{part} {i}") for i, (s, t) in enumerate(pairs, 1)]


def _folder(path: Path, source: str | None, target: str | None, seed: int) -> Sources:
    notes: list[str] = []
    parts = {
        role: _table(file, source, target, notes) for role, file in files_by_role(path).items()
    }
    train = parts["train"]
    validation = parts.get("validation")
    if validation is None:
        train, validation = _divided(train, seed, notes)
    return Sources(path.name, train, validation, parts.get("test"), notes)


def _table(
    path: Path, source: str | None, target: str | None, notes: list[str]
) -> list[SourceText]:
    """A table's rows. A list as source is one text, its members joined; as target several texts."""
    table = read_rows(path)
    rows, names = table.rows, list(table.columns)
    if rows and any(isinstance(rows[0].get(c), dict) for c in names):
        rows = [_flat(row) for row in rows]  # {"translation": {"en": …, "de": …}}
        names = list(rows[0])
    left = source or _first(SOURCE_NAMES, names, (target,))
    right = target or _first(TARGET_NAMES, names, (left,))
    for asked in (left, right):
        if asked is not None and asked not in names:
            raise UnknownNameError(f"{path} has no column '{asked}'", hint=nearest(asked, names))
    if left is None or right is None:
        raise DataError(
            f"which columns of {path} are source and target is not clear",
            hint=f"Name them: --column source=… --column target=…. Columns: {', '.join(names)}.",
        )
    found, n_empty = [], 0
    for row, place in zip(rows, table.places, strict=True):
        text, targets = _joined(row.get(left)), _several(row.get(right))
        if text and targets:
            found.append(SourceText(text, targets, f"{path.name}, {place}"))
        else:
            n_empty += 1
    if not found:
        raise DataError(f"{path} has no pair of texts", hint="Are source and target both there?")
    if n_empty:
        notes.append(f"{path.name}: {n_empty:,} row(s) without a text were left out.")
    if not (source and target):
        said = f"From column '{left}' column '{right}' is written."
        notes += [] if said in notes else [said]
    if (most := max(len(one.targets) for one in found)) > 1:
        notes.append(f"{path.name}: up to {most} targets a source; the nearest one counts.")
    return found


def _first(wanted: Sequence[str], names: Sequence[str], but: Sequence[str | None]) -> str | None:
    folded = {name.casefold(): name for name in reversed(names)}
    known = (folded[w] for w in wanted if w in folded)
    return next((name for name in known if name not in but), None)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    inner = {k: v for value in row.values() if isinstance(value, dict) for k, v in value.items()}
    return {k: v for k, v in row.items() if not isinstance(v, dict)} | inner


def _joined(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(text for text in map(_joined, value) if text)
    return "" if value is None else str(value).strip()


def _several(value: Any) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    return tuple(text for text in map(_joined, texts) if text)


def _divided(
    texts: list[SourceText], seed: int, notes: list[str]
) -> tuple[list[SourceText], list[SourceText]]:
    out = hold_out([one.source for one in texts], HELD_OUT, seed)
    sides: tuple[list[SourceText], list[SourceText]] = ([], [])
    for one, held in zip(texts, out, strict=True):
        sides[held].append(one)
    notes.append(f"{len(sides[1]):,} of {len(texts):,} are for validation, by the seed.")
    return sides
