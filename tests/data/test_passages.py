"""Running text as examples: documents whole, one long text in passages, the old texts sampled."""

from __future__ import annotations

import json

import pytest

from hornbook.data.passages import PASSAGE, Passage, old_passages, open_passages, passages
from hornbook.errors import ConfigError, DataError

LINE = "the cat sat on the mat and looked at the rain\n"


def lengths(texts):
    return [len(t) for t in texts]


def test_documents_stay_whole_and_blank_ones_are_left_out():
    long = LINE * 500
    assert list(passages(["one", " \n", long], one_text=False)) == [Passage("one"), Passage(long)]


def test_one_text_becomes_passages_that_lose_nothing_and_do_not_end():
    long = LINE * 500
    found = list(passages([long[:9000], long[9000:]], one_text=True))
    assert "".join(p.text for p in found) == long
    assert not any(p.ends for p in found) and len(found) > 4
    assert all(len(p.text) <= PASSAGE * 1.5 for p in found)
    assert found[0].text.endswith("\n")


def test_a_book_and_a_table_are_divided(tmp_path):
    (tmp_path / "book.txt").write_text(LINE * 2000)
    book = open_passages(str(tmp_path / "book.txt"), {}, seed=0)
    assert len(book.train) > 15 and len(book.validation) > 1
    assert any("passages" in note for note in book.notes)
    rows = "".join(json.dumps({"body": f"text number {i}"}) + "\n" for i in range(50))
    (tmp_path / "rows.jsonl").write_text(rows)
    table = open_passages(str(tmp_path / "rows.jsonl"), {"text": "body"}, seed=0)
    assert len(table.train) == 45 and len(table.validation) == 5
    assert all(p.ends for p in table.train)
    with pytest.raises(ConfigError, match="no column 'label'"):
        open_passages(str(tmp_path / "rows.jsonl"), {"label": "x"}, seed=0)


def test_old_texts_are_from_all_over_and_of_a_corpus_held_out_ones(tmp_path):
    rows = "".join(json.dumps({"text": f"text number {i:03}"}) + "\n" for i in range(100))
    (tmp_path / "rows.jsonl").write_text(rows)
    everything = old_passages(str(tmp_path / "rows.jsonl"), lengths, most=10**6)
    assert len(everything) == 100
    some = old_passages(str(tmp_path / "rows.jsonl"), lengths, most=150)
    assert len(some) == 10 and len(set(some)) == 10 and {some[0], some[-1]} < set(everything)
    from hornbook.data.corpus import open_corpus

    held_out = {text[:200] for text in open_corpus("pydocs").validation()}
    old = old_passages("pydocs", lengths, most=10**9)
    assert all(p.text[:200] in held_out for p in old)
    assert max(len(p.text) for p in old) <= 2 * PASSAGE
    with pytest.raises(DataError):
        old_passages(str(tmp_path / "nothing.jsonl"), lengths, most=10)
