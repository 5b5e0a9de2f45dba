"""Stops across the joints of tokens, against a plain search in the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.errors import ConfigError
from hornbook.generation.stopping import Stops


def through(stops: list, parts: list) -> tuple[list, bool]:
    search: Stops = Stops(stops)
    out = [item for part in parts for item in search.add(part)]
    return out + ([] if search.found else search.end()), search.found


def test_a_stop_is_found_after_a_false_start():
    assert through([[1, 1, 2]], [[1], [1], [1], [2], [7]]) == ([1], True)
    assert through(["112"], ["1", "1", "12", "7"]) == (["1"], True)


def test_text_is_held_back_only_as_long_as_it_may_begin_a_stop():
    search: Stops[str] = Stops(["</s>"])
    assert search.add("one <") == list("one ")
    assert search.add("/") == []
    assert search.add("b") == list("</b")
    assert search.add("<</s") == ["<"]
    assert search.add(">two") == []
    assert search.found
    assert search.add("three") == []


def test_the_stop_that_ends_first_counts_and_of_those_the_longest():
    assert through(["abc", "b"], ["xabc"]) == (["x", "a"], True)
    assert through(["b", "ab"], ["xab"]) == (["x"], True)


def test_an_empty_stop_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        Stops([""])


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3),
    st.lists(st.text("ab", max_size=4), max_size=12),
)
def test_it_finds_what_a_search_in_the_whole_text_finds(stops, parts):
    text = "".join(parts)
    ends = [
        (i, -len(s)) for s in stops for i in range(len(s), len(text) + 1) if text[:i].endswith(s)
    ]
    if ends:
        end, minus = min(ends)
        assert through(stops, parts) == (list(text[: end + minus]), True)
    else:
        assert through(stops, parts) == (list(text), False)
