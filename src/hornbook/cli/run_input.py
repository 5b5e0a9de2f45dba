"""What `hornbook run` reads: texts given, lines of a file or of standard input, rows of a table."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbook.errors import ConfigError, DataError, UnknownNameError, nearest

# What the columns of a table are called, the likeliest first; `text` as in `data.tables`.
NAMES = {
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph", "document", "text"),
    "first": ("first", "sentence1", "text1", "premise", "question1"),
    "second": ("second", "sentence2", "text2", "hypothesis", "question2"),
    "options": ("options", "choices", "endings"),
    "labels": ("labels", "candidate_labels"),
}


@dataclass(frozen=True)
class Given:
    """What was given beside the texts, by its name in a row."""

    texts: Sequence[str] = ()
    file: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    context: str | None = None
    context_file: Path | None = None
    labels: Sequence[str] = ()
    options: Sequence[str] = ()


def rows_of(task: str, reads: Sequence[str], given: Given) -> list[dict[str, Any]]:
    """A row for each text, question or pair. Raises ConfigError for what is missing."""
    same = _same_for_all(task, reads, given)
    if given.file is not None and given.texts:
        raise ConfigError("--file and texts don't go together", hint="Give one of them.")
    if given.file is not None and given.file.suffix.lower() not in ("", ".txt", ".md", ".text"):
        return _of_table(given.file, reads, same, given.columns)
    if given.file is not None:
        texts = _lines(_bytes(given.file), str(given.file))
    else:
        texts = [line for text in given.texts for line in _said(text)]
    if not texts:
        raise ConfigError(
            "there is nothing to read",
            hint=f'hornbook run {task} MODEL "a text"; or --file F; or - for standard input.',
        )
    if "second" in reads:
        if len(texts) % 2:
            raise ConfigError(
                f"{len(texts)} text(s) make no pairs", hint="Give two texts, or a table: --file F."
            )
        return [{"first": a, "second": b} for a, b in zip(texts[::2], texts[1::2], strict=True)]
    return [{reads[0]: text} | same for text in texts]


def _same_for_all(task: str, reads: Sequence[str], given: Given) -> dict[str, Any]:
    """What is not a row's own: the context of all questions, labels, options."""
    same: dict[str, Any] = {}
    context = given.context
    if given.context_file is not None:
        context = _text(_bytes(given.context_file), str(given.context_file))
    in_file = given.file is not None
    for name, value, how in (
        ("context", context, '--context "…" or --context-file F'),
        ("labels", _split(given.labels), "--label urgent --label later"),
        ("options", list(given.options), "--option one --option two"),
    ):
        if name not in reads:
            if value:
                raise ConfigError(f"{task} reads no {name}", hint=f"It reads {', '.join(reads)}.")
        elif value:
            same[name] = value
        elif not in_file:
            raise ConfigError(f"{task} needs {name}", hint=f"Give {how}.")
    return same


def _split(labels: Sequence[str]) -> list[str]:
    """--label a --label b, or --label a,b."""
    return [part.strip() for label in labels for part in label.split(",") if part.strip()]


def _of_table(
    file: Path, reads: Sequence[str], same: Mapping[str, Any], columns: Mapping[str, str]
) -> list[dict[str, Any]]:
    from hornbook.data.rows import read_rows
    from hornbook.data.tables import TEXT_NAMES

    if not file.is_file():
        raise DataError(f"there is no file {file}", hint="Paths are seen from this folder.")
    table = read_rows(file)
    for note in table.notes:
        print(note, file=sys.stderr)
    chosen: dict[str, str] = {}
    for name in reads:
        if name in same:
            continue
        wanted = columns.get(name)
        known = TEXT_NAMES if name == "text" else NAMES[name]
        by_folded = {column.casefold(): column for column in table.columns}
        found = wanted or next((by_folded[k] for k in known if k in by_folded), None)
        if found is None and name == "text" and len(table.columns) == 1:
            found = table.columns[0]
        if found is None or found not in table.columns:
            raise UnknownNameError(
                f"{file} has no column '{wanted or name}'",
                hint=f"{nearest(wanted or name, table.columns)} Say which: --column {name}=COLUMN.",
            )
        chosen[name] = found
    return [
        dict(same) | {name: _value(row.get(column), name) for name, column in chosen.items()}
        for row in table.rows
    ]


def _value(value: Any, name: str) -> Any:
    if name in ("options", "labels"):
        if isinstance(value, str):
            return [part.strip() for part in value.split(";" if ";" in value else ",")]
        return [str(one) for one in value or []]
    return "" if value is None else str(value)


def _said(text: str) -> list[str]:
    return _lines(sys.stdin.buffer.read(), "standard input") if text == "-" else [text]


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise DataError(f"there is no file {path}", hint="Paths are seen from this folder.")
    return path.read_bytes()


def _text(data: bytes, name: str) -> str:
    from hornbook.data.rows import decode

    text, notes = decode(data, name)
    for note in notes:
        print(note, file=sys.stderr)
    return text


def _lines(data: bytes, name: str) -> list[str]:
    lines = _text(data, name).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]
