"""Numbers keep their meaning when they are shortened, and foreign text loses what could harm."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.reports import readable


@given(st.text(st.characters(exclude_categories=())))
def test_printable_text_can_be_written_and_holds_no_control_characters(text):
    shown = readable.printable(text)
    shown.encode("utf-8")
    assert not any((ord(c) < 0x20 and c not in "\t\n") or 0x7F <= ord(c) < 0xA0 for c in shown)


def test_control_characters_become_visible():
    assert readable.printable("a\x00b\x1bc\r\nd\te") == "a␀b␛c\nd\te"


@given(st.text(max_size=400), st.integers(2, 60))
def test_excerpt_is_short_and_on_one_line(text, n):
    shown = readable.excerpt(text, n)
    assert len(shown) <= n + 1
    assert shown == " ".join(shown.split()) or "\x1c" in text  # str.split knows more separators


def test_excerpt_cuts_between_words_and_says_so():
    assert readable.excerpt("the quick brown fox", 17) == "the quick brown…"
    assert readable.excerpt("x" * 200_000, 10) == "x" * 10 + "…"
    assert readable.excerpt("short", 10) == "short"
    assert readable.excerpt("a" + " " * 1000 + "b", 10) == "a…"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (9e-7, "0.90 µs"),
        (0.00091, "0.91 ms"),
        (0.38, "380 ms"),
        (4.2, "4.2 s"),
        (59.99, "1 min 00 s"),
        (125, "2 min 05 s"),
        (4320, "1 h 12 min"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_duration(seconds, text):
    assert readable.duration(seconds) == text


def test_size_changes_its_unit_before_it_needs_four_digits():
    texts = [readable.size(n) for n in (912, 999_600, 91_200_000, 1e12)]
    assert texts == ["912 B", "1.0 MB", "91 MB", "1.0 TB"]


def test_aligned_columns_have_their_points_below_each_other():
    cells = readable.aligned([118.4, 6.32, 0.002, 0.0, 5210.0, None])
    assert [cell.strip() for cell in cells] == ["118", "6.3", "<0.01", "0", "5,210", "–"]
    from_the_right = [
        len(cell) - max(cell.find("."), cell.find(readable.PUNCTUATION_SPACE)) for cell in cells
    ]
    assert set(from_the_right) == {3}
