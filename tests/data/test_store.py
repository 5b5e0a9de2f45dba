from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.data.examples import Document, Example
from hornbook.data.store import fingerprint, read_examples, write_examples
from hornbook.errors import DataError

any_text = st.text(st.characters(codec=None), max_size=40)
examples = st.lists(
    st.builds(
        Example,
        st.builds(Document, any_text, any_text),
        st.lists(any_text, max_size=3).map(tuple),
        any_text,
    ),
    max_size=5,
)


@given(examples)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("store") / "train.jsonl"
    write_examples(path, rows)
    assert read_examples(path) == rows


def test_fingerprint_tells_texts_labels_and_splits_apart():
    a, b = Example(Document("a"), ("x",), "1"), Example(Document("b"), ("y",), "2")
    prints = {
        fingerprint([a, b]),
        fingerprint([b, a]),
        fingerprint([a], [b]),
        fingerprint([a, Example(b.document, ("x",), "2")]),
    }
    assert len(prints) == 4
    assert fingerprint([a, b]) == fingerprint([a, b])


@pytest.mark.parametrize("line", ["{", '{"id": "1"}', "[]"])
def test_a_broken_line_is_named(tmp_path, line):
    path = tmp_path / "train.jsonl"
    write_examples(path, [Example(Document("a"), ("x",), "1")])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_examples(path)
