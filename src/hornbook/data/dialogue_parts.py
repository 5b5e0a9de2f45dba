"""Conversations divided into those to learn from, those that validate, and those that test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornbook.data.conversations import Dialogue, Dialogues, Problem, read_dialogues
from hornbook.data.roles import files_by_role, hold_out

TEST_SHARE, VALIDATION_SHARE, MOST_VALIDATION = 0.1, 0.05, 500


@dataclass(frozen=True)
class DividedDialogues:
    """test: None where the data came with a validation part alone. problems: rows left out."""

    name: str
    train: list[Dialogue]
    validation: list[Dialogue]
    test: list[Dialogue] | None
    notes: list[str]
    problems: tuple[Problem, ...] = ()


def open_dialogues(data: str, columns: Mapping[str, str], *, seed: int) -> DividedDialogues:
    """A file, divided by its column `split` or by chance; or a folder of files named train,
    validation, test.

    By chance: a tenth for the test, a twentieth (at most 500) for validation; conversations with
    the same first question stay together. Raises DataError where there is too little to divide.
    """
    path = Path(data).expanduser()
    found = {role: read_dialogues(file, columns) for role, file in files_by_role(path).items()}
    parts = {role: one.dialogues for role, one in found.items()}
    alone = found["train"]
    if len(found) == 1 and alone.splits and "train" in alone.splits:
        rows = list(zip(alone.dialogues, alone.splits, strict=True))
        parts = {role: [d for d, r in rows if r == role] for role in set(alone.splits)}
    return _divided(path.stem, parts, list(found.values()), seed)


def _divided(
    name: str, parts: dict[str, list[Dialogue]], found: list[Dialogues], seed: int
) -> DividedDialogues:
    notes = [f"Read as: {', '.join(dict.fromkeys(one.form for one in found))}."]
    notes += [note for one in found for note in one.notes]
    train, validation, test = parts["train"], parts.get("validation"), parts.get("test")
    if test is None and validation is None:
        train, test = _set_aside(train, TEST_SHARE, seed, n_left=2)
        notes.append(f"{len(test):,} conversations were set aside as the test (seed {seed}).")
    if validation is None:
        share = min(VALIDATION_SHARE, MOST_VALIDATION / len(train))
        train, validation = _set_aside(train, share, seed + 1)
        notes.append(f"{len(validation):,} conversations validate (seed {seed}).")
    problems = tuple(problem for one in found for problem in one.problems)
    return DividedDialogues(name, train, validation, test, notes, problems)


def _set_aside(
    dialogues: Sequence[Dialogue], share: float, seed: int, *, n_left: int = 1
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Those that stay and those that are set aside, the same first question on one side."""
    first = (next(m["content"] for m in d.messages if m["role"] == "user") for d in dialogues)
    groups = [" ".join(text.lower().split()) for text in first]
    out = hold_out(groups, share, seed, n_left=n_left)
    both = list(zip(dialogues, out, strict=True))
    return [d for d, o in both if not o], [d for d, o in both if o]
