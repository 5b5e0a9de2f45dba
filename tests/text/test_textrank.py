"""TextRank against its formulas by hand, and on a text whose middle is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hornbook.errors import DataError
from hornbook.text import textrank
from hornbook.text.textrank import ranks, similarities, summary

STORM = (
    "The storm reached the coast on Monday. Birds were seen. The storm on the coast cut the power "
    "of the towns. Power in the towns came back after the storm. Somebody sold a horse!"
)


def test_similarity_is_shared_words_over_the_lengths_logarithms():
    found = similarities([["a", "b", "c"], ["b", "c", "d", "c"], ["e", "e"], ["b"]])
    expected = 2 / (math.log(3) + math.log(4))  # b and c, each once
    assert found[0, 1] == found[1, 0] == pytest.approx(expected)
    assert np.count_nonzero(found) == 2  # not with themselves, not of one word


def test_scores_are_the_fixed_point_of_the_paper_s_equation():
    similarity = np.array([[0, 2, 1, 0], [2, 0, 3, 0], [1, 3, 0, 0], [0, 0, 0, 0]], np.float32)
    found = ranks(similarity)
    for i in range(3):
        near = sum(similarity[j, i] / similarity[j].sum() * found[j] for j in range(3))
        assert found[i] == pytest.approx(0.15 + 0.85 * near, abs=2e-4)
    assert found[3] == pytest.approx(0.15)  # nobody's neighbour
    assert found.argmax() == 1


def test_a_summary_is_what_the_others_speak_of_in_the_text_s_order():
    found = summary(STORM, 2)
    assert [one.number for one in found] == [0, 2]
    assert found[0].text == "The storm reached the coast on Monday."
    assert [one.number for one in summary(STORM, 9)] == [0, 1, 2, 3, 4]
    assert summary("", 2) == []


def test_more_sentences_than_memory_has_room_for_are_refused(monkeypatch):
    monkeypatch.setattr(textrank, "MOST", 4)
    with pytest.raises(DataError, match="has 5 sentences"):
        summary(STORM)
