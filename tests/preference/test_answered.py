"""Prompts with answers that nobody judged, as they are read to be marked."""

from __future__ import annotations

import pytest

from hornbook.data.preferences import read_answered
from hornbook.data.rows import read_rows
from hornbook.errors import DataError, UnknownNameError


def read(tmp_path, text, name="t.csv", **columns):
    (tmp_path / name).write_text(text)
    found, notes = read_answered(read_rows(tmp_path / name), columns)
    return [(one.prompt, one.answers) for one in found], notes


def test_equal_prompts_come_together_in_the_order_they_came_first(tmp_path):
    found, notes = read(tmp_path, "prompt,answer\nb,1st\na,2nd\nb,3rd\n")
    assert found == [("b", ("1st", "3rd")), ("a", ("2nd",))] and not notes


def test_lists_and_pairs_are_read(tmp_path):
    listed, _ = read(tmp_path, 'q,all\nwhy?,"[""x, y"", ""z""]"\n', prompt="q", answers="all")
    assert listed == [("why?", ("x, y", "z"))]
    pair, _ = read(tmp_path, "prompt,chosen,rejected,answer\na,good,bad,other\n")
    assert pair == [("a", ("good", "bad"))]


def test_an_instruction_s_input_goes_below_it(tmp_path):
    found, _ = read(tmp_path, "instruction,input,output\nAdd.,1 and 2,3\n")
    ((prompt, answers),) = found
    assert prompt[0]["content"] == "Add.\n1 and 2" and answers == ("3",)


def test_rows_that_are_wrong_are_named(tmp_path):
    found, notes = read(tmp_path, "prompt,answer\na,x\n,y\nb,\n")
    assert found == [("a", ("x",))]
    assert "line 3" in notes[0] and "line 4" in notes[0]
    with pytest.raises(DataError, match="none of its 1 rows can be used"):
        read(tmp_path, 'prompt,answers\na,"[1, 2]"\n')
    with pytest.raises(DataError, match="has no column of answers"):
        read(tmp_path, "prompt,text\na,b\n")
    with pytest.raises(UnknownNameError, match="no column 'antwort'"):
        read(tmp_path, "prompt,answer\na,b\n", completion="antwort")
