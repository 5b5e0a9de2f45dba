"""Samplers by hand, and the loop that draws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.errors import ConfigError
from hornbook.generation.generate import generate, seeded
from hornbook.generation.sampling import chain, draw, min_p, temperature, top_k, top_p
from hornbook.generation.stream import text_pieces
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.text.train import train_tokenizer

LOGITS = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()


def kept(transform) -> list[int]:
    return torch.isfinite(transform(LOGITS)).nonzero().flatten().tolist()


def test_each_transform_keeps_what_its_paper_says():
    assert kept(top_k(2)) == [1, 3]
    assert kept(top_k(9)) == [0, 1, 2, 3]
    assert kept(top_p(0.4)) == [1]  # .4 alone reaches .4
    assert kept(top_p(0.41)) == [1, 3]
    assert kept(top_p(1.0)) == [0, 1, 2, 3]
    assert kept(min_p(0.5)) == [1, 2, 3]
    assert kept(temperature(0)) == [1]


def test_temperature_divides_before_the_softmax():
    colder = temperature(0.5)(LOGITS).softmax(0)
    expected = torch.tensor([0.01, 0.16, 0.04, 0.09]) / 0.30
    torch.testing.assert_close(colder, expected)


def test_transforms_chain_from_left_to_right():
    # Flattened first, more tokens are needed for the same share.
    assert kept(chain(temperature(100.0), top_p(0.6))) == [1, 2, 3]
    assert kept(chain(top_p(0.6), temperature(100.0))) == [1, 3]


def test_draws_follow_the_distribution():
    generator = seeded(0)
    drawn = torch.tensor([draw(LOGITS, generator) for _ in range(4000)]).bincount(minlength=4)
    torch.testing.assert_close(drawn / 4000, LOGITS.exp(), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("make", "value"), [(temperature, -1.0), (top_k, 0), (top_p, 0.0), (top_p, 1.5), (min_p, 0.0)]
)
def test_values_out_of_range_are_refused(make, value):
    with pytest.raises(ConfigError):
        make(value)


@pytest.fixture
def tiny() -> ModernGPT:
    torch.manual_seed(0)
    model = ModernGPT(
        ModernGPTConfig(vocab_size=11, context_length=8, n_layers=1, n_heads=1, d_model=8, d_ff=16)
    )
    torch.nn.init.normal_(model.head.weight)
    return model


def written(model, prompt, seed=0, **options) -> list[int]:
    options = {"n_tokens": 12, "choose": temperature(1.0)} | options
    return list(generate(model, prompt, generator=seeded(seed), **options))


def test_the_same_seed_writes_the_same(tiny):
    assert written(tiny, [1, 2]) == written(tiny, [1, 2])
    assert written(tiny, [1, 2]) != written(tiny, [1, 2], seed=1)


def test_greedy_takes_the_likeliest_each_time(tiny):
    from hornbook.nn.layout import Ragged

    tokens = [3, 1]
    for token in written(tiny, [3, 1], choose=temperature(0), n_tokens=5):
        hidden = tiny(torch.tensor(tokens), Ragged([len(tokens)], "cpu"))
        assert token == int(tiny.logits(hidden[-1]).argmax())
        tokens.append(token)


def test_a_stop_token_ends_it_and_is_not_given(tiny):
    plain = written(tiny, [1, 2])
    assert written(tiny, [1, 2], stop=plain[3]) == plain[: plain.index(plain[3])]


def test_past_the_context_it_slides_or_refuses(tiny):
    assert len(written(tiny, list(range(10)))) == 12
    with pytest.raises(ConfigError, match="exceed the context"):
        written(tiny, list(range(10)), slide=False)
    with pytest.raises(ConfigError, match="empty"):
        written(tiny, [])


TOKENIZER = train_tokenizer("bpe", lambda: ["a plain text " * 20], 270)


@settings(max_examples=50, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_streamed_pieces_are_whole_characters_and_make_the_text(text):
    tokens = TOKENIZER.encode([text], max_tokens=1000, special=False)[0]
    pieces = list(text_pieces(tokens, TOKENIZER))
    assert "".join(pieces) == TOKENIZER.decode(tokens)
    if "\N{REPLACEMENT CHARACTER}" not in text:
        assert all("\N{REPLACEMENT CHARACTER}" not in piece for piece in pieces)
