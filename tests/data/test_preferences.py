"""Preferences in the forms they come in; what is wrong with a row is said with its place."""

from __future__ import annotations

import json

import pytest

from hornbook.data.preferences import Judged, Preference, open_judged, open_pairs, text_of
from hornbook.errors import DataError, UnknownNameError
from hornbook.recipes.kinds import KINDS

USER = [{"role": "user", "content": "What is 2 + 2?"}]


def said(text):
    return [{"role": "assistant", "content": text}]


def pairs_of(tmp_path, *rows, columns=None):
    """The training pairs of a folder with these rows for training and one for the rest."""
    other = {"prompt": "another", "chosen": "a", "rejected": "b"}
    names = {column: other[ours] for ours, column in (columns or {}).items()}
    for part, content in (
        ("train", rows),
        ("validation", [other | names]),
        ("test", [other | names]),
    ):
        text = "".join(json.dumps(row) + "\n" for row in content)
        (tmp_path / f"{part}.jsonl").write_text(text)
    found = open_pairs(str(tmp_path), columns or {}, seed=0)
    return found.train, found.notes


@pytest.mark.parametrize("task", ["choose", "dpo", "kto", "reward"])
def test_data_are_called_by_their_file_not_by_the_task(task, tmp_path):
    rows = [
        {"prompt": f"{i}?", "chosen": "yes", "rejected": "no", "options": ["a", "b"], "answer": 0}
        for i in range(20)
    ]
    (tmp_path / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = KINDS.load(task).open_data(str(tmp_path / "votes.jsonl"), {}, seed=0)
    assert parts.name == "votes.jsonl"


def test_an_input_that_is_a_number_is_text_and_a_list_is_left_out(tmp_path):
    row = {"instruction": "Double this.", "input": 21, "chosen": "42", "rejected": "2121"}
    other = row | {"input": [21]}
    names = {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
    train, notes = pairs_of(tmp_path, row, other, columns=names)
    assert [text_of(pair.prompt) for pair in train] == ["Double this.\n21"]
    assert any("line 2: the input is no text but list" in note for note in notes)


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "Two and two?", "chosen": "4", "rejected": "5"}, "Two and two?"),
        ({"prompt": USER, "chosen": said("4"), "rejected": said("5")}, "What is 2 + 2?"),
        ({"chosen": USER + said("4"), "rejected": USER + said("5")}, "What is 2 + 2?"),
        (
            {"prompt": "it", "chosen": USER + said("4"), "rejected": USER + said("5")},
            "What is 2 + 2?",
        ),
        ({"instruction": "Add.", "input": "2 2", "chosen": "4", "rejected": "5"}, "Add.\n2 2"),
        ({"instruction": "Add.", "input": "", "chosen": "4", "rejected": "5"}, "Add."),
        ({"question": "Two?", "chosen": "4", "rejected": "5"}, "Two?"),
    ],
)  # fmt: skip
def test_forms(row, prompt, tmp_path):
    (pair,), _ = pairs_of(tmp_path, row)
    assert (text_of(pair.prompt), pair.chosen, pair.rejected) == (prompt, "4", "5")
    assert pair.place == "line 1"
    assert isinstance(pair.prompt, str) == prompt.startswith("Two")


def test_columns_may_be_named(tmp_path):
    row = {"q": "Two?", "good": "4", "bad": "5"}
    names = {"prompt": "q", "chosen": "good", "rejected": "bad"}
    (pair,), _ = pairs_of(tmp_path, row, columns=names)
    assert pair == Preference("Two?", "4", "5", "line 1")
    with pytest.raises(UnknownNameError, match="no column 'chosne'"):
        open_pairs(str(tmp_path), {"chosne": "good"}, seed=0)
    with pytest.raises(UnknownNameError, match="no column 'godo'"):
        open_pairs(str(tmp_path), {"chosen": "godo"}, seed=0)


GOOD = {"prompt": "Two?", "chosen": "4", "rejected": "5"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (GOOD | {"chosen": "  "}, "the chosen answer is empty"),
        (GOOD | {"rejected": None}, "the rejected answer is missing"),
        (GOOD | {"prompt": ""}, "the prompt is empty"),
        (GOOD | {"prompt": USER + said("4")}, "message 3 is of assistant after assistant"),
        (GOOD | {"prompt": said("4")}, "message 1 is of assistant at the beginning"),
        (
            {"chosen": USER + said("4"), "rejected": [USER[0] | {"content": "?"}, *said("5")]},
            "differ",
        ),
        ({"chosen": USER, "rejected": USER}, "ends with the assistant"),
    ],
)  # fmt: skip
def test_a_bad_row_is_left_out_and_named(row, why, tmp_path):
    kept, notes = pairs_of(tmp_path, GOOD, row)
    assert [pair.place for pair in kept] == ["line 1"]
    (note,) = [note for note in notes if "left out" in note]
    assert note.startswith("1 row(s) were left out: line 2: ") and why in note
    with pytest.raises(DataError, match="none of its 1 rows"):
        pairs_of(tmp_path, row)


def test_identical_answers_are_said_and_left_out(tmp_path):
    same = GOOD | {"rejected": " 4 "}
    kept, notes = pairs_of(tmp_path, GOOD, same, same)
    assert len(kept) == 1
    assert any("2 row(s) were left out" in n and "the same: line 2, line 3." in n for n in notes)
    with pytest.raises(DataError, match="no row has two different answers"):
        pairs_of(tmp_path, same)


def test_a_table_of_something_else_is_refused(tmp_path):
    path = tmp_path / "texts.csv"
    path.write_text("text,label\nhello,yes\nthere,no\n")
    with pytest.raises(DataError, match="no columns 'chosen' and 'rejected'"):
        open_pairs(str(path), {}, seed=0)


def test_a_file_is_divided_by_prompts(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"question {i // 2} about {'abcdefghij'[i // 2 % 10] * 9} {i // 2}",
         "chosen": f"yes {i}", "rejected": "no"}
        for i in range(200)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_pairs(str(path), {}, seed=3)
    assert (len(found.validation), len(found.test)) == (20, 20)
    parts = [{row.prompt for row in part} for part in (found.train, found.validation, found.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert open_pairs(str(path), {}, seed=3) == found
    assert open_pairs(str(path), {}, seed=4).test != found.test


def judged_in(tmp_path, rows):
    path = tmp_path / "judged.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_judged(str(path), {}, seed=0)


def test_answers_that_stand_alone(tmp_path):
    labels = [True, "no", 1, "bad", "Yes", 0, "good", False, "thumbs up", -1] * 2
    labels[8] = labels[18] = "up"
    rows = [{"prompt": f"q{i} {'xyz'[i % 3] * 5}", "completion": "a", "label": label}
            for i, label in enumerate(labels)]  # fmt: skip
    found = judged_in(tmp_path, rows)
    everything = found.train + found.validation + found.test
    good = {int(e.prompt.split()[0][1:]): e.good for e in everything}
    assert [good[i] for i in range(20)] == [True, False] * 10
    assert isinstance(everything[0], Judged)
    with pytest.raises(DataError, match="all 20 answers are good"):
        judged_in(tmp_path, [row | {"label": 1} for row in rows])
    found = judged_in(tmp_path, [*rows, rows[0] | {"label": "perhaps"}])
    assert any("line 21: the label 'perhaps' is neither yes nor no" in n for n in found.notes)


def test_pairs_are_a_good_and_a_bad_answer(tmp_path):
    rows = [
        {"prompt": f"q{i} {'xyz'[i % 3] * 5}", "chosen": "a", "rejected": "b"} for i in range(9)
    ]
    found = judged_in(tmp_path, rows)
    everything = found.train + found.validation + found.test
    assert (
        sorted((e.completion, e.good) for e in everything) == [("a", True)] * 9 + [("b", False)] * 9
    )


def test_the_instructions_with_preferences(data_folder):
    path = data_folder / "instructions" / "instruction-data-with-preference.json"
    found = open_pairs(str(path), {}, seed=0)
    n = len(found.train) + len(found.validation) + len(found.test)
    (note,) = [note for note in found.notes if "left out" in note]
    assert n == 1094 and note.startswith("6 row(s) were left out") and "row " in note
    assert 100 <= len(found.test) <= 120 and 100 <= len(found.validation) <= 120
    assert any("\n" in text_of(pair.prompt) for pair in found.train)
