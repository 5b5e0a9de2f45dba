"""A sample of tokens from all over a text."""

from __future__ import annotations

import numpy as np

from hornbook.data.packing import TokenArray, beginning, from_all_over


def test_pieces_come_from_all_over_and_end_where_they_are_cut():
    text = TokenArray.of(np.arange(1000))
    sample = from_all_over(text, 64, n_pieces=4)
    assert sample.ends.tolist() == [16, 32, 48, 64]
    assert sample.tokens[:16].tolist() == list(range(16))
    assert sample.tokens[-16:].tolist() == list(range(984, 1000))
    assert len(set(sample.tokens.tolist())) == 64


def test_a_text_that_is_no_longer_is_taken_whole():
    text = TokenArray(np.arange(50), np.array([20, 50]))
    for sample in (from_all_over(text, 64), beginning(text, 64)):
        assert sample.tokens.tolist() == list(range(50)) and sample.ends.tolist() == [20, 50]
    assert beginning(text, 30).ends.tolist() == [20, 30]
