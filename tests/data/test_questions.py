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
