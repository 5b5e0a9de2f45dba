"""Conversations come in four forms and leave in one; wrong ones are named, never learnt."""

from __future__ import annotations

import json

import pytest

from hornbook.data.conversations import read_dialogues, summary
from hornbook.data.dialogue_parts import open_dialogues
from hornbook.errors import DataError

HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def file_of(rows, path):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def test_a_split_that_is_not_known_is_said(tmp_path):
    rows = [{"messages": HI, "split": s} for s in ("train", "test", "holdout")]
    path = file_of(rows, tmp_path / "a.jsonl")
    found = read_dialogues(path)
    assert found.splits is None
    assert any("line 3: the split 'holdout' in column 'split'" in note for note in found.notes)
    with pytest.raises(DataError, match="line 3: the split 'holdout'"):
        read_dialogues(path, {"split": "split"})
    whole = read_dialogues(file_of(rows[:2], tmp_path / "b.jsonl"))
    assert whole.splits == ["train", "test"] and not whole.notes
    assert not read_dialogues(file_of([{"messages": HI}], tmp_path / "c.jsonl")).notes


def test_a_role_that_is_a_list_is_named_with_its_row(tmp_path):
    wrong = {"messages": [{"role": ["user"], "content": "hi"}, HI[1]]}
    (problem,) = read_dialogues(file_of([{"messages": HI}, wrong], tmp_path / "a.jsonl")).problems
    assert problem.code == "roles" and "line 2" in problem.place


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": HI}, "messages"),
        ({"messages": json.dumps(HI)}, "messages"),
        ({"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
         "ShareGPT"),
        ({"prompt": "hi", "completion": "hello"}, "prompt and completion"),
        ({"prompt": HI[:1], "completion": HI[1:]}, "prompt and completion"),
        ({"instruction": "hi", "input": "", "output": "hello"}, "Alpaca"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, HI[1]]},
         "messages"),
    ],
)  # fmt: skip
def test_every_form_becomes_the_same_messages(row, form, tmp_path):
    found = read_dialogues(file_of([row], tmp_path / "a.jsonl"))
    assert found.form == form and not found.problems
    assert list(found.dialogues[0].messages) == HI
    assert found.dialogues[0].answers == [1]


def test_inputs_systems_and_tools_find_their_places(tmp_path):
    tool = {"type": "function", "function": {"name": "add"}}
    rows = [
        {"system": "Be brief.", "instruction": "Translate", "input": "Haus", "output": "house"},
        {"conversations": [
            {"from": "human", "value": "1 + 1?"},
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1}}'},
            {"from": "observation", "value": "2"},
            {"from": "gpt", "value": "Two."}], "tools": json.dumps([tool])},
    ]  # fmt: skip
    alpaca = read_dialogues(file_of(rows[:1], tmp_path / "a.jsonl")).dialogues[0]
    assert [m["content"] for m in alpaca.messages] == ["Be brief.", "Translate\nHaus", "house"]
    shared = read_dialogues(file_of(rows[1:], tmp_path / "b.jsonl")).dialogues[0]
    assert [m["role"] for m in shared.messages] == ["user", "assistant", "tool", "assistant"]
    assert shared.messages[1]["tool_calls"][0]["function"]["name"] == "add"
    assert shared.tools == (tool,) and shared.answers == [1, 3]


def said(*roles):
    return {"messages": [{"role": role, "content": role} for role in roles]}


@pytest.mark.parametrize(
    ("row", "code", "words"),
    [
        (said("assistant", "user"), "roles", "message 1 is of assistant at the beginning"),
        (said("user", "user", "assistant"), "roles", "message 2 is of user after user"),
        (said("user", "assistant", "system", "assistant"), "roles", "message 3 is of system"),
        (said("user", "assistant", "tool", "assistant"), "roles", "a tool call that nobody made"),
        (said("user"), "roles", "there is no answer"),
        (said("wizard"), "roles", "role is 'wizard'"),
        ({"messages": [HI[0], HI[1] | {"content": " \n"}]}, "empty", "answer is empty"),
        ({"messages": [{"role": "user", "content": ""}, HI[1]]}, "empty", "the user says nothing"),
        ({"messages": [HI[0], HI[1] | {"weight": 0}]}, "empty", "weight 0"),
        ({"messages": "none"}, "form", "no list of messages"),
        ({"messages": [HI[0], {"role": "assistant", "content": [{"type": "image"}]}]}, "form",
         "something else than text"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_file_and_line(row, code, words, tmp_path):
    path = file_of([{"messages": HI}, row, {"messages": HI}], tmp_path / "a.jsonl")
    found = read_dialogues(path)
    assert len(found.dialogues) == 2
    (problem,) = found.problems
    assert problem.code == code and words in problem.what
    assert problem.place == f"{path}, line 2"
    assert summary(found)["problems"][0]["place"] == problem.place


def test_what_nobody_answers_is_left_out_and_said(tmp_path):
    found = read_dialogues(file_of([said("user", "assistant", "user")], tmp_path / "a.jsonl"))
    assert [m["role"] for m in found.dialogues[0].messages] == ["user", "assistant"]
    assert "1 conversations" in found.notes[0]


def test_a_file_without_conversations_is_refused(tmp_path):
    with pytest.raises(DataError, match="line 1: message 1 is of assistant"):
        read_dialogues(file_of([said("assistant")], tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match="columns are text, label"):
        read_dialogues(file_of([{"text": "a", "label": "b"}], tmp_path / "b.jsonl"))


def test_columns_of_other_names(tmp_path):
    path = file_of([{"q": "hi", "a": "hello", "s": "Be kind."}], tmp_path / "a.jsonl")
    columns = {"prompt": "q", "completion": "a", "system": "s"}
    (dialogue,) = read_dialogues(path, columns).dialogues
    assert [m["role"] for m in dialogue.messages] == ["system", "user", "assistant"]
    with pytest.raises(DataError, match="no column 'c'"):
        read_dialogues(path, {"prompt": "c"})


def test_dividing_keeps_a_question_on_one_side(tmp_path):
    rows = [{"prompt": f"question {i // 2}", "completion": str(i)} for i in range(200)]
    path = file_of(rows, tmp_path / "a.jsonl")
    parts = open_dialogues(str(path), {}, seed=0)
    asked = [
        {d.messages[0]["content"] for d in p} for p in (parts.train, parts.validation, parts.test)
    ]
    assert not asked[0] & asked[1] and not asked[0] & asked[2] and not asked[1] & asked[2]
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 200
    assert 18 <= len(parts.test) <= 22 and 8 <= len(parts.validation) <= 10
    assert open_dialogues(str(path), {}, seed=0) == parts != open_dialogues(str(path), {}, seed=1)


def test_a_column_of_splits_divides(tmp_path):
    rows = [
        {"prompt": split, "completion": "x", "split": split}
        for split in ("train", "train", "dev", "test")
    ]
    parts = open_dialogues(str(file_of(rows, tmp_path / "a.jsonl")), {}, seed=0)
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [2, 1, 1]
