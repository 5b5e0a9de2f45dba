"""A folder's tables by the parts that they are named after; a part may come in several files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hornbook.data.rows import Table, is_table, read_rows

# Which part a file is of, by what its name begins with; the first that fits.
PARTS = {"train": "train", "dev": "validation", "val": "validation", "test": "test"}
_SHARD = re.compile(r"-\d+-of-(\d+)(?=\.)")  # a part in several files, as the hub writes it


def part_files(folder: Path, notes: list[str]) -> dict[str, list[Path]]:
    """The tables of a folder that are named after parts; {} where none is for training.

    Several files of a part are its shards (train-00000-of-00003.jsonl). Of others the first in the
    order of names is taken, and a note says so.
    """
    found: dict[str, list[Path]] = {}
    others = []
    for file in sorted(filter(is_table, folder.iterdir())):
        stem = file.name.lower().removeprefix("sts-")
        part = next((part for start, part in PARTS.items() if stem.startswith(start)), None)
        if part is None:
            continue
        first = found.setdefault(part, [file])[0]
        if file is first:
            continue
        if _SHARD.search(file.name) and _SHARD.sub("", file.name) == _SHARD.sub("", first.name):
            found[part].append(file)
        else:
            others.append(f"{file.name} is left out: {first.name} is read for {part}.")
    if "train" not in found:
        return {}
    for part, files in found.items():
        said = _SHARD.search(files[0].name)
        if said and int(said[1]) != len(files):
            others.append(f"The {part} part has {len(files)} of its {int(said[1])} files.")
    notes += others
    return {part: found[part] for part in PARTS.values() if part in found}


def read_part(files: Sequence[Path]) -> Table:
    """One table of a part's files, each row with its file in its place."""
    tables = [read_rows(file) for file in files]
    if len(tables) == 1:
        return tables[0]
    return Table(
        str(files[0].with_name(_SHARD.sub("", files[0].name))),
        list(dict.fromkeys(column for table in tables for column in table.columns)),
        [row for table in tables for row in table.rows],
        [f"{f.name}, {place}" for f, t in zip(files, tables, strict=True) for place in t.places],
        notes=[note for table in tables for note in table.notes],
    )
