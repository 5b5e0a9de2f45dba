"""Labelled texts and pairs of texts, divided: what fine-tuning of a classifier reads.

One table, which is divided here; or a folder with a file a part, as GLUE's tasks come (train.tsv,
dev.tsv, test.tsv): of such a folder only files of a table's form are looked at. A part whose labels
are missing, as GLUE's test parts, is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from hornbook.data.datasets import DATASETS
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.data.open import open_dataset
from hornbook.data.part_files import part_files, read_part
from hornbook.data.roles import hint_for_missing
from hornbook.data.rows import Table
from hornbook.data.splits import make_splits
from hornbook.data.tables import (
    LABEL_NAMES,
    MISSING_LABELS,
    MISSING_TEXTS,
    SPLIT_VALUES,
    Columns,
    choose_columns,
    dataset_of,
    label_name,
    split_column,
)
from hornbook.errors import ConfigError, DataError, UnknownNameError, nearest

# What the two texts of a pair are called, the likeliest first.
PAIR_NAMES = (
    ("sentence1", "sentence2"),
    ("sentence 1", "sentence 2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("first", "second"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("#1 string", "#2 string"),
    ("query", "passage"),
)
SCORE_NAMES = ("score", "similarity", "relatedness", "stars", "rating")
MOST_NUMBERS = 10  # so many different whole numbers are labels; more, or halves, are a scale


@dataclass(frozen=True, slots=True)
class TextPair:
    """Two texts, and what is to be told of them: a label, or a number; "" where unknown."""

    first: str
    second: str
    label: str = ""
    id: str = ""

    @property
    def text(self) -> str:
        """Both as one, to be compared with others."""
        return f"{self.first}\n{self.second}"


@dataclass(frozen=True)
class Labelled:
    """Examples, divided. label_names: of the training part, sorted. notes: for the reader."""

    name: str
    train: list[Example]
    validation: list[Example]
    test: list[Example] | None
    label_names: tuple[str, ...]
    multi_label: bool = False
    notes: list[str] = field(default_factory=list)
    source: str = ""
    licence: str = ""


@dataclass(frozen=True)
class LabelledPairs:
    """Pairs, divided. numbers: whether what is told of a pair is a number on a scale."""

    name: str
    train: list[TextPair]
    validation: list[TextPair]
    test: list[TextPair] | None
    label_names: tuple[str, ...]
    numbers: bool
    notes: list[str] = field(default_factory=list)
    source: str = ""


def open_labelled(
    data: str,
    *,
    text: str | None = None,
    label: str | None = None,
    title: str | None = None,
    label_separator: str | None = None,
    seed: int = 0,
) -> Labelled:
    """Open labelled texts: a folder with a file a part, or whatever `open_dataset` opens.

    Raises DataError and UnknownNameError as that does.
    """
    path = Path(data).expanduser()
    notes: list[str] = []
    if data in DATASETS or not path.is_dir() or not (files := part_files(path, notes)):
        dataset = open_dataset(
            data, text=text, label=label, title=title, label_separator=label_separator
        )
        return _divided(dataset, seed)
    columns = Columns(text=text, label=label, title=title)
    found: dict[str, TextDataset] = {}
    for part, its in files.items():
        file, table = its[0], read_part(its)
        if part != "train" and columns.label not in table.columns:
            notes.append(f"{file.name} has no labels ('{columns.label}') and is left out.")
            continue
        if part == "train":
            columns = choose_columns(table, columns, notes)
        found[part] = dataset_of(table, path.name, columns, label_separator)
        notes += [f"{file.name}: {note}" for note in found[part].notes]
    train, test = found["train"], found.get("test")
    multi_label = any(dataset.multi_label for dataset in found.values())
    whole = TextDataset(
        path.name,
        train.train,
        test.train if test else None,
        multi_label=multi_label,
        source=str(path),
        notes=notes,
    )
    if "validation" not in found:
        return _divided(whole, seed)
    return Labelled(
        path.name,
        train.train,
        found["validation"].train,
        whole.test,
        tuple(sorted({label for e in train.train for label in e.labels})),
        multi_label,
        notes,
        str(path),
    )


def _divided(dataset: TextDataset, seed: int) -> Labelled:
    """The parts that did not come with the data are made of what there is."""
    validation = [e for e in dataset.train if e.id in dataset.validation_ids]
    rest = [e for e in dataset.train if e.id not in dataset.validation_ids]
    if not rest:
        raise DataError(
            f"{dataset.name}: all rows for training belong to the validation split",
            hint="Mark training rows 'train'.",
        )
    splits = make_splits(replace(dataset, train=rest, validation_ids=frozenset()), seed=seed)
    train = splits.train + splits.validation if validation else splits.train
    if validation:
        splits.notes.append(f"{len(validation):,} rows are marked as validation.")
    return Labelled(
        dataset.name,
        train,
        validation or splits.validation,
        splits.test,
        tuple(splits.label_names),
        dataset.multi_label,
        dataset.notes + splits.notes,
        dataset.source,
        dataset.licence,
    )


def open_labelled_pairs(
    data: str,
    *,
    first: str | None = None,
    second: str | None = None,
    label: str | None = None,
    seed: int = 0,
) -> LabelledPairs:
    """Open pairs of texts with a label or a number each: a table, or a folder with a file a part.

    first, second, label: columns, guessed where None. The STS Benchmark's files, which have no
    header, are known by their form. Raises DataError for what cannot be read, UnknownNameError for
    a column that is not there.
    """
    path = Path(data).expanduser()
    if not path.exists():
        raise DataError(
            f"there is no file or folder {data}",
            hint=f"Name a table, or a folder with train.tsv. {hint_for_missing(path)}",
        )
    notes: list[str] = []
    files = part_files(path, notes) if path.is_dir() else {"train": [path]}
    if not files:
        raise DataError(
            f"{path} has no table for training", hint="Name a file of it train.tsv, .csv or .jsonl."
        )
    found: dict[str, list[TextPair]] = {}
    for part, its in files.items():
        parts = {part: [p for file in its for p in _sts_pairs(file)]}
        if not parts[part]:
            table = read_part(its)
            rows = _table_pairs(table, first, second, label, notes)
            parts = _by_split(table, rows, notes) if len(files) == 1 else {part: rows}
        for role, pairs in parts.items():
            labelled = [p for p in _with_scores(pairs, its[0].name) if p.label]
            if n := len(pairs) - len(labelled):
                notes.append(f"{n:,} pairs of {its[0].name} have no label and are left out.")
            if labelled:
                found[role] = labelled
    if "train" not in found:
        raise DataError(
            f"{files['train'][0]}: no pair has a label", hint="Name its column: --column label=..."
        )
    _hold_out(found, seed, notes)
    numbers = is_scale([pair.label for pair in found["train"]])
    names = () if numbers else tuple(sorted({pair.label for pair in found["train"]}))
    if len(names) == 1:
        raise DataError(
            f"{data}: all {len(found['train']):,} pairs have the label '{names[0]}'",
            hint="Is it the right column? Two labels are needed, or numbers on a scale.",
        )
    return LabelledPairs(
        path.name.partition(".")[0],
        found["train"],
        found["validation"],
        found.get("test"),
        names,
        numbers,
        notes,
        str(path),
    )


def _by_split(table: Table, pairs: list[TextPair], notes: list[str]) -> dict[str, list[TextPair]]:
    """A single table's pairs by the column that tells their parts, if it has one."""
    column = split_column(table)
    if column is None:
        return {"train": pairs}
    notes.append(f"{table.name}: divided by '{column}'.")
    parts: dict[str, list[TextPair]] = {}
    for row, pair in zip(table.rows, pairs, strict=True):
        parts.setdefault(SPLIT_VALUES[str(row[column]).casefold()], []).append(pair)
    return parts


def _with_scores(pairs: list[TextPair], name: str) -> list[TextPair]:
    """The same; where all labels are numbers, nan is none. Raises DataError for infinite ones."""
    if not all(_is_number(pair.label) for pair in pairs if pair.label):
        return pairs
    for pair in pairs:
        if pair.label and math.isinf(float(pair.label)):
            raise DataError(
                f"{name}, {pair.id}: the score is {pair.label}",
                hint="Give a number, or leave it empty.",
            )
    return [
        replace(pair, label="") if pair.label and math.isnan(float(pair.label)) else pair
        for pair in pairs
    ]


def is_scale(labels: Sequence[str]) -> bool:
    """Whether these are numbers on a scale: with halves among them, or very many whole ones."""
    try:
        values = {float(label) for label in labels}
    except ValueError:
        return False
    return len(values) > MOST_NUMBERS or not all(value.is_integer() for value in values)


def _hold_out(found: dict[str, list[TextPair]], seed: int, notes: list[str]) -> None:
    """Make the parts that are missing, of each label the same share, as other data are divided."""
    if "validation" in found:
        return
    pairs = found["train"]
    scale = is_scale([pair.label for pair in pairs])

    def examples(pairs: list[TextPair]) -> list[Example]:
        # Of a scale each whole step is a stratum.
        strata = (str(round(float(p.label))) if scale else p.label for p in pairs)
        rows = enumerate(zip(pairs, strata, strict=True))
        return [Example(Document(p.text), (stratum,), str(i)) for i, (p, stratum) in rows]

    tested = examples(found["test"]) if "test" in found else None
    splits = make_splits(TextDataset("the pairs", examples(pairs), tested), seed=seed)
    notes += splits.notes
    found["train"] = [pairs[int(e.id)] for e in splits.train]
    found["validation"] = [pairs[int(e.id)] for e in splits.validation]
    if "test" not in found:
        found["test"] = [pairs[int(e.id)] for e in splits.test]


def _table_pairs(
    table: Table, first: str | None, second: str | None, label: str | None, notes: list[str]
) -> list[TextPair]:
    folded = {c.casefold(): c for c in table.columns}
    for column in (first, second, label):
        if column is not None and column not in table.columns:
            raise UnknownNameError(
                f"{table.name} has no column '{column}'", hint=nearest(column, table.columns)
            )
    if (first is None) != (second is None):
        raise ConfigError(
            "one text of the pairs is named, the other is not",
            hint="Name both: --column first=... --column second=...",
        )
    guessed = next((p for p in PAIR_NAMES if p[0] in folded and p[1] in folded), None)
    if first is None and guessed is None:
        raise DataError(
            f"{table.name}: which columns are the two texts?",
            hint="Name them: --column first=... --column second=... Columns: "
            f"{', '.join(table.columns)}.",
        )
    left = first or folded[guessed[0]]  # type: ignore[index]
    right = second or folded[guessed[1]]  # type: ignore[index]
    names = ("gold_label", *LABEL_NAMES, *SCORE_NAMES, "quality", "is_duplicate")
    named = label or next((folded[n] for n in names if n in folded), None)
    notes.append(f"{table.name}: '{left}' and '{right}', label '{named}'.")
    pairs = []
    for row, place in zip(table.rows, table.places):
        texts = [str(row.get(c) if row.get(c) is not None else "").strip() for c in (left, right)]
        if any(text in MISSING_TEXTS for text in texts):
            raise DataError(
                f"{table.name}, {place}: a text of the pair is missing",
                hint="Fill it in, or take the row out.",
            )
        told = label_name(row.get(named)) if named else ""
        # SNLI's "-" says that its judges did not agree.
        told = "" if told in MISSING_LABELS or told == "-" else told
        pairs.append(TextPair(texts[0], texts[1], told, place))
    return pairs


def _sts_pairs(file: Path) -> list[TextPair]:
    """Pairs of the STS Benchmark (genre, file, year, id, score, two texts); else []."""
    if file.suffix.lower() not in (".csv", ".tsv"):
        return []
    pairs = []
    text = file.read_text(encoding="utf-8", errors="replace")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line:
            continue
        fields = line.split("\t")
        if len(fields) < 7 or not _is_number(fields[4]):
            return []
        pairs.append(TextPair(fields[5].strip(), fields[6].strip(), fields[4], f"line {number}"))
    return pairs


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
