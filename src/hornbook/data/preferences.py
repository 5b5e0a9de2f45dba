"""Which answer is better: prompts with two answers, one chosen, or answers marked good or bad.

| columns                              | what a row is                                           |
|--------------------------------------|---------------------------------------------------------|
| prompt, chosen, rejected             | texts, or lists of messages                             |
| chosen, rejected                     | whole conversations that differ in the last message     |
| instruction, input, chosen, rejected | the input, which may be empty, goes below the instruction |
| prompt, completion, label            | one answer, and whether it is good: true, yes, 1, good  |

To be marked, answers need no such columns: `read_answered` takes one a row, or a list `answers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hornbook.data.conversations import Wrong, as_message, in_order, joined
from hornbook.data.duplicates import find_duplicates, groups
from hornbook.data.roles import files_by_role, hold_out
from hornbook.data.rows import Table, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

Messages = tuple[Mapping[str, Any], ...]
Prompt = str | Messages  # a text to go on with, or messages

NAMES = {
    "prompt": ("prompt", "instruction", "question", "query", "messages"),
    "input": ("input",),
    "chosen": ("chosen", "preferred", "accepted", "better"),
    "rejected": ("rejected", "dispreferred", "refused", "worse"),
    "completion": ("completion", "response", "answer", "output"),
    "answers": ("answers", "completions", "responses", "candidates"),
    "label": ("label", "good", "desirable", "liked", "rating"),
}
_YES = {"true", "yes", "1", "1.0", "good", "y", "+", "up", "desirable", "liked"}
_NO = {"false", "no", "0", "0.0", "-1", "bad", "n", "-", "down", "undesirable", "disliked"}
_NAMED = 5  # bad rows that a note names


@dataclass(frozen=True)
class Preference:
    """A prompt and two answers to it. place: where it stands, such as "row 17"."""

    prompt: Prompt
    chosen: str
    rejected: str
    place: str = ""


@dataclass(frozen=True)
class Judged:
    """A prompt and an answer that a person found good, or not."""

    prompt: Prompt
    completion: str
    good: bool
    place: str = ""


@dataclass(frozen=True)
class Answered:
    """A prompt and answers to it, of which nothing is said."""

    prompt: Prompt
    answers: tuple[str, ...]
    place: str = ""


Row = TypeVar("Row", Preference, Judged, Answered)


@dataclass(frozen=True)
class Divided:
    """Examples for training, validation and test, what was read as what, and how, in sentences.

    name: the file's or the folder's.
    """

    name: str
    train: list[Any]
    validation: list[Any]
    test: list[Any]
    notes: list[str]


def open_pairs(data: str, columns: Mapping[str, str], *, seed: int) -> Divided:
    """Read and divide prompts with two answers each. columns: what a person named, by NAMES.

    A folder is divided as its files' names say; a file by drawing whole prompts, a tenth for
    validation and a tenth for test. Rows that are wrong are left out and named. Raises DataError
    where none is left.
    """
    return _open(data, columns, seed, _pairs)


def open_judged(data: str, columns: Mapping[str, str], *, seed: int) -> Divided:
    """Read and divide answers that stand alone; of a pair the chosen is good, the other not."""
    return _open(data, columns, seed, _judged)


def read_answered(table: Table, named: Mapping[str, str]) -> tuple[list[Answered], list[str]]:
    """Prompts with their answers, in the order the prompts come first, and notes on what was read.

    Read are a list of answers, chosen and rejected, or an answer a row, equal prompts together.
    Rows that are wrong are left out and named. Raises DataError where none is left.
    """
    columns = _columns(table, named)
    several, pair = "answers" in columns, {"chosen", "rejected"} <= columns.keys()
    if not (several or pair or "completion" in columns):
        raise DataError(
            f"{table.name} has no column of answers, but {', '.join(table.columns)}",
            hint="Name it: --column completion=COLUMN, or answers=COLUMN where it holds lists.",
        )

    def parse(row: dict[str, Any]) -> Answered:
        if several:
            given = _texts(row.get(columns["answers"]))
            return Answered(_prompt(row, columns, ()), given)
        if pair:
            one = _pair(row, columns)
            return Answered(one.prompt, (one.chosen, one.rejected))
        before, completion = _answer(row.get(columns["completion"]), "the answer")
        return Answered(_prompt(row, columns, before), (completion,))

    notes = list(table.notes)
    found: dict[str, Answered] = {}
    for row in _read(table, parse, notes):
        same = found.setdefault(repr(row.prompt), replace(row, answers=()))
        found[repr(row.prompt)] = replace(same, answers=same.answers + row.answers)
    return list(found.values()), notes


def _texts(value: Any) -> tuple[str, ...]:
    """A list of answers; in csv as JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Wrong("form", f"the answers are no JSON list ({error})") from error
    if not isinstance(value, list | tuple) or not value:
        raise Wrong("form", "the answers are no list of texts")
    if not all(isinstance(one, str) and one.strip() for one in value):
        raise Wrong("empty", "one of the answers is no text, or empty")
    return tuple(value)


def text_of(prompt: Prompt) -> str:
    """A prompt as one text, to compare it with others."""
    return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)


def _open(
    data: str,
    columns: Mapping[str, str],
    seed: int,
    read: Callable[[Table, dict[str, str], list[str]], list[Row]],
) -> Divided:
    notes: list[str] = []
    parts: dict[str, list[Row]] = {"train": [], "validation": [], "test": []}
    path = Path(data).expanduser()
    for role, file in files_by_role(path).items():
        table = read_rows(file)
        notes += table.notes
        parts[role] = read(table, _columns(table, columns), notes)
    for role, share in (("test", 0.1), ("validation", 1 / 9)):
        if not parts[role]:
            n_left = 2 if role == "test" and not parts["validation"] else 1
            parts["train"], parts[role] = _divided(parts["train"], share, seed, n_left)
            notes.append(
                f"{len(parts[role]):,} rows were set aside for {role}, equal prompts on one side "
                f"(seed {seed})."
            )
    name = path.absolute().name
    return Divided(name, parts["train"], parts["validation"], parts["test"], notes)


def _divided(rows: list[Row], share: float, seed: int, n_left: int) -> tuple[list[Row], list[Row]]:
    """Those kept, and those held out; rows with (nearly) the same prompt stay together."""
    prompts = [text_of(row.prompt) for row in rows]
    group: Sequence[Hashable] = groups(len(rows), find_duplicates(prompts)).tolist()
    out = hold_out(group, share, seed, n_left=n_left)
    kept = [row for row, held in zip(rows, out) if not held]
    return kept, [row for row, held in zip(rows, out) if held]


def _columns(table: Table, named: Mapping[str, str]) -> dict[str, str]:
    """The table's columns by our names. Raises UnknownNameError for one that isn't there."""
    for ours, theirs in named.items():
        if ours not in NAMES:
            raise UnknownNameError(
                f"preferences have no column '{ours}'", hint=nearest(ours, NAMES)
            )
        if theirs not in table.columns:
            raise UnknownNameError(
                f"{table.name} has no column '{theirs}'", hint=nearest(theirs, table.columns)
            )
    folded = {column.casefold(): column for column in reversed(table.columns)}
    found = dict(named)
    for ours, names in NAMES.items():
        if ours not in found and (known := next((n for n in names if n in folded), None)):
            found[ours] = folded[known]
    return found


def _pairs(table: Table, columns: dict[str, str], notes: list[str]) -> list[Preference]:
    if not {"chosen", "rejected"} <= columns.keys():
        more = " Answers marked good or bad are for `hornbook align kto`."
        raise DataError(
            f"{table.name} has no columns 'chosen' and 'rejected', but {', '.join(table.columns)}",
            hint="Name them: --column chosen=COLUMN --column rejected=COLUMN."
            + more * ("label" in columns),
        )
    rows = _read(table, lambda row: _pair(row, columns), notes)
    same = [row for row in rows if row.chosen.strip() == row.rejected.strip()]
    if same:
        notes.append(
            f"{len(same):,} row(s) were left out, their chosen and rejected answers are the same: "
            f"{_listed(row.place for row in same)}."
        )
    if len(same) == len(rows):
        raise DataError(
            f"{table.name}: no row has two different answers",
            hint="Are the columns the right ones?",
        )
    return [row for row in rows if row.chosen.strip() != row.rejected.strip()]


def _judged(table: Table, columns: dict[str, str], notes: list[str]) -> list[Judged]:
    if {"chosen", "rejected"} <= columns.keys():
        notes.append("Each pair was read as a good and a bad answer.")
        return [
            Judged(pair.prompt, answer, good, pair.place)
            for pair in _pairs(table, columns, notes)
            for answer, good in ((pair.chosen, True), (pair.rejected, False))
        ]
    if missing := [name for name in ("prompt", "completion", "label") if name not in columns]:
        raise DataError(
            f"{table.name} has no column for {', '.join(missing)}, but {', '.join(table.columns)}",
            hint=f"Name it: --column {missing[0]}=COLUMN.",
        )
    rows = _read(table, lambda row: _verdict(row, columns), notes)
    for good in (True, False):
        if all(row.good is good for row in rows):
            raise DataError(
                f"{table.name}: all {len(rows):,} answers are {'good' if good else 'bad'}",
                hint="There must be both, to tell one from the other.",
            )
    return rows


def _read(table: Table, parse: Callable[[dict[str, Any]], Row], notes: list[str]) -> list[Row]:
    """Every row that can be used; the others are named in `notes`, each with its reason."""
    rows, bad = [], []
    for row, place in zip(table.rows, table.places):
        try:
            rows.append(replace(parse(row), place=place))
        except Wrong as wrong:
            bad.append(f"{place}: {wrong.args[1]}")
    if not rows:
        raise DataError(
            f"{table.name}: none of its {len(table.rows):,} rows can be used; {_listed(bad, '; ')}",
            hint="A prompt ends with the user, and each answer says something.",
        )
    if bad:
        notes.append(f"{len(bad):,} row(s) were left out: {_listed(bad, '; ')}.")
    return rows


def _listed(things: Iterable[str], separator: str = ", ") -> str:
    things = list(things)
    more = f"{separator}and {len(things) - _NAMED:,} more" if len(things) > _NAMED else ""
    return separator.join(things[:_NAMED]) + more


def _pair(row: Mapping[str, Any], columns: Mapping[str, str]) -> Preference:
    before_chosen, chosen = _answer(row.get(columns["chosen"]), "the chosen answer")
    before_rejected, rejected = _answer(row.get(columns["rejected"]), "the rejected answer")
    if before_chosen != before_rejected:
        raise Wrong("form", "the two conversations differ before their last message")
    return Preference(_prompt(row, columns, before_chosen), chosen, rejected)


def _verdict(row: Mapping[str, Any], columns: Mapping[str, str]) -> Judged:
    before, completion = _answer(row.get(columns["completion"]), "the answer")
    label = str(row.get(columns["label"])).strip().casefold()
    if label not in _YES | _NO:
        raise Wrong("form", f"the label {row.get(columns['label'])!r} is neither yes nor no")
    return Judged(_prompt(row, columns, before), completion, label in _YES)


def _answer(value: Any, what: str) -> tuple[Messages, str]:
    """What was said before, if the value is a conversation, and the answer."""
    before: Messages = ()
    if isinstance(value, list | tuple):
        messages = [as_message(message) for message in value]
        if not messages or messages[-1]["role"] != "assistant":
            raise Wrong("roles", f"{what} is no conversation that ends with the assistant")
        before, value = tuple(messages[:-1]), messages[-1]["content"]
    if not isinstance(value, str):
        raise Wrong("form", f"{what} is missing" if value is None else f"{what} is no text")
    if not value.strip():
        raise Wrong("empty", f"{what} is empty")
    return before, value


def _prompt(row: Mapping[str, Any], columns: Mapping[str, str], before: Messages) -> Prompt:
    """The row's prompt; where the answers are whole conversations, what was said before."""
    value = row.get(columns["prompt"]) if "prompt" in columns else None
    if before:
        return _in_order(before)
    if isinstance(value, list | tuple):
        return _in_order(tuple(as_message(message) for message in value))
    if not isinstance(value, str) or not value.strip():
        raise Wrong("empty", "there is no prompt" if value is None else "the prompt is empty")
    if columns["prompt"].casefold() != "instruction":
        return value
    given = row.get(columns["input"]) if "input" in columns else None
    if isinstance(given, int | float):
        given = str(given)
    if given is not None and not isinstance(given, str):
        raise Wrong("form", f"the input is no text but {type(given).__name__}")
    return ({"role": "user", "content": joined(value, given)},)


def _in_order(prompt: Messages) -> Messages:
    """The prompt's messages. Raises Wrong where an answer could not come next."""
    in_order([*map(dict, prompt), {"role": "assistant", "content": "an answer"}])
    return prompt
