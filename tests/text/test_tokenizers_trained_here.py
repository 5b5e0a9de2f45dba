"""Vocabularies trained on a few texts: special tokens, cuts, round trips, broken files."""

from __future__ import annotations

import pytest

from hornbook.errors import CheckpointError
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer, clip
from hornbook.text.train import train_byte_pairs, train_wordpiece

TEXTS = ["the cat sat on the mat", "a dog and a cat", "naïve café: schön — 漢字 🙂", ""] * 5


def test_wordpiece_wraps_and_cuts():
    tokenizer = train_wordpiece(TEXTS, 200)
    cls, sep = tokenizer.id_of("[CLS]"), tokenizer.id_of("[SEP]")
    ids = tokenizer.encode(["the cat sat on the mat", ""], max_tokens=4)
    assert [len(i) for i in ids] == [4, 2]
    assert all(i[0] == cls and i[-1] == sep for i in ids)
    assert tokenizer.decode(tokenizer.encode(["The CAT"], max_tokens=20)[0]) == "the cat"


def test_byte_pairs_lose_nothing():
    tokenizer = train_byte_pairs(TEXTS, 400)
    for text in [*TEXTS, "\x00\t weird \U0001f9ea bytes"]:
        ids = tokenizer.encode([text], max_tokens=500)[0]
        assert ids[-1] == tokenizer.id_of(END_OF_TEXT)
        assert tokenizer.decode(ids) == text


def test_saved_and_loaded_is_the_same(tmp_path):
    tokenizer = train_wordpiece(TEXTS, 200)
    tokenizer.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.vocab_size == tokenizer.vocab_size
    assert loaded.encode(TEXTS, max_tokens=9) == tokenizer.encode(TEXTS, max_tokens=9)


def test_broken_and_missing_files_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="no tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"not a tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_huge_text_is_clipped_before_it_is_tokenized():
    tokenizer = train_wordpiece(TEXTS, 200)
    huge = "cat " * 50_000
    assert len(clip(huge, 256)) == 256 * 32
    assert tokenizer.encode([huge], max_tokens=16) == tokenizer.encode([huge[:400]], max_tokens=16)
