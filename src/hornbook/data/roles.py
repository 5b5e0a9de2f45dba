"""Which file of a folder is for training, which for validation and test; and what to hold out."""

from __future__ import annotations

import random
import re
from collections.abc import Hashable, Sequence
from pathlib import Path

from hornbook.data.arrow_files import is_arrow
from hornbook.errors import DataError

# The first that is a word of the name decides: CoNLL's testa is for validation.
_MARKS = dict.fromkeys(("train", "training"), "train")
_MARKS |= dict.fromkeys(("testa", "dev", "val", "valid", "validation"), "validation")
_MARKS |= dict.fromkeys(("test", "testb", "testing"), "test")
_MARKS |= dict.fromkeys(("eval", "evaluation"), "validation")


def role_of(name: str) -> str | None:
    """What a file is for by the words of its name: train, validation, test; None: it doesn't say.

    Words are letters in a row: latest.jsonl is nothing, test_eval.jsonl and squad2test.json test.
    """
    words = re.findall("[a-z]+", name.lower())
    return next((role for mark, role in _MARKS.items() if mark in words), None)


def files_by_role(path: Path) -> dict[str, Path]:
    """The files of a folder by what their names say: train, validation, test; a file is train.

    Raises DataError where nothing is, where no name has the word "train", or two say the same.
    """
    if not path.exists():
        raise DataError(f"there is no file or folder {path}", hint=hint_for_missing(path))
    if path.is_file() or is_arrow(path):
        return {"train": path}
    roles: dict[str, Path] = {}
    files = sorted(p for p in path.iterdir() if _holds_rows(p))
    for file in files:
        name = file.name.lower()
        if name.startswith(("readme", "license", "licence")) or name.endswith(".md"):
            continue
        role = role_of(name)
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
            f"{path} has no file whose name has the word 'train' ({listed})",
            hint="Name it so, or name a single file as the data: it is then divided.",
        )
    return roles


def hint_for_missing(path: Path) -> str:
    """What to do where nothing lies at a path; where it may be a name of the hub, how to fetch it.

    So are hf://owner/name, owner/name beside no folder `owner`, and a word without an ending.
    """
    name, _, configuration = re.sub("^hf:/+", "", str(path)).partition(":")
    owner = Path(name).parent
    if (
        not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name)
        or Path(name).suffix
        or (owner != Path() and owner.is_dir())
    ):
        return "Check the path."
    folder = name.rpartition("/")[2]
    asked = f"'{name}', '{configuration}'" if configuration else f"'{name}'"
    return (
        "Check the path. A data set of the hub is not read by its name here: save it once, "
        f"datasets.load_dataset({asked}).save_to_disk('{folder}'), and give the folder {folder}."
    )


def _holds_rows(path: Path) -> bool:
    return (path.is_file() and not path.name.startswith(".")) or is_arrow(path)


def hold_out(groups: Sequence[Hashable], share: float, seed: int, *, n_left: int = 1) -> list[bool]:
    """Which to hold out (N,): whole groups, drawn until about the share of all is reached.

    groups: what belongs together, for each. n_left: so many groups at least are not held out; 2
    where what is left will be divided again. Raises DataError with no group more than these.
    """
    names = sorted(set(groups), key=str)
    if len(names) <= n_left:
        belong = "they all belong together" if len(names) < 2 else f"{len(names)} groups only"
        raise DataError(
            f"{len(groups):,} examples cannot be divided: {belong}",
            hint="Add others, or give a folder with a file for training and one for validation.",
        )
    random.Random(seed).shuffle(names)
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    # The first is held out whatever its size: one that is not too large, if there is any.
    small = (name for name in names if sizes[name] <= share * len(groups))
    first = next(small, min(names, key=sizes.__getitem__))
    names.remove(first)
    out: set[Hashable] = {first}
    n_out = sizes[first]
    for name in names:
        if len(out) == len(sizes) - n_left:
            break
        if n_out + sizes[name] / 2 > share * len(groups):
            continue
        out.add(name)
        n_out += sizes[name]
    return [group in out for group in groups]
