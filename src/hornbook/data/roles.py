"""Which file of a folder is for training, which for validation and test; and what to hold out."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from pathlib import Path

from hornbook.errors import DataError

# The first that a name holds decides: CoNLL's testa is for validation.
_MARKS = {"train": "train", "testa": "validation", "dev": "validation", "val": "validation"}
_MARKS |= {"test": "test"}


def files_by_role(path: Path) -> dict[str, Path]:
    """The files of a folder by what their names say: train, validation, test; a file is train.

    Raises DataError where nothing is, where no name says "train", or two say the same.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}", hint="Check the path.")
    if path.is_file():
        return {"train": path}
    roles: dict[str, Path] = {}
    files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
    for file in files:
        name = file.name.lower()
        if name.startswith(("readme", "license", "licence")) or name.endswith(".md"):
            continue
        role = next((role for mark, role in _MARKS.items() if mark in name), None)
        if role in roles:
            raise DataError(
                f"{path}: {roles[role].name} and {file.name} are both for {role} by their names",
                hint="Keep one of them there, or name a single file.",
            )
        if role:
            roles[role] = file
    if "train" not in roles:
        listed = ", ".join(f.name for f in files[:10]) or "nothing"
        raise DataError(
            f"{path} has no file whose name holds 'train' ({listed})",
            hint="Name it so, or name a single file as the data: it is then divided.",
        )
    return roles


def hold_out(groups: Sequence[Hashable], share: float, seed: int) -> list[bool]:
    """Which to hold out (N,): whole groups, drawn until about the share of all is reached.

    groups: what belongs together, for each. Raises DataError with fewer than two groups.
    """
    names = sorted(set(groups), key=str)
    if len(names) < 2:
        raise DataError(
            f"{len(groups):,} examples cannot be divided: they all belong together",
            hint="Add others, or give a folder with a file for training and one for validation.",
        )
    random.Random(seed).shuffle(names)
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    out: set[Hashable] = set()
    n_out = 0
    for name in names[:-1]:  # one group is left to learn from
        if n_out and n_out + sizes[name] / 2 > share * len(groups):
            continue
        out.add(name)
        n_out += sizes[name]
    return [group in out for group in groups]
