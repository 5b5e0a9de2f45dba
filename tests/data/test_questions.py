"""Questions: SQuAD's JSON and tables, articles whole, answers that stand elsewhere than said."""

from __future__ import annotations

import json

import pytest

from hornbook.data.questions import (
    Answer,
    Question,
    fault,
    moved,
    nearest_place,
    open_questions,
    read_questions,
)
from hornbook.errors import DataError, UnknownNameError

CONTEXT = "Rome is old. All roads lead to Rome, they say."


def squad(n_articles=12, **more):
    def asked(a, q):
        answers = [{"text": "Rome", "answer_start": 0}, {"text": "Rome", "answer_start": 0}]
        return {"id": f"{a}-{q}", "question": "Where?", "answers": answers} | more

    return {
        "version": "1.1",
        "data": [
            {
                "title": f"city {a}",
                "paragraphs": [{"context": CONTEXT, "qas": [asked(a, q) for q in range(5)]}],
            }
            for a in range(n_articles)
        ],
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_large_article_is_for_training(seed, tmp_path):
    rows = [
        {"question": "Where?", "context": "In Rome.", "answers": "Rome", "title": f"article {a}"}
        for a, n in enumerate((990, 10, 1))
        for _ in range(n)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_questions(tmp_path / "a.jsonl", {}, seed=seed)
    assert len(found.train) == 990
    assert sorted((len(found.validation), len(found.test))) == [1, 10]


@pytest.mark.parametrize(
    ("paragraphs", "place"),
    [
        (["Rome is old."], r"data\[0\]: no list of objects"),
        ("Rome is old.", r"data\[0\]: no list of objects"),
        ([{"context": CONTEXT, "qas": ["Where?"]}], r"data\[0\].paragraphs\[0\]: no list"),
        ([{"context": None, "qas": [{"question": "?", "answers": []}]}], r"qas\[0\]: not a quest"),
        (
            [{"context": CONTEXT, "qas": [
                {"question": "?", "answers": [{"text": None, "answer_start": 0}]}
            ]}],
            r"qas\[0\]: not a quest",
        ),
    ],
)  # fmt: skip
def test_what_is_no_paragraph_or_question_is_named(paragraphs, place, tmp_path):
    content = {"data": [{"title": "city", "paragraphs": paragraphs}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=place):
        read_questions(tmp_path / "a.json", {}, [])


@pytest.mark.parametrize("part", ["question", "context"])
def test_a_missing_text_is_not_the_text_none(part, tmp_path):
    row = {"question": "Where?", "context": CONTEXT, "answers": "Rome"}
    lines = json.dumps(row) + "\n" + json.dumps(row | {part: None}) + "\n"
    (tmp_path / "a.jsonl").write_text(lines)
    with pytest.raises(DataError, match=f"line 2: the {part} is no text but None"):
        read_questions(tmp_path / "a.jsonl", {}, [])


def test_squad_is_divided_by_article(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad()))
    data = open_questions(path, {}, seed=0)
    parts = [{q.article for q in part} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12 and all(parts)
    assert sum(len(p) for p in (data.train, data.validation, data.test)) == 60
    assert data.train[0].answers == (Answer("Rome", 0),)  # equal ones once
    assert "1 whole article(s) of 12" in data.notes[0]


def test_impossible_questions_have_no_answer(tmp_path):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(squad(is_impossible=True)))
    assert read_questions(path, {}, [])[0].answers == ()


def test_tables_in_three_forms(tmp_path):
    rows = [
        {"answers": {"text": ["old"], "answer_start": [8]}},
        {"answers": [{"text": "old", "answer_start": 8}]},
        {"answers": "old", "answer_start": 8},
        {"answers": "old"},
        {"answers": None},
    ]
    path = tmp_path / "a.jsonl"
    lines = (json.dumps({"question": "How?", "context": CONTEXT} | row) for row in rows)
    path.write_text("\n".join(lines))
    found = read_questions(path, {}, [])
    assert [q.answers for q in found] == [(Answer("old", 8),)] * 4 + [()]
    path.write_text(json.dumps({"question": "How?", "context": CONTEXT, "answers": 3}))
    with pytest.raises(DataError, match="line 1: not answers: 3"):
        read_questions(path, {}, [])
    with pytest.raises(UnknownNameError, match="no column 'q'"):
        read_questions(path, {"question": "q"}, [])


def test_a_broken_squad_is_named_by_its_place(tmp_path):
    broken = squad(2)
    del broken["data"][1]["paragraphs"][0]["qas"][3]["question"]
    (tmp_path / "a.json").write_text(json.dumps(broken))
    with pytest.raises(DataError, match=r"data\[1\].paragraphs\[0\].qas\[3\]: not a question"):
        read_questions(tmp_path / "a.json", {}, [])


def test_misplaced_answers_are_said_with_the_nearest_place():
    def of(text, start):
        return Question("Where?", CONTEXT, (Answer(text, start),), id="q7")

    assert fault(of("Rome", 0)) == fault(of("Rome", 31)) == ""
    assert "'q7' is said to begin at 30, where ' Rom' stands; the nearest 'Rome' begins at 31" in (
        fault(of("Rome", 30))
    )
    assert nearest_place(CONTEXT, Answer("Rome", 12)) == 0
    assert moved(of("Rome", 30)).answers == (Answer("Rome", 31),)
    assert "'Paris' of question 'q7' does not stand in its context" in fault(of("Paris", 0))
    assert "empty" in fault(of(" ", 4))
    assert fault(of("Rome", -1))  # nobody said where


def test_xquad_is_sound(data_folder):
    found = read_questions(data_folder / "xquad_en" / "xquad.en.json", {}, [])
    assert len(found) == 1190 and len({q.article for q in found}) == 48
    assert not any(map(fault, found))
