"""Pairs of texts, a source and what is to be written from it.

`open_pairs` takes a table with a column of each; two parallel files, a line a text, by their paths
or by their endings (`data/` with train.en and train.de); or running text, in which each sentence is
the source of the next.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hornbook.data.arrow_files import is_arrow
from hornbook.data.corpora import CORPORA
from hornbook.data.corpus import Corpus, open_corpus
from hornbook.data.datasets import DATASETS
from hornbook.data.hub import PREFIX, stream_rows
from hornbook.data.rows import COMPRESSIONS, read_rows
from hornbook.data.tables import MISSING_TEXTS, TEXT_NAMES
from hornbook.data.textfiles import is_text_file, pieces_of
from hornbook.errors import ConfigError, DataError, UnknownNameError, nearest
from hornbook.text.sentences import sentences

SOURCE_NAMES: tuple[str, ...] = ("source", "src", "input", "instruction", "question", "prompt")
SOURCE_NAMES += ("document", "article", "text", "en")
TARGET_NAMES: tuple[str, ...] = ("target", "tgt", "output", "translation", "response", "answer")
TARGET_NAMES += ("completion", "summary", "headline", "title", "label")
VALIDATION_SHARE = 0.1
MOST_VALIDATION = 2000  # different sources: more make an evaluation slower, not much surer
_PART = {"train": "train", "test": "test"} | dict.fromkeys(("val", "dev"), "validation")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """(source, target) to train on and to validate on. notes: sentences for the reader.

    tests: parallel files that are named test, by what stands before their ending.
    """

    name: str
    train: list[Pair]
    validation: list[Pair]
    notes: list[str] = field(default_factory=list)
    source: str = ""
    licence: str = ""
    tests: dict[str, list[Pair]] = field(default_factory=dict)

    def corpus(self) -> Corpus:
        """Both sides as running text: what one vocabulary for both is learnt from."""
        return Corpus(
            self.name,
            train=lambda: (text for pair in self.train for text in pair),
            validation=lambda: (text for pair in self.validation for text in pair),
            notes=self.notes,
            source=self.source,
            licence=self.licence,
        )


def open_pairs(
    data: str,
    *,
    source: str | None = None,
    target: str | None = None,
    text: str | None = None,
    seed: int = 0,
) -> Pairs:
    """Open pairs of texts.

    data: a table (csv, tsv, jsonl, json, parquet, also compressed; "owner/name" of the hub); a
    folder, or a path without its ending, where parallel files are; "a.txt,b.txt", two such files;
    or running text, as `open_corpus` takes it.
    source, target: columns of a table, or endings of parallel files ("en", "de"); columns are
    guessed where None. text: the column of a table of running text. seed: of the division, which
    keeps equal sources together. Raises DataError, UnknownNameError with the nearest column.
    """
    notes: list[str] = []
    if data in CORPORA or data in DATASETS:
        _refuse_columns(data, source, target)
        return _following(open_corpus(data, text=text, seed=seed))
    path = Path(data).expanduser()
    if files := _two_files(data):
        return _of_parts(data, {"train": _lines_of(*files, notes)}, notes, seed)
    if data.startswith(PREFIX) or (data.count("/") == 1 and not _is_local(path)):
        name = data.removeprefix(PREFIX)
        rows = list(stream_rows(name))
        pairs = _paired(rows, list(rows[0] if rows else {}), source, target, name, notes)
        return _of_parts(name, {"train": pairs}, notes, seed)
    if (path.is_file() and not is_text_file(path)) or is_arrow(path):
        table = read_rows(path)
        notes += table.notes
        if source is None and target is None and _is_running(table.columns):
            return _following(open_corpus(data, text=text, seed=seed))
        pairs = _paired(table.rows, table.columns, source, target, data, notes)
        return _of_parts(path.name, {"train": pairs}, notes, seed)
    endings = {} if path.is_file() else _by_ending(path)
    if source and target and not path.is_file():
        parts, tests = _parallel(path, endings, source.lstrip("."), target.lstrip("."), notes)
        return replace(_of_parts(data, parts, notes, seed), tests=tests)
    if any(len(found) > 1 for found in endings.values()):
        known = sorted({ending for found in endings.values() for ending in found})
        raise DataError(
            f"{data} has parallel files; which is source and which target is not said",
            hint=f"Name two of the endings: --source {known[0]} --target {known[1]} "
            f"(there are {', '.join(known)}).",
        )
    _refuse_columns(data, source, target)
    return _following(open_corpus(data, text=text, seed=seed))


# Columns


def _paired(
    rows: Sequence[dict[str, Any]],
    columns: list[str],
    source: str | None,
    target: str | None,
    name: str,
    notes: list[str],
) -> list[Pair]:
    """The pairs of a table; rows without one of the two are left out and counted."""
    if any(isinstance(row.get(c), dict) for row in rows[:1] for c in columns):
        rows = [_flat(row) for row in rows]  # {"translation": {"en": …, "de": …}}
        columns = list(rows[0])
    left, right = _choose(columns, source, target, name, notes)
    if not {source, target} - {None} and _is_a_pair(columns):
        rows = [dict(zip(columns, columns)), *rows]
        notes.append(f"{name} has no header: its first line is a pair as the others are.")
    for column in (left, right):
        if rows and isinstance(rows[0].get(column), list):
            notes.append(f"{name}: column '{column}' holds lists, whose members are joined.")
    pairs = [(_text(row.get(left)), _text(row.get(right))) for row in rows]
    return _whole(pairs, name, notes)


def _choose(
    columns: list[str], source: str | None, target: str | None, name: str, notes: list[str]
) -> Pair:
    for asked in (source, target):
        if asked is not None and asked not in columns:
            raise UnknownNameError(f"{name} has no column '{asked}'", hint=nearest(asked, columns))
    folded = {column.casefold(): column for column in reversed(columns)}
    left = source or next((folded[n] for n in SOURCE_NAMES if folded.get(n, target) != target), "")
    right = target or next((folded[n] for n in TARGET_NAMES if folded.get(n, left) != left), "")
    if len(columns) == 2 and not (left and right):  # the one not named; both in their order
        left = left or next(c for c in columns if c != right)
        right = right or next(c for c in columns if c != left)
    if not left or not right or left == right:
        raise DataError(
            f"which columns of {name} are source and target is not clear",
            hint=f"Name them, --source and --target. Columns: {', '.join(columns)}.",
        )
    if not (source and target):
        notes.append(f"{name}: from column '{left}' column '{right}' is written.")
    return left, right


def _is_running(columns: list[str]) -> bool:
    """Whether a table is running text: a column of it, and none that could be a target."""
    folded = {c.casefold() for c in columns}
    return len(columns) == 1 or bool(
        len(columns) > 2 and folded & set(TEXT_NAMES) and not folded & set(TARGET_NAMES)
    )


def _is_a_pair(columns: list[str]) -> bool:
    """Whether what stands where names of columns should is a pair of texts."""
    return len(columns) == 2 and all(" " in c.strip() for c in columns)


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    inner = {k: v for value in row.values() if isinstance(value, dict) for k, v in value.items()}
    return {c: v for c, v in row.items() if not isinstance(v, dict)} | inner


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_text, value))
    return value if isinstance(value, str) else "" if value is None else str(value)


# Parallel files


def _two_files(data: str) -> tuple[Path, Path] | None:
    """ "a.txt,b.txt" as two paths, where both are files."""
    first, comma, second = data.partition(",")
    paths = Path(first.strip()).expanduser(), Path(second.strip()).expanduser()
    if comma and not Path(data).exists():
        if missing := [str(path) for path in paths if not path.is_file()]:
            raise DataError(
                f"there is no file {missing[0]}", hint="Two parallel files: --data a.txt,b.txt"
            )
        return paths
    return None


def _by_ending(path: Path) -> dict[str, dict[str, Path]]:
    """Files of a folder, or those that a path begins, by stem and ending: train -> en -> file."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        name = file.name
        if file.suffix.lower() in COMPRESSIONS:
            name = file.stem
        stem, dot, ending = name.rpartition(".")
        if dot and stem and file.is_file() and (path.is_dir() or stem == path.name):
            found[stem][ending] = file
    return found


def _parallel(
    path: Path,
    files: dict[str, dict[str, Path]],
    source: str,
    target: str,
    notes: list[str],
) -> tuple[dict[str, list[Pair]], dict[str, list[Pair]]]:
    """Pairs by part; and what is named test, by its name."""
    known = sorted({ending for found in files.values() for ending in found})
    for ending in (source, target):
        if ending not in known:
            raise DataError(f"{path} has no file *.{ending}", hint=nearest(ending, known))
    parts: dict[str, list[Pair]] = defaultdict(list)
    tests: dict[str, list[Pair]] = {}
    for stem, found in files.items():
        part = next((p for start, p in _PART.items() if stem.lower().startswith(start)), "train")
        if not {source, target} <= found.keys():
            continue
        pairs = _lines_of(found[source], found[target], notes)
        if part == "test":
            tests[stem] = pairs
        else:
            parts[part] += pairs
    if tests:
        notes.append(f"Left out, as their name says test: {', '.join(tests)}.")
    if not parts["train"]:
        raise DataError(
            f"{path} has no pair of files *.{source} and *.{target} to train on",
            hint="Parallel files are alike but for their ending: train.en and train.de.",
        )
    return parts, tests


def _lines_of(source: Path, target: Path, notes: list[str]) -> list[Pair]:
    sides = [_lines(path, notes) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{source} has {len(sides[0]):,} lines and {target} has {len(sides[1]):,}",
            hint="In parallel files the same line holds source and target.",
        )
    return _whole(list(zip(*sides, strict=True)), f"{source.name} and {target.name}", notes)


def _lines(path: Path, notes: list[str]) -> list[str]:
    lines = "".join(pieces_of(path, notes)).split("\n")
    return lines[:-1] if lines and not lines[-1] else lines


# Running text


def _following(corpus: Corpus) -> Pairs:
    """From each sentence the next, inside each document."""

    def part(documents: Iterable[str]) -> Iterator[Pair]:
        for document in documents:
            found = sentences(document)
            yield from pairwise(found)

    train, validation = list(part(corpus.train())), list(part(corpus.validation()))
    if not train or not validation:
        raise DataError(
            f"{corpus.name} has no two sentences that follow each other in each of its parts",
            hint="Give more text, or pairs: a table with a source and a target column.",
        )
    note = "Running text has no pairs: from each sentence the next one is written."
    return Pairs(
        corpus.name, train, validation, [*corpus.notes, note], corpus.source, corpus.licence
    )


# What all have in common


def _of_parts(name: str, parts: dict[str, list[Pair]], notes: list[str], seed: int) -> Pairs:
    train, validation = parts["train"], parts.get("validation", [])
    if not validation:
        train, validation = _divided(train, name, seed, notes)
    return Pairs(Path(name).name, train, validation, notes, source=name)


def _divided(
    pairs: list[Pair], name: str, seed: int, notes: list[str]
) -> tuple[list[Pair], list[Pair]]:
    """A tenth of the different sources to validate on: those whose hashes are the least."""
    key = seed.to_bytes(8, "little", signed=True)

    def place(text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8, key=key).digest()

    places = [place(source) for source, _ in pairs]
    ranked = sorted(set(places))
    if len(ranked) < 2:
        raise DataError(
            f"{name} has {len(ranked)} different source(s)",
            hint="Nothing would be left to validate on; give more pairs.",
        )
    n = min(max(1, round(VALIDATION_SHARE * len(ranked))), MOST_VALIDATION)
    held_out = set(ranked[:n])
    notes.append(f"{n:,} of {len(ranked):,} different sources are for validation, by a hash.")
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair, where in zip(pairs, places, strict=True):
        sides[where in held_out].append(pair)
    return sides


def _whole(pairs: list[Pair], name: str, notes: list[str]) -> list[Pair]:
    """Pairs of which neither side is missing; the others are counted in a note."""
    kept = [(s, t) for s, t in pairs if s.strip() not in MISSING_TEXTS and t.strip()]
    if not kept:
        raise DataError(f"{name} has no pair of texts", hint="Are source and target both there?")
    if len(kept) < len(pairs):
        notes.append(f"{name}: {len(pairs) - len(kept):,} pair(s) without a text were left out.")
    return kept


def _refuse_columns(data: str, source: str | None, target: str | None) -> None:
    if given := " and ".join(x for x in (source, target) if x):
        raise ConfigError(
            f"{data} is running text and has no {given}",
            hint="Leave --source and --target out: from each sentence the next one is written. Or "
            "give a table, or a folder of parallel files.",
        )


def _is_local(path: Path) -> bool:
    """Whether a path with one slash was meant as a path, not as a name of the hub."""
    return path.parent.is_dir() or bool(path.suffix) or str(path).startswith((".", "~"))
