"""Questions with options: how a row says which is right, and what is wrong with one."""

from __future__ import annotations

import json

import pytest

from hornbook.data.choices import Question, open_questions
from hornbook.errors import DataError, UnknownNameError

ROW = {"context": "The cat", "options": ["sat down", "flew off"], "answer": 0}


def train_of(tmp_path, *rows, columns=None, suffix="jsonl", text=None):
    content = text or "".join(json.dumps(row) + "\n" for row in rows)
    for part in ("train", "validation", "test"):
        (tmp_path / f"{part}.{suffix}").write_text(content)
    return open_questions(str(tmp_path), columns or {}, seed=0).train


@pytest.mark.parametrize(
    ("answer", "number"),
    [(1, 1), ("1", 1), ("1.0", 1), ("B", 1), ("a", 0), ("flew off", 1), (0, 0)],
)
def test_the_answer_is_a_number_a_letter_or_the_option(answer, number, tmp_path):
    (question,) = train_of(tmp_path, ROW | {"answer": answer})
    assert question == Question("The cat", ("sat down", "flew off"), number, "line 1")


def test_an_option_that_is_missing_is_not_the_text_none(tmp_path):
    row = {"question": "The cat", "A": "sat down", "B": "flew off", "C": None, "answer": "A"}
    with pytest.raises(DataError, match="line 1: option C is missing"):
        train_of(tmp_path, row)


def test_a_file_is_a_test_by_a_whole_word_of_its_name(tmp_path):
    row = json.dumps(ROW) + "\n"
    (tmp_path / "test_eval.jsonl").write_text(row)
    found = open_questions(str(tmp_path / "test_eval.jsonl"), {}, seed=0)
    assert (len(found.train), len(found.test), found.name) == (0, 1, "test_eval.jsonl")
    rows = "".join(json.dumps(ROW | {"context": f"The cat {i}"}) + "\n" for i in range(10))
    (tmp_path / "latest.jsonl").write_text(rows)
    found = open_questions(str(tmp_path / "latest.jsonl"), {}, seed=0)
    assert (len(found.train), len(found.validation), len(found.test)) == (8, 1, 1)


def test_an_options_own_text_goes_first(tmp_path):
    (question,) = train_of(tmp_path, ROW | {"options": ["2", "1", "0"], "answer": "0"})
    assert question.answer == 2


@pytest.mark.parametrize(
    "text",
    [
        'context,options,answer\nThe cat,"[""sat down"", ""flew off""]",B\n',
        "question,choices,label\nThe cat,sat down | flew off,1\n",
        "question,A,B,answer\nThe cat,sat down,flew off,B\n",
    ],
)
def test_csv(text, tmp_path):
    (question,) = train_of(tmp_path, suffix="csv", text=text)
    assert (question.options, question.answer) == (("sat down", "flew off"), 1)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"answer": 2}, "answer 2 is none of 2 options"),
        ({"answer": -1}, "answer -1 is none"),
        ({"answer": "neither"}, "'neither' is none"),
        ({"options": ["sat"]}, "there are 1 options"),
        ({"options": ["sat", " "]}, "option 1 is empty"),
        ({"options": ["sat", "sat"]}, "two options are the same"),
        ({"options": 3}, "no list of texts"),
        ({"context": ""}, "the context is empty"),
    ],
)
def test_a_row_that_is_no_question_is_named(change, why, tmp_path):
    with pytest.raises(DataError, match=f"line 2: .*{why}"):
        train_of(tmp_path, ROW, ROW | change)


def test_columns(tmp_path):
    (question,) = train_of(
        tmp_path,
        {"q": "The cat", "mc": ["a", "b"], "key": 1},
        columns={"context": "q", "options": "mc", "answer": "key"},
    )
    assert question.answer == 1
    with pytest.raises(DataError, match="no column for answer"):
        train_of(tmp_path, {"context": "x", "options": ["a", "b"]})
    with pytest.raises(UnknownNameError, match="'keyy'"):
        train_of(tmp_path, {"q": "x", "key": 1}, columns={"answer": "keyy"})


def test_a_file_is_divided_by_contexts(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [ROW | {"context": f"Story {i // 2}"} for i in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_questions(str(path), {}, seed=1)
    parts = [{q.context for q in part} for part in (found.train, found.validation, found.test)]
    assert list(map(len, parts)) == [40, 5, 5]
    assert len(set.union(*parts)) == 50


def test_a_file_of_test_questions_is_not_divided(tmp_path):
    path = tmp_path / "animals-test.jsonl"
    path.write_text("".join(json.dumps(ROW | {"context": f"Story {i}"}) + "\n" for i in range(9)))
    found = open_questions(str(path), {}, seed=0)
    assert (len(found.train), len(found.validation), len(found.test)) == (0, 0, 9)
