from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.data.clean import clean_text, holds_any

PIECES = ["<p>", "</p>", "<br/>", "&amp;", "&lt;", "&#39;", "amp;", "lt;b&gt;", "<!--", "-->"]
PIECES += ["<b", ">", "<", "<script>", "</script>", "a"]
PIECES += [" ", "\n", "\r", "\u00a0", "e\u0301", "\x07"]
MARKED = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("<p>One</p><p>two &amp; three</p>", "One\n\ntwo & three"),
        ("I don&#039;t &amp;lt;care&amp;gt;", "I don't <care>"),
        ("a < b and c > d, x<y", "a < b and c > d, x<y"),
        ("<script>var a = '<p>';</script>Text<style>p {}</style>", "Text"),
        ('<a href="x">link</a>, <b>bold</b>\t and \u00a0 wide', "link, bold and wide"),
        ("List<int> of <unknown>", "List<int> of <unknown>"),
        ("<!-- note -->seen\r\n\r\n\r\n\r\nafter", "seen\n\nafter"),
        ("cafe\u0301\ufeff", "caf\u00e9"),
        ("", ""),
    ],
)
def test_cleaned(text, wanted):
    assert clean_text(text) == wanted


@settings(max_examples=300, deadline=None)
@given(MARKED)
def test_twice_is_as_once(text):
    assert clean_text(clean_text(text)) == clean_text(text)


def test_words_are_found_as_words():
    wanted = holds_any(["pandas", "C++", "scikit learn"])
    assert wanted("import Pandas as pd") and wanted("in C++.") and wanted("Scikit Learn!")
    assert not wanted("pandasql") and not wanted("learn scikit")
