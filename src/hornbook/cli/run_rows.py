"""The rows of a table as `hornbook run` reads them: which columns, and what is in a cell.

Options and answers are read as where they are learnt from: `data.choices`, `data.preferences`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornbook.errors import DataError, UnknownNameError, nearest

if TYPE_CHECKING:
    from hornbook.data.rows import Table

# What the columns of a table are called, the likeliest first; `text` as in `data.tables`, the text
# of a choice as in `data.choices`.
NAMES = {
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph", "document", "text"),
    "first": ("first", "sentence1", "text1", "premise", "question1"),
    "second": ("second", "sentence2", "text2", "hypothesis", "question2"),
    "labels": ("labels", "candidate_labels"),
    "prompt": ("prompt", "instruction", "question", "query", "text"),
}


def rows_of_table(
    task: str, file: Path, reads: Sequence[str], same: Mapping[str, Any], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    """A row of the task for each of the table's; of answers, for each prompt.

    same: what all rows have. columns: what a person named. Raises UnknownNameError for a column
    that the task doesn't read or the table doesn't have, DataError for rows that are wrong.
    """
    from hornbook.data import choices
    from hornbook.data.rows import read_rows
    from hornbook.data.tables import TEXT_NAMES

    if not file.is_file():
        raise DataError(f"there is no file {file}", hint="Paths are seen from this folder.")
    table = read_rows(file)
    if "answers" in reads and "answers" not in same:
        return _answered(table, columns)
    for note in table.notes:
        print(note, file=sys.stderr)
    if "options" in reads and "options" not in same:
        return _posed(table, columns)
    texts = TEXT_NAMES
    if "options" in reads:  # given for all: the context is called as beside a row's own
        texts = choices.NAMES["context"]
        columns = {"text" if ours == "context" else ours: name for ours, name in columns.items()}
    own = [name for name in reads if name not in same]
    if strange := [name for name in columns if name not in own]:
        raise UnknownNameError(
            f"{task} reads no column '{strange[0]}' of a table", hint=nearest(strange[0], own)
        )
    usual = NAMES | {"text": texts}
    chosen = {name: _column(table, name, columns.get(name), usual[name]) for name in own}
    return [
        dict(same) | {name: _value(row.get(column), name) for name, column in chosen.items()}
        for row in table.rows
    ]


def _posed(table: Table, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    from hornbook.data.choices import posed

    named = {"context" if ours == "text" else ours: theirs for ours, theirs in columns.items()}
    return [{"text": text, "options": list(options)} for text, options in posed(table, named)]


def _answered(table: Table, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    from hornbook.data.preferences import read_answered

    found, notes = read_answered(table, columns)
    for note in notes:
        print(note, file=sys.stderr)
    return [
        {
            "prompt": one.prompt if isinstance(one.prompt, str) else list(map(dict, one.prompt)),
            "answers": list(one.answers),
        }
        for one in found
    ]


def _column(table: Table, name: str, wanted: str | None, usual: Sequence[str]) -> str:
    """The table's column for one of ours. Raises UnknownNameError naming those it has."""
    by_folded = {column.casefold(): column for column in table.columns}
    found = wanted or next((by_folded[k] for k in usual if k in by_folded), None)
    if found is None and name == "text" and len(table.columns) == 1:
        found = table.columns[0]
    if found is None or found not in table.columns:
        raise UnknownNameError(
            f"{table.name} has no column '{wanted or name}'",
            hint=f"{nearest(wanted or name, table.columns)} Say which: --column {name}=COLUMN.",
        )
    return found


def _value(value: Any, name: str) -> Any:
    if name != "labels":
        return "" if value is None else str(value)
    if isinstance(value, str):
        value = _labels(value)
    return [str(one).strip() for one in value or [] if str(one).strip()]


def _labels(cell: str) -> Sequence[Any]:
    """A JSON list; or between "|", ";" or ",", whichever is there first in this order."""
    if cell.lstrip().startswith("["):
        try:
            found = json.loads(cell)
        except ValueError:
            found = None
        if isinstance(found, list):
            return found
    return cell.split(next((mark for mark in "|;" if mark in cell), ","))
