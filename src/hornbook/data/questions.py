"""Questions on a text, whose answers stand in it: SQuAD's JSON, and tables with a question a row.

Questions of one article share its words: an article is wholly for training or wholly not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from hornbook.data.roles import files_by_role, hold_out
from hornbook.data.rows import Table, decode, read_rows
from hornbook.errors import DataError, UnknownNameError, nearest

HELD_OUT = 0.1
_NAMES = {
    "question": ("question", "query"),
    "context": ("context", "passage", "paragraph", "document", "text"),
    "answers": ("answers", "answer"),
    "start": ("answer_start", "start"),
    "article": ("title", "article"),
    "id": ("id", "qid"),
}


class Answer(NamedTuple):
    """A stretch of the context, and the character it begins at; -1 where that is not said."""

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a context. answers: all that count as right; none where it has none.

    article: what the context was taken from.
    """

    question: str
    context: str
    answers: tuple[Answer, ...] = ()
    id: str = ""
    article: str = ""


@dataclass(frozen=True)
class QuestionData:
    """Questions, divided by article. notes: sentences for the reader."""

    train: list[Question]
    validation: list[Question]
    test: list[Question]
    notes: list[str] = field(default_factory=list)


def fault(question: Question) -> str:
    """What is wrong with a question's answers, and the nearest place that would be right; or ""."""
    for answer in question.answers:
        end = answer.start + len(answer.text)
        if not answer.text.strip():
            return f"the answer of question '{question.id}' is empty"
        if answer.start >= 0 and question.context[answer.start : end] == answer.text:
            continue
        place = nearest_place(question.context, answer)
        if place is None:
            return (
                f"the answer {answer.text[:60]!r} of question '{question.id}' does not stand in "
                f"its context ({question.context[:40]!r}…)"
            )
        return (
            f"the answer of question '{question.id}' is said to begin at {answer.start}, where "
            f"{question.context[max(0, answer.start) : max(0, end)][:60]!r} stands; the nearest "
            f"{answer.text[:60]!r} begins at {place}"
        )
    return ""


def nearest_place(context: str, answer: Answer) -> int | None:
    """Where the answer's text begins in the context, nearest to where it was said to."""
    places = [found.start() for found in re.finditer(re.escape(answer.text), context)]
    return min(places, key=lambda place: abs(place - answer.start)) if places else None


def moved(question: Question) -> Question:
    """The same with each answer at the nearest place at which its text stands."""
    answers = []
    for answer in question.answers:
        place = nearest_place(question.context, answer) if answer.text.strip() else None
        answers.append(answer if place is None else Answer(answer.text, place))
    return replace(question, answers=tuple(answers))


def open_questions(path: str | Path, columns: Mapping[str, str], *, seed: int) -> QuestionData:
    """Read a file or a folder with files for training, validation and test, and divide the rest.

    columns: of a table, by "question", "context", "answers", "start", "article" and "id". Places of
    answers are taken as they are said: `fault` tells whether they are right. Raises DataError
    naming file and place, UnknownNameError for another name or column.
    """
    if other := [name for name in columns if name not in _NAMES]:
        raise UnknownNameError(f"questions have no '{other[0]}'", hint=nearest(other[0], _NAMES))
    notes: list[str] = []
    roles = files_by_role(Path(path).expanduser())
    parts = {role: read_questions(file, columns, notes) for role, file in roles.items()}
    train = parts["train"]
    if "test" not in parts and "validation" not in parts:
        train, parts["test"] = _divided(train, seed + 1, "test", notes)
    if "validation" not in parts:
        train, parts["validation"] = _divided(train, seed, "validation", notes)
    return QuestionData(train, parts["validation"], parts.get("test", []), notes)


def read_questions(path: Path, columns: Mapping[str, str], notes: list[str]) -> list[Question]:
    """All questions of one file. Raises DataError naming the place of what is no question."""
    if path.suffix.lower() == ".json":
        text, read_as = decode(path.read_bytes(), str(path))
        try:
            content = json.loads(text)
        except ValueError as error:
            raise DataError(f"{path}: not JSON: {error}", hint="Fetch it again.") from error
        if isinstance(content, dict) and _is_squad(content.get("data")):
            notes += read_as
            return _squad(path, content["data"])
    table = read_rows(path)
    notes += table.notes
    questions = _of_table(table, columns)
    if not questions:
        raise DataError(f"{path} holds no questions", hint='{"question", "context", "answers"}')
    return questions


def _is_squad(data: Any) -> bool:
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(article, dict) and "paragraphs" in article for article in data)
    )


def _squad(path: Path, articles: list[dict[str, Any]]) -> list[Question]:
    questions = []
    for a, article in enumerate(articles):
        title = str(article.get("title") or f"article {a + 1}")
        for p, paragraph in enumerate(_objects(article["paragraphs"], f"{path}, data[{a}]")):
            where = f"{path}, data[{a}].paragraphs[{p}]"
            for q, asked in enumerate(_objects(paragraph.get("qas", []), where)):
                place = f"{where}.qas[{q}]"
                try:
                    answers = () if asked.get("is_impossible") else _answers(asked["answers"])
                    context, question = _text(paragraph["context"]), _text(asked["question"])
                except (KeyError, TypeError, ValueError) as error:
                    raise DataError(
                        f"{place}: not a question: {error!r}",
                        hint='{"question": …, "id": …, "answers": [{"text": …, "answer_start": 0}]}'
                        ' in {"context": …, "qas": […]}.',
                    ) from error
                id = str(asked.get("id") or f"{a}.{p}.{q}")
                questions.append(Question(question, context, answers, id, title))
    return questions


def _objects(value: Any, place: str) -> list[dict[str, Any]]:
    """The value, if it is a list of objects. Raises DataError naming the place."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise DataError(
            f"{place}: no list of objects but {str(value)[:80]}",
            hint='{"data": [{"title": …, "paragraphs": [{"context": …, "qas": [{…}]}]}]}',
        )
    return value


def _text(value: Any) -> str:
    """The value, if it is text or a number. Raises TypeError."""
    if value is None or not isinstance(value, str | int | float):
        raise TypeError(f"{str(value)[:40]} is no text")
    return str(value)


def _answers(value: Any) -> tuple[Answer, ...]:
    """Answers as SQuAD lists them, or as two lists; equal ones once."""
    if isinstance(value, dict):
        value = [
            {"text": text, "answer_start": start}
            for text, start in zip(value["text"], value["answer_start"], strict=True)
        ]
    return tuple(dict.fromkeys(Answer(_text(a["text"]), int(a["answer_start"])) for a in value))


def _of_table(table: Table, columns: Mapping[str, str]) -> list[Question]:
    for column in columns.values():
        if column not in table.columns:
            raise UnknownNameError(
                f"{table.name} has no column '{column}'", hint=nearest(column, table.columns)
            )
    named = {
        part: columns.get(part) or next((n for n in names if n in table.columns), None)
        for part, names in _NAMES.items()
    }
    if missing := [part for part in ("question", "context", "answers") if not named[part]]:
        raise DataError(
            f"{table.name}: which column holds each {missing[0].removesuffix('s')}?",
            hint=f"Name it: --column {missing[0]}=…. Columns: {', '.join(table.columns)}.",
        )
    questions = []
    for row, place in zip(table.rows, table.places, strict=True):
        held = {part: row.get(column) if column else None for part, column in named.items()}
        for part in ("question", "context"):
            if not isinstance(held[part], str | int | float):
                raise DataError(
                    f"{table.name}, {place}: the {part} is no text but {str(held[part])[:40]}",
                    hint="Fill it in, or take the row out.",
                )
        try:
            answers = _row_answers(held["answers"], held["start"], str(held["context"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{table.name}, {place}: not answers: {str(held['answers'])[:80]}",
                hint='{"text": ["Rome"], "answer_start": [17]}, or "answer" and "answer_start".',
            ) from error
        article = str(held["article"] or held["context"])
        id = str(held["id"] or place)
        texts = str(held["question"]), str(held["context"])
        questions.append(Question(*texts, answers, id, article))
    return questions


def _row_answers(value: Any, start: Any, context: str) -> tuple[Answer, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        if start not in (None, ""):
            return (Answer(value, int(start)),)
        # Where it stands once, or first: nobody said where.
        return (Answer(value, context.find(value)),)
    return _answers(value)


def _divided(
    questions: list[Question], seed: int, part: str, notes: list[str]
) -> tuple[list[Question], list[Question]]:
    n_left = 2 if part == "test" else 1  # validation is drawn from the rest
    out = hold_out([q.article for q in questions], HELD_OUT, seed, n_left=n_left)
    kept = [q for q, is_out in zip(questions, out, strict=True) if not is_out]
    held = [q for q, is_out in zip(questions, out, strict=True) if is_out]
    n_articles = len({q.article for q in held})
    notes.append(
        f"The data has no {part} part: {len(held):,} of {len(questions):,} questions were set "
        f"aside, {n_articles:,} whole article(s) of {len({q.article for q in questions}):,} "
        f"(seed {seed})."
    )
    return kept, held
