"""Turn a table into a data set: which column is the text, which the label, and what is left out.

Columns that are not named are guessed; the data set's notes say so, and say what was dropped.
"""

from __future__ import annotations

import ast
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hornbook.data.examples import Document, Example, TextDataset
from hornbook.data.rows import Table, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

# Names as people give them, the likeliest first.
TEXT_NAMES: tuple[str, ...] = (
    "text",
    "body",
    "content",
    "message",
    "sentence",
    "document",
    "review",
    "comment",
)
TEXT_NAMES += ("description", "abstract", "question", "utterance", "query", "tweet", "post")
TEXT_NAMES += ("email", "article", "story")
TITLE_NAMES = ("title", "subject", "headline")
LABEL_NAMES: tuple[str, ...] = (
    "label",
    "labels",
    "category",
    "categories",
    "class",
    "classes",
    "topic",
    "topics",
)
LABEL_NAMES += ("target", "tag", "tags", "intent", "sentiment", "genre", "section", "y")
ID_NAMES = ("id", "_id", "uid", "uuid", "doc_id", "docid", "document_id", "text_id")
SPLIT_NAMES = ("split", "set", "fold", "subset", "partition")
SPLIT_VALUES = {"train": "train", "training": "train", "test": "test", "testing": "test"}
SPLIT_VALUES |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SEPARATORS = ";|,/"

# What exporters write for an empty cell. "None" and "null" may well be labels.
MISSING_LABELS = {"", "nan", "NaN", "<NA>"}
MISSING_TEXTS = MISSING_LABELS | {"null", "NULL", "None"}


@dataclass(frozen=True)
class Columns:
    """Which columns to read. What is None is guessed; `split` and `title` need not exist."""

    text: str | None = None
    label: str | None = None
    title: str | None = None
    split: str | None = None


def load_table(
    path: str | Path,
    text: str | None = None,
    label: str | None = None,
    title: str | None = None,
    label_separator: str | None = None,
    split_column: str | None = None,
) -> TextDataset:
    """Read labelled texts from a file or a folder.

    label_separator: what stands between several labels in one field, e.g. ";"; a list, or a string
    that holds one, needs none. Raises DataError naming file and place, UnknownNameError for a
    column that is not there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        beside = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
        raise DataError(
            f"there is no file {path}",
            hint=nearest(path.name, beside) if beside else f"There is no folder {path.parent}.",
        )
    name = path.name.partition(".")[0] if path.is_file() else path.resolve().name
    columns = Columns(text, label, title, split_column)
    return dataset_of(read_rows(path), name, columns, label_separator)


def dataset_of(
    table: Table, name: str, columns: Columns, label_separator: str | None = None
) -> TextDataset:
    """Make a data set of a table's rows; texts and labels that are missing are dropped and counted.

    Raises DataError where fewer than two labels, or no texts are left.
    """
    notes = list(table.notes)
    columns = choose_columns(table, columns, notes)
    assert columns.text is not None and columns.label is not None
    split_of = _splits(table, columns.split)
    labels_of, is_list = _labels(table, columns.label, label_separator)
    ids = _ids(table, notes)

    parts: dict[str, list[Example]] = {"train": [], "test": []}
    validation_ids = set()
    n_without_text = n_without_label = 0
    for row, split, labels, id in zip(table.rows, split_of, labels_of, ids):
        document = Document(_text(row, columns.text), _text(row, columns.title))
        if not document.full.strip():
            n_without_text += 1
        elif not labels:
            n_without_label += 1
        else:
            parts["test" if split == "test" else "train"].append(Example(document, labels, id))
            if split == "validation":
                validation_ids.add(id)
    if n_without_text:
        notes.append(f"{n_without_text:,} row(s) without text were dropped.")
    if n_without_label:
        notes.append(f"{n_without_label:,} row(s) without a label were dropped.")

    examples = parts["train"] + parts["test"]
    multi_label = any(len(e.labels) > 1 for e in examples)
    _check(table.name, columns, examples, parts["train"], notes)
    if multi_label:
        per_text = sum(len(e.labels) for e in examples) / len(examples)
        notes.append(f"Several labels a text: {per_text:.2f} on average.")
    elif is_list:
        notes.append("The labels are lists, but each text has one: treated as single-label.")
    else:
        notes += _separator_hint(examples)
    return TextDataset(
        name=name,
        train=parts["train"],
        test=parts["test"] or None,
        multi_label=multi_label,
        source=table.name,
        notes=notes,
        validation_ids=frozenset(validation_ids),
    )


def choose_columns(table: Table, columns: Columns, notes: list[str]) -> Columns:
    """All columns named: those asked for, checked, and guesses for the others."""
    asked = [columns.text, columns.label, columns.title, columns.split]
    for column in asked:
        if column is not None and column not in table.columns:
            raise UnknownNameError(
                f"{table.name} has no column '{column}'", hint=nearest(column, table.columns)
            )
    if not table.rows:
        raise DataError(f"{table.name} has a header and no rows", hint="Add labelled texts.")
    if len(table.columns) < 2:
        raise DataError(
            f"{table.name} has one column only, '{table.columns[0]}'",
            hint="A table needs a text and a label column, and a header line that names them.",
        )
    guessed = []

    def named(names: Sequence[str]) -> str | None:
        folded = {c.casefold(): c for c in table.columns if c not in asked}
        return next((folded[n] for n in names if n in folded), None)

    title = columns.title
    if title is None and (title := named(TITLE_NAMES)):
        asked.append(title)
        guessed.append(f"title '{title}'")
    label = columns.label or named(LABEL_NAMES)
    asked.append(label)
    text = columns.text or named(TEXT_NAMES)
    if text is None and columns.title is None and title:
        text, title = title, None  # a title alone is the text
        guessed.clear()
    text = text or _longest(table, asked)
    label = label or _most_repeated(table, [*asked, text])
    if text is None or label is None:
        raise DataError(
            f"{table.name}: which column is the {'text' if text is None else 'label'}?",
            hint=f"Name it with --text and --label. Columns: {', '.join(table.columns)}.",
        )
    guessed += [f"text '{text}'"] if columns.text is None else []
    guessed += [f"label '{label}'"] if columns.label is None else []
    split = columns.split or (None if table.splits else split_column(table, asked))
    guessed += [f"split '{split}'"] if split and columns.split is None else []
    if guessed and table.columns != ["text", "label"]:
        notes.append(f"Columns guessed: {', '.join(guessed)} (of {', '.join(table.columns)}).")
    return replace(columns, text=text, label=label, title=title, split=split)


def split_column(table: Table, taken: Sequence[str | None] = ()) -> str | None:
    """The column that tells each row's part, if one is named so and says nothing else."""
    folded = {c.casefold(): c for c in table.columns if c not in taken}
    column = next((folded[n] for n in SPLIT_NAMES if n in folded), None)
    values = {str(row.get(column)).casefold() for row in table.rows} if column else set()
    return column if values <= SPLIT_VALUES.keys() else None


def _longest(table: Table, taken: Sequence[str | None]) -> str | None:
    """The column with the longest strings, if they are of ten characters at least on average."""
    lengths = {
        c: sum(len(v) for row in table.rows if isinstance(v := row.get(c), str)) / len(table.rows)
        for c in table.columns
        if c not in taken
    }
    best = max(lengths, key=lengths.__getitem__, default=None)
    return best if best is not None and lengths[best] >= 10 else None


def _most_repeated(table: Table, taken: Sequence[str | None]) -> str | None:
    """The column with the fewest different values, two at least, each found twice on average."""
    different = {
        c: len({str(row.get(c)) for row in table.rows}) for c in table.columns if c not in taken
    }
    fit = {c: n for c, n in different.items() if 2 <= n <= len(table.rows) / 2}
    return min(fit, key=fit.__getitem__, default=None)


def _splits(table: Table, column: str | None) -> list[str]:
    """The split of each row: train, validation or test."""
    if column is not None:
        values = [str(row.get(column)).casefold() for row in table.rows]
    else:
        values = table.splits or ["train"] * len(table.rows)
    for value, place in zip(values, table.places):
        if value not in SPLIT_VALUES:
            raise DataError(
                f"{table.name}, {place}: the split '{value}' in column '{column}' is not known",
                hint=f"Known: {', '.join(SPLIT_VALUES)}.",
            )
    return [SPLIT_VALUES[value] for value in values]


def _labels(table: Table, column: str, separator: str | None) -> tuple[list[tuple[str, ...]], bool]:
    """Each row's labels, without repeats (none where missing), and whether these are lists."""
    values = [row.get(column) for row in table.rows]
    strings = [v.strip() for v in values if isinstance(v, str) and v.strip() not in MISSING_LABELS]
    lists = bool(strings) and all(s.startswith("[") and s.endswith("]") for s in strings)
    found = []
    for value, place in zip(values, table.places):
        if isinstance(value, dict):
            raise DataError(
                f"{table.name}, {place}: the label in column '{column}' is an object",
                hint="A label is a string, a number, or a list of these.",
            )
        if isinstance(value, str) and lists and value.strip() not in MISSING_LABELS:
            value = _parsed_list(value, f"{table.name}, {place}")
        elif isinstance(value, str) and separator:
            value = value.split(separator)
        several = value if isinstance(value, list | tuple) else [value]
        names = (label_name(v) for v in several)
        found.append(tuple(dict.fromkeys(n for n in names if n not in MISSING_LABELS)))
    return found, lists or bool(separator) or any(isinstance(v, list | tuple) for v in values)


def _parsed_list(value: str, place: str) -> list[Any]:
    """A list written as JSON, or as Python prints it (which is how pandas exports lists)."""
    try:
        return json.loads(value)
    except ValueError:
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError) as error:
            raise DataError(
                f"{place}: not a list of labels: {value[:60]}",
                hint='Write ["a", "b"], or "a;b" and give the label separator.',
            ) from error


def label_name(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of whole numbers with gaps comes as floats
    return "" if value is None else _written(value)


def _text(row: dict[str, Any], column: str | None) -> str:
    text = _written(row.get(column)) if column else ""
    return "" if text in MISSING_TEXTS else text


def _written(value: Any) -> str:
    """The value as text; half an emoji, as a cut JSON string leaves it, becomes a question mark."""
    return str(value).encode("utf-8", "replace").decode("utf-8").strip()


def _ids(table: Table, notes: list[str]) -> list[str]:
    """An id for each row, all different: the id column's, else the row's place."""
    column = next((c for c in table.columns if c.casefold() in ID_NAMES), None)
    if column is None:
        return [place.removeprefix("line ").removeprefix("row ") for place in table.places]
    ids = [label_name(row.get(column)) or place for row, place in zip(table.rows, table.places)]
    twice = {id for id, n in Counter(ids).items() if n > 1}
    if twice:
        notes.append(
            f"{len(twice):,} id(s) in column '{column}' stand in several rows "
            f"({', '.join(sorted(twice)[:5])}); there the row's place is added."
        )
    return [f"{id} ({place})" if id in twice else id for id, place in zip(ids, table.places)]


def _check(
    name: str, columns: Columns, examples: list[Example], train: list[Example], notes: list[str]
) -> None:
    """Refuse what cannot be learnt; say of rare labels what their rarity costs."""
    if not examples:
        raise DataError(
            f"{name}: no row has both a text in '{columns.text}' and a label in '{columns.label}'",
            hint="; ".join(notes) or "Is the table filled?",
        )
    if not train:
        raise DataError(
            f"{name}: all rows belong to the test split", hint="Mark training rows 'train'."
        )
    counts = Counter(label for e in examples for label in e.labels)
    if len(counts) == 1:
        raise DataError(
            f"{name}: all {len(examples):,} texts have the label '{next(iter(counts))}'",
            hint=f"Is '{columns.label}' the label column? Classification needs two labels.",
        )
    if len(counts) == sum(counts.values()) > 2:
        raise DataError(
            f"{name}: all {len(counts):,} labels in '{columns.label}' are different",
            hint="Is it the label column? A label must recur to be learnt.",
        )
    if single := sorted(label for label, n in counts.items() if n == 1):
        notes.append(
            f"{len(single)} label(s) have a single text ({', '.join(single[:5])}"
            f"{', …' if len(single) > 5 else ''}): it is trained on, the label cannot be scored."
        )


def _separator_hint(examples: list[Example]) -> list[str]:
    """Say when single labels look like several with a separator between."""
    labels = Counter(e.labels[0] for e in examples)
    for separator in SEPARATORS:
        joined = sum(n for label, n in labels.items() if separator in label)
        pieces = {p.strip() for label in labels for p in label.split(separator)}
        if joined >= 0.05 * len(examples) and len(pieces) < len(labels):
            return [
                f"{joined:,} labels hold '{separator}': if these are several labels, give "
                f"--label-separator '{separator}'."
            ]
    return []
