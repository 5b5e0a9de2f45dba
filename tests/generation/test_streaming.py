"""Text as it comes: whole characters, and together what decoding at once gives."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, models

from hornbook.generation.constrain import token_bytes
from hornbook.generation.stream import detokenizer, text_pieces
from hornbook.text.tokenizer import Tokenizer
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


def test_bytes_among_other_tokens_wait_for_the_rest_of_their_character():
    """As Llama's first tokenizers spell what they have no token for."""
    bread = [f"<0x{byte:02X}>" for byte in "🥨".encode()]
    words = ["<unk>", "▁a", "b", *bread]
    rust = RustTokenizer(
        models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[], byte_fallback=True)
    )
    rust.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer = Tokenizer(rust)
    spelling = detokenizer(tokenizer)
    assert [spelling.add(token) for token in (1, 3, 4, 5, 6, 2)] == [" a", "", "", "", "🥨", "b"]
    assert [bytes(b) for b in token_bytes(tokenizer)[1:4]] == [b" a", b"b", "🥨".encode()[:1]]


def test_a_character_comes_whole_with_its_last_byte():
    tokenizer = TOKENIZERS["bpe"]
    emoji = tokenizer.encode(["🥨"], special=False)[0]  # not in the corpus: a token a byte
    spelling = detokenizer(tokenizer)
    assert [spelling.add(token) for token in emoji] == [""] * (len(emoji) - 1) + ["🥨"]
    assert len(emoji) > 1 and [spelling.add(token) for token in emoji[:1]] == [""]
    assert spelling.end() == "�"
