"""Texts whose words carry tags: parts of speech, or the names in a text.

Read from CoNLL's columns (a word a line, an empty line after each sentence; WNUT's tab form too),
CoNLL-U, and tables (jsonl, json, parquet) with words and tags, or with a text and marked spans.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hornbook.data.bio import OUTSIDE, Kind, as_bio, is_bio, kind_of, repairs
from hornbook.data.roles import files_by_role, hold_out
from hornbook.data.rows import TEXT_FORMS, Table, decode, is_table, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

HELD_OUT = 0.1  # of what there is, for each part that did not come with the data
_CONLL_U_COLUMNS = 10
CONLL_U = {"upos": 4, "xpos": 5, "lemma": 3, "deprel": 8}
WORD_NAMES = ("tokens", "words")
TAG_NAMES = ("tags", "ner_tags", "pos_tags", "labels", "ner", "upos", "pos")
TEXT_NAMES = ("text", "sentence", "content")
SPAN_NAMES = ("spans", "entities", "label", "labels")
_TYPE_NAMES = ("label", "type", "entity_group", "entity", "tag", "class")
_DOCSTART = "-DOCSTART-"
_COMMENT = re.compile(r"# [\w.:-]+ = |#[^\t]*$")
_TEXT_OF = re.compile(r"#\s*text\s*=\s?(.*)")
_ID_OF = re.compile(r"#\s*sent_id\s*=\s*(\S+)")
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class TaggedText:
    """Words with a tag each. text: what they stand in; places: [start, end) of each in it.

    tags are empty where they are not known. id: the source's own, or the place in the file.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...] = ()
    text: str = ""
    places: tuple[tuple[int, int], ...] = ()
    id: str = ""


@dataclass(frozen=True)
class TaggedData:
    """Tagged texts, divided. kind: entities (tags are BIO then) or plain. notes: for the reader."""

    train: list[TaggedText]
    validation: list[TaggedText]
    test: list[TaggedText]
    kind: Kind
    notes: list[str] = field(default_factory=list)


def placed(
    words: Sequence[str], tags: Sequence[str] = (), text: str = "", id: str = ""
) -> TaggedText:
    """Words with their places in a text; in themselves with spaces between, where it has not all.

    Raises DataError where words and tags are not as many.
    """
    if tags and len(tags) != len(words):
        raise DataError(
            f"{id or 'a text'} has {len(words)} words and {len(tags)} tags",
            hint="Give every word one tag.",
        )
    places, start = [], 0
    for word in words:
        start = text.find(word, start) if text else -1
        if start < 0:
            break
        places.append((start, start + len(word)))
        start += len(word)
    if len(places) < len(words):
        text, places, start = " ".join(words), [], 0
        for word in words:
            places.append((start, start + len(word)))
            start += len(word) + 1
    return TaggedText(tuple(words), tuple(tags), text, tuple(places), id)


def open_tagged(path: str | Path, columns: Mapping[str, str], *, seed: int) -> TaggedData:
    """Read a file or a folder with files for training, validation and test, and divide the rest.

    columns: by "tags" (of CoNLL's files a number from 1, or upos, xpos; the last when not given),
    "words", "text" and "spans" of tables. What is not there is held out, equal sentences on one
    side. Raises DataError naming file and place, UnknownNameError for another name or column.
    """
    known = ("words", "tags", "text", "spans")
    if other := [name for name in columns if name not in known]:
        raise UnknownNameError(f"tagged texts have no '{other[0]}'", hint=nearest(other[0], known))
    roles = files_by_role(Path(path).expanduser())
    notes: list[str] = []
    # The column that the tags stand in is chosen once: all parts have the same columns.
    train, column = _read(roles["train"], columns, notes)
    parts = {"train": train} | {
        role: _read(file, columns, notes, column)[0]
        for role, file in roles.items()
        if role != "train"
    }
    kind = kind_of(
        (tag, f"{roles[role].name}, {example.id}, word {i}")
        for role, examples in parts.items()
        for example in examples
        for i, tag in enumerate(example.tags, 1)
    )
    if kind == "entities":
        parts = _repaired(parts, notes)
    train = parts["train"]
    if "test" not in parts and "validation" not in parts:
        train, parts["test"] = _divided(train, seed + 1, "test", notes)
    if "validation" not in parts:
        train, parts["validation"] = _divided(train, seed, "validation", notes)
    return TaggedData(train, parts["validation"], parts.get("test", []), kind, notes)


def read_tagged(path: Path, columns: Mapping[str, str], notes: list[str]) -> list[TaggedText]:
    """All tagged texts of one file, as they are written. Raises DataError naming the place."""
    return _read(path, columns, notes)[0]


def _read(
    path: Path, columns: Mapping[str, str], notes: list[str], column: str | None = None
) -> tuple[list[TaggedText], str | None]:
    """The texts, and of a file in columns the tags' column, a number from 1.

    column: the same of another part, taken where nobody named one.
    """
    if is_table(path) and TEXT_FORMS.get(path.suffix.lower()) not in ("csv", "tsv"):
        table = read_rows(path)
        examples = _of_table(table, columns)
        notes += table.notes
    else:
        text, read_as = decode(path.read_bytes(), str(path))
        notes += read_as
        examples, column = _of_columns(path, text, columns.get("tags", column))
    if not examples:
        raise DataError(f"{path} holds no tagged texts", hint="A word and its tag a line, or JSON.")
    return examples, column


def _of_columns(path: Path, text: str, wanted: str | None) -> tuple[list[TaggedText], str | None]:
    """CoNLL's form: a word a line in columns, a line of nothing after each sentence."""
    tabs = "\t" in text.replace("\n\t", "\n")  # WNUT's empty lines hold one
    sentences: list[_Sentence] = [_Sentence()]
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip("\r")
        if not line.strip() or line.startswith(_DOCSTART):
            sentences.append(_Sentence())
        elif line.startswith("#") and _is_comment(line, tabs):
            if found := _TEXT_OF.match(line):
                sentences[-1].text = found[1]
            elif found := _ID_OF.match(line):
                sentences[-1].id = found[1]
        else:
            row = line.split("\t") if tabs else line.split()
            n = len(sentences[0].rows[0]) if sentences[0].rows else max(2, len(row))
            if len(row) != n:
                raise DataError(
                    f"{path}, line {number}: {len(row)} column(s) where {n} are expected: "
                    f"{line[:60]!r}",
                    hint="A word and its tag a line, with a tab (or spaces) between; an empty line "
                    "after each sentence.",
                )
            if re.fullmatch(r"\d+[-.]\d+", row[0]) and n == _CONLL_U_COLUMNS:
                continue  # "don't" before "do" and "n't", and words that are not there
            sentences[-1].rows.append(row)
            sentences[-1].id = sentences[-1].id or f"line {number}"
        if len(sentences) > 1 and not sentences[-2].rows:
            del sentences[-2]
    sentences = [sentence for sentence in sentences if sentence.rows]
    if not sentences:
        return [], wanted
    word, tag = _which(path, [sentence.rows for sentence in sentences], wanted)
    examples = [
        placed([row[word] for row in s.rows], [row[tag] for row in s.rows], s.text, s.id)
        for s in sentences
    ]
    return examples, str(tag + 1)


@dataclass
class _Sentence:
    rows: list[list[str]] = field(default_factory=list)
    text: str = ""
    id: str = ""


def _is_comment(line: str, tabs: bool) -> bool:
    """A word may begin with #, or be it: a comment has no tab, or it gives a value."""
    return bool(_COMMENT.match(line)) if tabs else " = " in line


def _which(path: Path, sentences: list[list[list[str]]], wanted: str | None) -> tuple[int, int]:
    """The columns of the words and of the tags: the last of BIO's form, else the last filled."""
    n = len(sentences[0][0])
    numbered = n > 2 and all(
        row[0] == str(i) for rows in sentences for i, row in enumerate(rows, 1)
    )
    conll_u = numbered and n == _CONLL_U_COLUMNS
    word = 1 if numbered else 0
    if wanted is None:
        if conll_u:
            return word, CONLL_U["upos"] - 1
        values = {c: {row[c] for rows in sentences for row in rows} for c in range(word + 1, n)}
        marking = [c for c, held in values.items() if held - {OUTSIDE} and all(map(is_bio, held))]
        filled = [c for c, held in values.items() if not held <= {"-", "_"}]
        return word, max(marking or filled or [n - 1])
    column = CONLL_U.get(wanted) if conll_u else None
    column = column or (int(wanted) if wanted.isdecimal() else 0)
    if not word + 1 < column <= n:
        names = f"{', '.join(CONLL_U)}, or " if conll_u else ""
        raise UnknownNameError(
            f"{path} has no column '{wanted}' for the tags",
            hint=f"Name {names}a number from {word + 2} to {n}.",
        )
    return word, column - 1


def _of_table(table: Table, columns: Mapping[str, str]) -> list[TaggedText]:
    for column in columns.values():
        if column not in table.columns:
            raise UnknownNameError(
                f"{table.name} has no column '{column}'", hint=nearest(column, table.columns)
            )

    def named(part: str, names: Sequence[str]) -> str | None:
        return columns.get(part) or next((n for n in names if n in table.columns), None)

    words, tags = named("words", WORD_NAMES), named("tags", TAG_NAMES)
    text, marked = named("text", TEXT_NAMES), named("spans", SPAN_NAMES)
    if words and tags:
        return [
            _of_words(row, words, tags, text, f"{table.name}, {place}", place)
            for row, place in zip(table.rows, table.places, strict=True)
        ]
    if text and marked:
        return [
            _of_spans(row, text, marked, f"{table.name}, {place}", place)
            for row, place in zip(table.rows, table.places, strict=True)
        ]
    raise DataError(
        f"{table.name}: which columns are words and tags, or text and spans?",
        hint=f"Name them: --column words=… --column tags=…. Columns: {', '.join(table.columns)}.",
    )


def _of_words(
    row: dict[str, Any], words: str, tags: str, text: str | None, place: str, id: str
) -> TaggedText:
    for column in (words, tags):
        if not isinstance(row.get(column), list):
            raise DataError(
                f"{place}: '{column}' is not a list but {type(row.get(column)).__name__}",
                hint='{"tokens": ["In", "Rome"], "tags": ["O", "B-location"]}',
            )
    named = ["" if tag is None else str(tag) for tag in row[tags]]
    if "" in named:
        raise DataError(f"{place}: word {named.index('') + 1} has no tag", hint="Tag it, or O.")
    if None in row[words]:
        raise DataError(
            f"{place}: word {row[words].index(None) + 1} is missing",
            hint="Write it, or take it out, and its tag.",
        )
    try:
        whole = str(row.get(text) or "") if text else ""
        return placed([str(word) for word in row[words]], named, whole, id)
    except DataError as error:
        raise DataError(f"{place}: {error.message}", hint=error.hint) from error


def _of_spans(row: dict[str, Any], text: str, marked: str, place: str, id: str) -> TaggedText:
    if not isinstance(row.get(text), str):
        raise DataError(
            f"{place}: '{text}' is no text but {str(row.get(text))[:40]}",
            hint="Fill it in, or take the row out.",
        )
    return from_spans(row[text], _spans(row.get(marked), place), id)


def _spans(value: Any, place: str) -> list[dict[str, Any]]:
    """Marked spans as start, end, label and perhaps text, from objects or [start, end, label]."""
    if value is not None and not isinstance(value, list):
        raise DataError(
            f"{place}: no list of marked spans but {str(value)[:80]}",
            hint='[{"start": 3, "end": 7, "label": "location"}]',
        )
    spans = []
    for span in value or []:
        if isinstance(span, list | tuple) and len(span) == 3:
            span = dict(zip(("start", "end", "label"), span, strict=True))
        label = next((span[n] for n in _TYPE_NAMES if n in span), None) if (
            isinstance(span, dict)
        ) else None  # fmt: skip
        if label is None or not all(type(span.get(n)) is int for n in ("start", "end")):
            raise DataError(
                f"{place}: not a marked span: {str(span)[:80]}",
                hint='{"start": 3, "end": 7, "label": "location"}: characters, the end excluded.',
            )
        spans.append({"start": span["start"], "end": span["end"], "label": str(label)} | (
            {"text": span["text"]} if isinstance(span.get("text"), str) else {}
        ))  # fmt: skip
    return spans


def from_spans(text: str, marked: Sequence[Mapping[str, Any]], id: str = "") -> TaggedText:
    """A text's words with BIO tags from spans of characters.

    marked: each with start, end (excluded), label and, to be checked, text. Raises DataError for
    spans out of the text, of other characters than they say, that cut a word, or that overlap.
    """
    places = [found.span() for found in _WORD.finditer(text)]
    tags = [OUTSIDE] * len(places)
    for span in sorted(marked, key=lambda s: (s["start"], s["end"])):
        start, end = span["start"], span["end"]
        what = f"{id or 'a text'}: the span {start} to {end} ({span['label']}, {text[start:end]!r})"
        said = span.get("text")
        if not 0 <= start < end <= len(text) or (said is not None and text[start:end] != said):
            raise DataError(
                f"{what} {'is not ' + repr(said) if said else f'lies outside of 0 to {len(text)}'}",
                hint=_nearest(text, said, start) if said else "Are they characters, not bytes?",
            )
        inside = [i for i, (s, e) in enumerate(places) if s < end and e > start]
        edges = (places[inside[0]][0], places[inside[-1]][1]) if inside else (start, end)
        if not inside or text[start:end].strip() != text[edges[0] : edges[1]]:
            raise DataError(
                f"{what} cuts a word",
                hint=f"The nearest place is {edges[0]} to {edges[1]}, "
                f"{text[edges[0] : edges[1]]!r}. Is the end excluded, do both count characters?",
            )
        if any(tags[i] != OUTSIDE for i in inside):
            raise DataError(
                f"{what} overlaps another", hint="A word can carry one tag: keep one of the two."
            )
        for i in inside:
            tags[i] = f"{'B' if i == inside[0] else 'I'}-{span['label']}"
    words = tuple(text[start:end] for start, end in places)
    return TaggedText(words, tuple(tags), text, tuple(places), id)


def _nearest(text: str, said: str, start: int) -> str:
    found = [m.start() for m in re.finditer(re.escape(said), text)] if said else []
    if not found:
        return f"{said!r} stands nowhere in the text."
    near = min(found, key=lambda place: abs(place - start))
    return f"The nearest place of {said!r} is {near} to {near + len(said)}."


def _repaired(parts: dict[str, list[TaggedText]], notes: list[str]) -> dict[str, list[TaggedText]]:
    changed: Counter[str] = Counter()
    out: dict[str, list[TaggedText]] = {}
    for role, examples in parts.items():
        out[role] = []
        for example in examples:
            tags, its = as_bio(example.tags)
            changed += its
            out[role].append(replace(example, tags=tuple(tags)) if its else example)
    n_tags = sum(tag != OUTSIDE for each in out.values() for e in each for tag in e.tags)
    notes += repairs(changed, n_tags)
    return out


def _divided(
    examples: list[TaggedText], seed: int, part: str, notes: list[str]
) -> tuple[list[TaggedText], list[TaggedText]]:
    n_left = 2 if part == "test" else 1  # validation is drawn from the rest
    out = hold_out([e.text.casefold() for e in examples], HELD_OUT, seed, n_left=n_left)
    kept = [e for e, is_out in zip(examples, out, strict=True) if not is_out]
    held = [e for e, is_out in zip(examples, out, strict=True) if is_out]
    notes.append(
        f"The data has no {part} part: {len(held):,} of {len(examples):,} texts were set aside, "
        f"equal ones on one side (seed {seed})."
    )
    return kept, held
