"""Read a table from a file or a folder into rows, each with its place, so that errors can name it.

csv, tsv, jsonl and json, also compressed (.gz, .bz2, .xz, .zst); parquet; Arrow's files and what
`datasets` saved; a folder a label.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornbook.data.arrow_files import is_arrow, read_arrow, saved_parts
from hornbook.errors import DataError

TEXT_FORMS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")
PARQUET = (".parquet", ".pq")
FORMS = (
    "csv, tsv, jsonl, json (each also .gz, .bz2, .xz, .zst), parquet, arrow, a folder saved by "
    "`datasets`, or a folder a label"
)
LARGEST_FIELD = 1 << 30  # characters; the csv module's own limit is 131,072


@dataclass
class Table:
    """Rows as column -> value. places: where each row stands, e.g. "line 17". splits: of each row.

    name: what errors call the table. notes: sentences on how it was read.
    """

    name: str
    columns: list[str]
    rows: list[dict[str, Any]]
    places: list[str]
    splits: list[str] | None = None
    notes: list[str] = field(default_factory=list)


def is_table(path: Path) -> bool:
    """Whether it is one table: a file by its name, or a folder that `datasets` saved."""
    forms = [s.lower() for s in path.suffixes if s.lower() not in COMPRESSIONS]
    named = bool(forms) and forms[-1] in (*TEXT_FORMS, *PARQUET)
    return is_arrow(path) or (named and path.is_file())


def read_rows(path: Path) -> Table:
    """Read a file or folder. Raises DataError naming file and line where it cannot be read."""
    if parts := saved_parts(path):
        return _joined(path, {name: read_rows(part) for name, part in parts.items()})
    if is_arrow(path):
        return _of_arrow(str(path), read_arrow(path))
    if path.is_dir():
        return _read_folder(path)
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in PARQUET:
        return _read_parquet(path)
    form = suffixes[-2:-1] if suffixes and suffixes[-1] in COMPRESSIONS else suffixes[-1:]
    if not form or form[0] not in TEXT_FORMS:
        raise DataError(
            f"{path}: the form of this file is not known by its name", hint=f"Known: {FORMS}."
        )
    text, notes = decode(_bytes(path), str(path))
    if not text.strip():
        raise DataError(f"{path} is empty", hint="A table has a header and at least two rows.")
    read = {"csv": _read_csv, "tsv": _read_tsv, "jsonl": _read_jsonl, "json": _read_json}
    table = read[TEXT_FORMS[form[0]]](str(path), text)
    table.notes[:0] = notes
    return table


def _bytes(path: Path) -> bytes:
    """The file's content, decompressed."""
    try:
        match path.suffix.lower():
            case ".gz":
                return gzip.decompress(path.read_bytes())
            case ".bz2":
                return bz2.decompress(path.read_bytes())
            case ".xz":
                return lzma.decompress(path.read_bytes())
            case ".zst":
                import pyarrow

                with pyarrow.input_stream(str(path), compression="zstd") as stream:
                    return stream.read()
        return path.read_bytes()
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read: {error}",
            hint="Is it whole, readable, and compressed as its name says?",
        ) from error


def decode(data: bytes, name: str) -> tuple[str, list[str]]:
    """Bytes as text, and a note where they are not plain UTF-8.

    A byte-order mark decides; else UTF-8; else UTF-8 with replacement characters, where most of
    what is not ASCII is UTF-8; else what charset-normalizer finds. Raises DataError when binary.
    """
    marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
    encoding = next((e for mark, e in marks.items() if data.startswith(mark)), "utf-8")
    if encoding != "utf-16" and b"\0" in data:
        raise DataError(
            f"{name} is a binary file (a zero byte at position {data.index(0):,})",
            hint=f"Known: {FORMS}. Export a spreadsheet as CSV, UTF-8.",
        )
    try:
        return data.decode(encoding), []
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        reason = f"{name}, line {line}: not valid {encoding.upper()}"
    repaired = data.decode(encoding, errors="replace")
    n_broken = repaired.count("\ufffd")
    n_sound = sum(c > "\x7f" for c in repaired) - n_broken
    if encoding != "utf-8" or n_sound >= n_broken:
        return repaired, [f"{reason}; {n_broken:,} broken character(s) were replaced by '\ufffd'."]

    from charset_normalizer import from_bytes

    # Where few bytes are not ASCII the script is Latin; told so, the guess is right more often.
    latin = sum(byte > 127 for byte in data) < 0.3 * len(data)
    candidates = ["cp1252", "cp1250", "cp1254"] if latin else None
    guess = from_bytes(data[: 1 << 20], cp_isolation=candidates).best()
    if guess is None:
        raise DataError(
            f"{reason}, nor text in any other encoding known",
            hint=f"Is it a text file? Known: {FORMS}. Save it as UTF-8.",
        )
    # The Western encodings agree on most letters: of those that fit, take the common one.
    encoding = "cp1252" if "cp1252" in guess.could_be_from_charset else guess.encoding
    text = data.decode(encoding, errors="replace")
    return text, [
        f"{reason}; it was read as {encoding}, guessed from its bytes. Save the file as UTF-8 if "
        "letters look wrong."
    ]


def _read_csv(name: str, text: str) -> Table:
    header = text.lstrip("\r\n").partition("\n")[0]
    unquoted = re.sub(r'"[^"]*"', "", header)
    delimiter = max(",;\t|", key=unquoted.count)
    table = _read_delimited(name, text, delimiter, csv.QUOTE_MINIMAL)
    if delimiter != ",":
        table.notes.append(f"Columns are separated by {delimiter!r}.")
    return table


def _read_tsv(name: str, text: str) -> Table:
    """Many TSV files never quote and hold stray quote characters: both readings are tried."""
    try:
        return _read_delimited(name, text, "\t", csv.QUOTE_MINIMAL)
    except DataError:
        table = _read_delimited(name, text, "\t", csv.QUOTE_NONE)
        table.notes.append("Quote characters are part of the text: the file does not quote.")
        return table


def _read_delimited(name: str, text: str, delimiter: str, quoting: Any) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    limit = csv.field_size_limit(LARGEST_FIELD)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True
    )
    try:
        line = 1
        for row in reader:
            if row:  # not an empty line
                rows.append(row)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{name}, line {line}: {error}",
            hint="A quote opened in this row is not closed, or stands inside an unquoted field. "
            'Quotes within a quoted field are doubled ("").',
        ) from error
    finally:
        csv.field_size_limit(limit)

    header = [column.strip() or f"column {i}" for i, column in enumerate(rows[0], start=1)]
    if twice := [c for i, c in enumerate(header) if c in header[:i]]:
        raise DataError(
            f"{name}, line {lines[0]}: two columns are named '{twice[0]}'", hint="Rename one."
        )
    if ragged := [i for i, row in enumerate(rows) if len(row) != len(header)]:
        more = f" ({len(ragged) - 1:,} other row(s) too)" if len(ragged) > 1 else ""
        raise DataError(
            f"{name}, line {lines[ragged[0]]}: {len(rows[ragged[0]])} fields where the header has "
            f"{len(header)}{more}",
            hint=f"Columns: {', '.join(header)}. Quote a field that holds {delimiter!r} or a line "
            "break.",
        )
    places = [f"line {n}" for n in lines[1:]]
    return Table(name, header, [dict(zip(header, row)) for row in rows[1:]], places)


def _read_jsonl(name: str, text: str) -> Table:
    rows, places = [], []
    # Not splitlines(): a JSON string may hold U+2028 and the like as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise DataError(
                    f"{name}, line {number}: not JSON: {error}",
                    hint="Each line holds one whole object, {...}, and nothing after it.",
                ) from error
            places.append(f"line {number}")
    return _objects(name, rows, places)


def _read_json(name: str, text: str) -> Table:
    """A list of objects, by itself or as the one list in an object; or JSON lines after all."""
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return _read_jsonl(name, text)
        raise DataError(
            f"{name}, line {error.lineno}: not JSON: {error.msg}",
            hint="A list of objects, or an object a line (then name it .jsonl).",
        ) from error
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list)]
        content = lists[0] if len(lists) == 1 else [content]
    if not isinstance(content, list):
        raise DataError(f"{name} holds no list of objects", hint='[{"text": …, "label": …}, …]')
    return _objects(name, content, [f"row {i}" for i in range(1, len(content) + 1)])


def _objects(name: str, rows: list[Any], places: list[str]) -> Table:
    for row, place in zip(rows, places):
        if not isinstance(row, dict):
            raise DataError(
                f"{name}, {place}: not an object but {type(row).__name__}",
                hint='A row is an object: {"text": …, "label": …}.',
            )
    columns = dict.fromkeys(str(column) for row in rows for column in row)
    return Table(name, list(columns), rows, places)


def _read_parquet(path: Path) -> Table:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as parquet: {str(error).splitlines()[0]}",
            hint="Is the file whole, and a parquet file?",
        ) from error
    return _of_arrow(str(path), table)


def _of_arrow(name: str, table: Any) -> Table:
    rows = table.to_pylist()
    # Files of the Hugging Face hub keep the names of integer classes in the schema.
    about = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features = about.get("info", {}).get("features", {})
    for column, feature in features.items():
        if not isinstance(feature, dict):
            continue
        # Of lists, such as tags, the names stand one deeper.
        inner = feature.get("feature")
        if names := feature.get("names") or (isinstance(inner, dict) and inner.get("names")):
            for row in rows:
                row[column] = class_name(row[column], names)
    places = [f"row {i}" for i in range(1, len(rows) + 1)]
    return Table(name, table.column_names, rows, places)


def _joined(path: Path, parts: dict[str, Table]) -> Table:
    """The parts of a saved set as one table that says which row is of which."""
    return Table(
        str(path),
        list(dict.fromkeys(column for table in parts.values() for column in table.columns)),
        [row for table in parts.values() for row in table.rows],
        [f"{name}, {place}" for name, table in parts.items() for place in table.places],
        splits=[name for name, table in parts.items() for _ in table.rows],
    )


def class_name(value: Any, names: list[str]) -> Any:
    """The name of a class given by its number; None for -1, which stands for "not labelled"."""
    if isinstance(value, list):
        return [class_name(v, names) for v in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None


def _read_folder(path: Path) -> Table:
    """A folder a label with .txt files in it; or such folders below `train` and `test`."""
    table = Table(str(path), ["text", "label"], [], [])
    halves = [path / "train", path / "test"]
    splits = halves if all(half.is_dir() for half in halves) else [path]
    row_splits = []
    for top in splits:
        for file in sorted(top.glob("*/**/*.txt")):
            text, notes = decode(_bytes(file), str(file))
            table.rows.append({"text": text, "label": file.relative_to(top).parts[0]})
            table.places.append(file.relative_to(path).as_posix())
            table.notes += notes
            row_splits.append(top.name)
    if not table.rows:
        raise DataError(
            f"{path} holds no texts",
            hint="A folder of data has a folder a label, with .txt files in it (also below 'train' "
            "and 'test').",
        )
    if len(splits) > 1:
        table.splits = row_splits
    return table
