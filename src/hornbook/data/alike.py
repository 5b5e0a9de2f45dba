"""Texts that are alike, for encoders to learn from: pairs, triplets with one that is not alike, and
pairs with a score of how alike they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from hornbook.data.roles import files_by_role, hold_out
from hornbook.data.rows import Table, decode, read_rows
from hornbook.data.tables import label_name
from hornbook.errors import DataError, UnknownNameError, nearest

Form = Literal["pairs", "triplets", "scored"]
HELD_OUT = 0.1
_FIRST = (
    "anchor, sentence1, sentence_1, sentence 1, text1, first, query, question1, question, premise"
)
_SECOND = "positive, sentence2, sentence_2, sentence 2, text2, second, passage, question2, answer"
_NAMES: dict[str, list[str]] = {
    "first": _FIRST.split(", "),
    "second": [*_SECOND.split(", "), "hypothesis"],
    "negative": ["negative", "hard_negative"],
    "score": ["score", "similarity", "similarity_score", "relatedness"],
    "label": ["label", "gold_label", "labels", "is_duplicate", "is_paraphrase"],
}
_ALIKE = {"1", "true", "yes", "entailment", "duplicate", "paraphrase", "equivalent"}
# What is missing, or -1, is not said to be alike. "-" is written "_".
_OTHER = {"0", "false", "no", "neutral", "contradiction", "_", "", "_1"} | {
    f"not_{label}" for label in ("entailment", "duplicate", "paraphrase", "equivalent")
}
_TEXTS = ("first", "second", "negative")
_OF_STS = 7  # columns of the STS benchmark's files, which have neither header nor quotes


@dataclass(frozen=True, slots=True)
class Alike:
    """Two texts that are alike, or by how much: score from -1 to 1, None where nobody says.

    negative: one that is not alike the first. id: where they stand.
    """

    first: str
    second: str
    negative: str | None = None
    score: float | None = None
    id: str = ""


@dataclass(frozen=True)
class AlikeTexts:
    """Texts that are alike, divided; all parts of one form. test is None where there is none."""

    name: str
    form: Form
    train: list[Alike]
    validation: list[Alike]
    test: list[Alike] | None = None
    notes: list[str] = field(default_factory=list)


def open_alike(data: str, columns: Mapping[str, str], *, seed: int) -> AlikeTexts:
    """Open a table, or a folder with one a part (train, dev or validation, test in their names).

    columns: "first", "second", "negative", "score", "label", guessed by their names where they are
    not said. A label, where there is neither score nor negative, tells which pairs are alike (1,
    true, entailment, duplicate): the others (0, neutral, contradiction, ...) are left out.
    Files of the STS benchmark are known by their form. Scores above 1 are divided by the greatest
    of the training part, rounded up. Raises DataError and UnknownNameError, naming file and column.
    """
    if other := sorted(set(columns) - _NAMES.keys()):
        raise UnknownNameError(
            f"there is no column '{other[0]}' to name", hint=nearest(other[0], list(_NAMES))
        )
    notes: list[str] = []
    path = Path(data).expanduser()
    parts = {role: _read(file, columns, notes) for role, file in files_by_role(path).items()}
    train = parts["train"]
    form = _form(train)
    for role, texts in parts.items():
        if _form(texts) != form:
            raise DataError(
                f"{data}: the {role} part has {_form(texts)}, the training part {form}",
                hint="All parts need the same columns.",
            )
    if form == "scored":
        scale = _scale(train, data)
        parts = {role: [_scaled(t, scale) for t in texts] for role, texts in parts.items()}
        if scale != 1:
            notes.append(f"Scores are divided by {scale:g}.")
        train = parts["train"]
    validation = parts.get("validation")
    if validation is None:
        out = hold_out([one.first for one in train], HELD_OUT, seed)
        validation = [one for one, held in zip(train, out, strict=True) if held]
        n, train = len(train), [one for one, held in zip(train, out, strict=True) if not held]
        notes.append(f"{len(validation):,} of {n:,} are for validation, by the seed.")
    return AlikeTexts(path.name, form, train, validation, parts.get("test"), notes)


def _form(texts: Sequence[Alike]) -> Form:
    if texts[0].score is not None:
        return "scored"
    return "pairs" if texts[0].negative is None else "triplets"


def _read(path: Path, columns: Mapping[str, str], notes: list[str]) -> list[Alike]:
    table = _sts(path) or read_rows(path)
    named = _choose(table, columns)
    found, n_left_out, n_other = [], 0, 0
    for row, place in zip(table.rows, table.places, strict=True):
        texts = {k: str(row.get(c) or "").strip() for k, c in named.items() if k in _TEXTS}
        if not all(texts.values()):
            n_left_out += 1
            continue
        if "label" in named and not _is_alike(row.get(named["label"]), named["label"], path, place):
            n_other += 1
            continue
        score = _number(row.get(named["score"]), path, place) if "score" in named else None
        found.append(
            Alike(
                texts["first"],
                texts["second"],
                texts.get("negative"),
                score,
                f"{path.name}, {place}",
            )
        )
    if not found:
        what = f" with a label of '{named['label']}' that says alike" if n_other else ""
        raise DataError(f"{path} has no pair of texts{what}", hint="Are the columns filled?")
    if n_other:
        notes.append(
            f"{path.name}: {n_other:,} pair(s) were left out, they are not alike by "
            f"'{named['label']}'."
        )
    if n_left_out:
        notes.append(f"{path.name}: {n_left_out:,} row(s) without a text were left out.")
    said = "Read: " + ", ".join(f"{k} from '{c}'" for k, c in named.items()) + "."
    if not columns and said not in notes:
        notes.append(said)
    return found


def _choose(table: Table, columns: Mapping[str, str]) -> dict[str, str]:
    """The column of each of our names that the table has one for."""
    folded = {column.casefold(): column for column in reversed(table.columns)}
    named: dict[str, str] = {}
    for ours, names in _NAMES.items():
        if asked := columns.get(ours):
            if asked not in table.columns:
                raise UnknownNameError(
                    f"{table.name} has no column '{asked}'", hint=nearest(asked, table.columns)
                )
            named[ours] = asked
        elif found := next((folded[n] for n in names if n in folded), None):
            named[ours] = found
    if "first" not in named or "second" not in named:
        raise DataError(
            f"which columns of {table.name} are alike is not clear",
            hint="Name them: --column first=… --column second=…. Columns: "
            f"{', '.join(table.columns)}.",
        )
    if "score" in named or "negative" in named:
        named.pop("label", None)
    return named


def _is_alike(value: object, column: str, path: Path, place: str) -> bool:
    said = label_name(value).casefold().replace(" ", "_").replace("-", "_")
    if said not in _ALIKE | _OTHER:
        raise DataError(
            f"{path}, {place}: the label '{value}' in column '{column}' says neither alike nor not",
            hint="Known: 1, true, entailment, duplicate; 0, false, neutral, contradiction. Is it a "
            f"score: --column score={column}. Else rename the column, or take it out.",
        )
    return said in _ALIKE


def _sts(path: Path) -> Table | None:
    """A file of the STS benchmark: genre, file, year, id, score, two texts, maybe their sources."""
    if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
        return None
    text, _ = decode(path.read_bytes(), str(path))
    rows, places = [], []
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split("\t")
        if len(cells) < _OF_STS or not _is_number(cells[4]):
            return None
        rows.append({"score": cells[4], "sentence1": cells[5], "sentence2": cells[6]})
        places.append(f"line {number}")
    return Table(str(path), ["score", "sentence1", "sentence2"], rows, places) if rows else None


def _is_number(text: str) -> bool:
    return text.strip().lstrip("-").replace(".", "", 1).isdigit()


def _number(value: object, path: Path, place: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(
            f"{path}, {place}: the score '{value}' is not a number",
            hint="Say which column holds it: --column score=….",
        )
    return number


def _scale(texts: Sequence[Alike], data: str) -> float:
    scores = [one.score for one in texts if one.score is not None]
    low, high = min(scores), max(scores)
    if low == high or low < -1 or (low < 0 and high > 1):
        raise DataError(
            f"{data} has scores from {low:g} to {high:g}",
            hint="They have to differ; from 0 to any number, or from -1 to 1.",
        )
    return 1.0 if high <= 1 else float(math.ceil(high))


def _scaled(texts: Alike, scale: float) -> Alike:
    return texts if texts.score is None else replace(texts, score=texts.score / scale)
