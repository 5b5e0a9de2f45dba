"""Questions with options, one of them right.

| columns                     | what a row is                                               |
|-----------------------------|-------------------------------------------------------------|
| context, options, answer    | options: a list (in csv as JSON, or between "|")            |
| context, A, B, C, D, answer | an option a column                                          |

The answer is an option's number from 0, its letter from A, or its text; `posed` asks for none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hornbook.data.roles import files_by_role, hold_out, role_of
from hornbook.data.rows import Table, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

NAMES = {
    "context": ("context", "question", "ctx", "sentence", "prompt", "query", "text"),
    "options": ("options", "choices", "endings", "answers"),
    "answer": ("answer", "label", "gold", "correct", "target"),
}
LETTERS = "ABCDEFGHIJ"
_NAMED = 5  # bad rows that an error names
Read = TypeVar("Read")


@dataclass(frozen=True)
class Question:
    """A context, what may follow, and the number of what does. place: such as "line 17"."""

    context: str
    options: tuple[str, ...]
    answer: int
    place: str = ""


@dataclass(frozen=True)
class Questions:
    """Questions for training, validation and test, and how they were divided.

    name: the file's or the folder's.
    """

    name: str
    train: list[Question]
    validation: list[Question]
    test: list[Question]
    notes: list[str]


class _BadRow(Exception):
    """Why a row cannot be read; its place is added by whoever reads the table."""


def open_questions(data: str, columns: Mapping[str, str], *, seed: int) -> Questions:
    """Read and divide. columns: what a person named, by NAMES.

    A folder is divided as its files' names say; a file whose name has the word "test" is test, to
    judge models by; of another a tenth each is drawn for validation and test, equal contexts on one
    side.
    Raises DataError that names the rows that are wrong.
    """
    notes: list[str] = []
    parts: dict[str, list[Question]] = {"train": [], "validation": [], "test": []}
    path = Path(data).expanduser()
    roles = files_by_role(path)
    if path.is_file() and role_of(path.name) == "test":
        roles = {"test": path}
    for role, file in roles.items():
        table = read_rows(file)
        notes += table.notes
        parts[role] = _questions(table, columns)
    for role, share in (("test", 0.1), ("validation", 1 / 9)):
        if not parts[role] and parts["train"]:
            contexts = [q.context.strip().casefold() for q in parts["train"]]
            n_left = 1 if role == "validation" or parts["validation"] else 2
            out = hold_out(contexts, share, seed, n_left=n_left)
            parts[role] = [q for q, held in zip(parts["train"], out) if held]
            parts["train"] = [q for q, held in zip(parts["train"], out) if not held]
            notes.append(f"{len(parts[role]):,} questions were set aside for {role} (seed {seed}).")
    name = path.absolute().name
    return Questions(name, parts["train"], parts["validation"], parts["test"], notes)


def posed(table: Table, named: Mapping[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """Each row's context and options, whatever the right one is. Errors as of `open_questions`."""
    columns = _columns(table, named, ("context", "options"))
    return _of_rows(table, lambda row, place: _posed(row, columns), "")


def _questions(table: Table, named: Mapping[str, str]) -> list[Question]:
    columns = _columns(table, named, tuple(NAMES))
    return _of_rows(
        table,
        lambda row, place: _question(row, columns, place),
        ", and which of them is right: a number from 0, a letter from A, or the option itself",
    )


def _of_rows(
    table: Table, read: Callable[[Mapping[str, Any], str], Read], answered: str
) -> list[Read]:
    """What is read of each row. Raises DataError naming those that are no questions."""
    found, bad = [], []
    for row, place in zip(table.rows, table.places):
        try:
            found.append(read(row, place))
        except _BadRow as why:
            bad.append(f"{place}: {why}")
    if bad:
        more = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise DataError(
            f"{table.name}: {len(bad):,} of {len(table.rows):,} rows are no questions; "
            f"{'; '.join(bad[:_NAMED])}{more}",
            hint=f"A row has a context, two options at least{answered}.",
        )
    if not found:
        raise DataError(f"{table.name} has no rows", hint="Add questions.")
    return found


def _columns(
    table: Table, named: Mapping[str, str], needed: tuple[str, ...]
) -> dict[str, list[str]]:
    """Our names -> the columns; of options one, or one each. Raises for columns that aren't there.

    Raises UnknownNameError for a name nobody knows, DataError for a table without.
    """
    for ours, theirs in named.items():
        for name, names in ((ours, list(NAMES)), (theirs, table.columns)):
            if name not in names:
                raise UnknownNameError(f"there is no column '{name}'", hint=nearest(name, names))
    folded = {column.casefold(): column for column in reversed(table.columns)}
    found = {ours: [theirs] for ours, theirs in named.items()}
    for ours, usual in NAMES.items():
        if ours not in found and (known := next((n for n in usual if n in folded), None)):
            found[ours] = [folded[known]]
    letters = [folded[c] for c in LETTERS.casefold() if c in folded]
    if "options" not in found and len(letters) > 1:
        found["options"] = letters
    if missing := [name for name in needed if name not in found]:
        raise DataError(
            f"{table.name} has no column for {', '.join(missing)}, but {', '.join(table.columns)}",
            hint=f"Name it: --column {missing[0]}=COLUMN.",
        )
    return found


def _question(row: Mapping[str, Any], columns: Mapping[str, list[str]], place: str) -> Question:
    context, options = _posed(row, columns)
    return Question(context, options, _answer(row.get(columns["answer"][0]), options), place)


def _posed(row: Mapping[str, Any], columns: Mapping[str, list[str]]) -> tuple[str, tuple[str, ...]]:
    context = row.get(columns["context"][0])
    if not isinstance(context, str) or not context.strip():
        raise _BadRow("the context is empty")
    cells = [row.get(column) for column in columns["options"]]
    if len(cells) > 1 and None in cells:
        raise _BadRow(f"option {columns['options'][cells.index(None)]} is missing")
    options = tuple(_listed(cells[0]) if len(cells) == 1 else map(str, cells))
    if len(options) < 2:
        raise _BadRow(f"there are {len(options)} options")
    if empty := [i for i, option in enumerate(options) if not option.strip()]:
        raise _BadRow(f"option {empty[0]} is empty")
    if len(set(options)) < len(options):
        raise _BadRow("two options are the same")
    return context, options


def _listed(value: Any) -> list[str]:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _BadRow(f"the options are no JSON list ({error})") from error
    elif isinstance(value, str):
        value = [part.strip() for part in value.split("|")]
    if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
        raise _BadRow("the options are no list of texts")
    return list(value)


def _answer(value: Any, options: tuple[str, ...]) -> int:
    """The number of the right option. An option's own text goes before what it may also mean."""
    said = str(value).strip()
    texts = [option.strip() for option in options]
    if isinstance(value, str) and said in texts:
        return texts.index(said)
    if said.removesuffix(".0").isdecimal() and int(said.removesuffix(".0")) < len(options):
        return int(said.removesuffix(".0"))
    if len(said) == 1 and said.upper() in LETTERS[: len(options)]:
        return LETTERS.index(said.upper())
    raise _BadRow(f"the answer {value!r} is none of {len(options)} options")
