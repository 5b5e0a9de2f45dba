"""The text column of a table as a stream of documents: csv, tsv, jsonl, json, parquet, the hub.

The form follows from the name; csv, tsv and jsonl may be compressed. Rows without text are left out
and counted. Memory holds one row, or one batch of a parquet file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hornbook.data.arrow_files import batches, is_arrow
from hornbook.data.hub import stream_rows
from hornbook.data.rows import COMPRESSIONS, LARGEST_FIELD, PARQUET, TEXT_FORMS, read_rows
from hornbook.data.tables import MISSING_TEXTS, TEXT_NAMES
from hornbook.data.textfiles import pieces_of, reading
from hornbook.errors import DataError, UnknownNameError, nearest

LOOK = 100  # rows that a guess of the text column is made from

Row = dict[str, Any]


def texts_of(path: Path, column: str | None, notes: list[str]) -> Iterator[str]:
    """The texts of a table, in its order.

    column: guessed where None: one named like a text (`text`, `body`, ...), else the longest.
    Raises DataError naming file and line, UnknownNameError with the nearest column.
    """
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    if suffixes[-1] in PARQUET:
        yield from _parquet(path, column, notes)
        return
    if is_arrow(path):
        yield from _column(_arrow(path), column, str(path), notes)
        return
    match TEXT_FORMS[suffixes[-1]]:
        case "csv":
            rows = _delimited(path, notes, None)
        case "tsv":
            rows = _delimited(path, notes, "\t")
        case "jsonl":
            rows = _json_lines(path, notes)
        case _:
            rows = iter(read_rows(path).rows)
    yield from _column(rows, column, str(path), notes)


def hub_texts(name: str, column: str | None, notes: list[str]) -> Iterator[str]:
    """The texts of a data set's training part on the hub, in a stream."""
    yield from _column(stream_rows(name), column, name, notes)


def _column(rows: Iterator[Row], column: str | None, name: str, notes: list[str]) -> Iterator[str]:
    """One column's texts without the missing ones, which are counted in a note."""
    first = list(islice(rows, LOOK))
    chosen = choose_column(first, column, name, notes)
    if chosen is None:
        return
    n_missing = 0
    for row in chain(first, rows):
        value = row.get(chosen)
        text = value if isinstance(value, str) else ""
        if text.strip() in MISSING_TEXTS:
            n_missing += 1
        else:
            # Half an emoji, as a cut JSON string leaves it, cannot be written or tokenized.
            yield text.encode("utf-8", "replace").decode("utf-8")
    if n_missing:
        note = f"{name}: {n_missing:,} row(s) without text in '{chosen}' were left out."
        notes.extend([note] if note not in notes else [])


def choose_column(rows: list[Row], column: str | None, name: str, notes: list[str]) -> str | None:
    """The text column by name or by guess; None for a table without rows."""
    columns = list(dict.fromkeys(c for row in rows for c in row))
    if column is not None:
        if columns and column not in columns:
            raise UnknownNameError(
                f"{name} has no column '{column}'", hint=nearest(column, columns)
            )
        return column if columns else None
    if not columns:
        return None
    folded = {c.casefold(): c for c in columns}
    lengths = {c: sum(len(v) for row in rows if isinstance(v := row.get(c), str)) for c in columns}
    chosen = next((folded[n] for n in TEXT_NAMES if n in folded and lengths[folded[n]]), None)
    chosen = chosen or max(lengths, key=lengths.__getitem__)
    if not lengths[chosen]:
        raise DataError(f"{name} has no column with text", hint=f"Columns: {', '.join(columns)}.")
    if len(columns) > 1:
        note = f"{name}: the text is column '{chosen}' (of {', '.join(columns)})."
        notes.extend([note] if note not in notes else [])
    return chosen


def _lines(path: Path, notes: list[str]) -> Iterator[str]:
    """The lines of a text with their ends, whatever a line separator inside a field is."""
    held = ""
    for piece in pieces_of(path, notes):
        *whole, held = (held + piece).split("\n")
        for line in whole:
            yield line + "\n"
    if held:
        yield held


def _delimited(path: Path, notes: list[str], delimiter: str | None) -> Iterator[Row]:
    lines = _lines(path, notes)
    header = next(lines, "")
    delimiter = delimiter or max(",;\t|", key=header.count)
    limit = csv.field_size_limit(LARGEST_FIELD)
    reader = csv.reader(chain([header], lines), delimiter=delimiter, strict=delimiter != "\t")
    columns: list[str] = []
    start = 1
    try:
        for row in reader:
            if not columns:
                columns = [c.strip() for c in row]
            elif row:
                if len(row) != len(columns):
                    raise DataError(
                        f"{path}, line {start}: {len(row)} fields where the header has "
                        f"{len(columns)}",
                        hint=f"Columns: {', '.join(columns)}. Quote a field that holds "
                        f"{delimiter!r} or a line break.",
                    )
                yield dict(zip(columns, row))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {start}: {error}",
            hint='Quotes within a quoted field are doubled ("").',
        ) from error
    finally:
        csv.field_size_limit(limit)


def _json_lines(path: Path, notes: list[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path, notes), start=1):
        if line.isspace():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"{path}, line {number}: not JSON: {error}",
                hint="Each line holds one whole object, {...}, and nothing after it.",
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: not an object but {type(row).__name__}",
                hint='A row is an object: {"text": …}.',
            )
        yield row


def _arrow(path: Path) -> Iterator[Row]:
    for batch in batches(path):
        yield from batch.to_pylist()


def _parquet(path: Path, column: str | None, notes: list[str]) -> Iterator[str]:
    import pyarrow.parquet

    with reading(path):
        file = pyarrow.parquet.ParquetFile(path)
    with file:
        first: Iterable[Any] = islice(_batches(path, file, None, LOOK), 1)
        rows = [row for batch in first for row in batch.to_pylist()]
        chosen = choose_column(rows, column, str(path), notes)
        if chosen is not None:
            batches = _batches(path, file, [chosen], 1000)
            values = (row for batch in batches for row in batch.to_pylist())
            yield from _column(values, chosen, str(path), notes)


def _batches(path: Path, file: Any, columns: list[str] | None, n_rows: int) -> Iterator[Any]:
    with reading(path):
        yield from file.iter_batches(batch_size=n_rows, columns=columns)
