"""Text as it comes: whole characters, and together what decoding at once gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.generation.stream import detokenizer, text_pieces
from hornbook.text.train import train_tokenizer

CORPUS = "a plain text, doesn't it? größer, 日本語 😀. It's (so) plain! "
TOKENIZERS = {
    name: train_tokenizer(name, lambda: [CORPUS * 20], 290)
    for name in ("bpe", "character", "word", "wordpiece", "unigram")
}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_tokens_become_the_text_that_decoding_at_once_gives(name, data):
    """Also tokens that no text would give: half characters, special tokens between halves."""
    tokenizer = TOKENIZERS[name]
    tokens = data.draw(st.lists(st.integers(0, len(tokenizer.tokens) - 1), max_size=30))
    assert "".join(text_pieces(tokens, tokenizer)) == tokenizer.decode(tokens)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_text_goes_on_from_its_prompt(name):
    tokenizer = TOKENIZERS[name]
    tokens = tokenizer.encode([CORPUS], special=False)[0]
    for cut in range(1, len(tokens)):
        before = tokenizer.decode(tokens[:cut])
        if "�" in before:
            continue
        rest = "".join(text_pieces(tokens[cut:], tokenizer, before=tokens[:cut]))
        assert before + rest == tokenizer.decode(tokens)


def test_a_character_comes_whole_with_its_last_byte():
    tokenizer = TOKENIZERS["bpe"]
    emoji = tokenizer.encode(["🥨"], special=False)[0]  # not in the corpus: a token a byte
    spelling = detokenizer(tokenizer)
    assert [spelling.add(token) for token in emoji] == [""] * (len(emoji) - 1) + ["🥨"]
    assert len(emoji) > 1 and [spelling.add(token) for token in emoji[:1]] == [""]
    assert spelling.end() == "�"
