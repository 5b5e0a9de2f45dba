"""Guesses change the speed, not the text: its distribution is the model's own."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.generation.generate import generate, seeded
from hornbook.generation.sampling import chain, temperature, top_p
from hornbook.generation.speculative import (
    DraftModel,
    Guess,
    PromptLookup,
    Tally,
    _accepted,
    speculate,
)
from hornbook.models import bigram
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged

V = 4


def tiny(seed: int, vocab_size: int = V, context_length: int = 40) -> Llama:
    torch.manual_seed(seed)
    model = Llama(
        LlamaConfig(
            vocab_size=vocab_size,
            context_length=context_length,
            n_layers=1,
            n_heads=2,
            d_model=16,
            d_ff=16,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model.eval()


MODEL, DRAFT = tiny(0), tiny(1)
PROMPT = [1, 2, 1, 2, 3, 1]
TABLE, OTHER_TABLE = (bigram.from_counts([0, 1, 2, 1, 3, *more], V) for more in ([1, 2], [0, 0]))
GUESSERS = {"lookup": lambda c: PromptLookup(), "draft": lambda c: DraftModel(DRAFT, c)}


@pytest.mark.parametrize("guesser", GUESSERS)
def test_greedy_it_writes_the_same_tokens(guesser):
    choose = temperature(0)
    plain = list(generate(MODEL, PROMPT, n_tokens=30, choose=choose, generator=seeded(0)))
    tally = Tally()
    options = {"n_tokens": 30, "choose": choose, "generator": seeded(0), "tally": tally}
    assert list(speculate(MODEL, PROMPT, GUESSERS[guesser](choose), **options)) == plain
    assert tally.n_guessed and tally.n_passes == 30 - tally.n_kept
    ended = speculate(
        MODEL, PROMPT, GUESSERS[guesser](choose), stop_tokens=frozenset(plain[-1:]), **options
    )
    assert list(ended) == plain[: plain.index(plain[-1])]


def test_a_model_guesses_itself_without_fail():
    tally = Tally()
    choose = temperature(1.0)
    guesser = DraftModel(MODEL, choose)
    options = {"n_tokens": 20, "choose": choose, "generator": seeded(0), "tally": tally}
    assert len(list(speculate(MODEL, PROMPT, guesser, **options))) == 20
    assert tally.n_kept == tally.n_guessed == 15


def chance_of(model, text, choose) -> float:
    tokens = [*PROMPT, *text]
    with torch.inference_mode():
        logits = model.logits(model(torch.tensor(tokens), Ragged([len(tokens)])))
    shares = [choose(row).softmax(0) for row in logits[len(PROMPT) - 1 : -1]]
    return float(torch.stack([s[t] for s, t in zip(shares, text, strict=True)]).prod())


@pytest.mark.parametrize("guesser", ["lookup", "draft"])
def test_texts_have_the_models_probabilities(guesser):
    """All texts of 3 tokens, by many draws: a chi-squared test against the exact probabilities."""
    choose = chain(temperature(1.3), top_p(0.95))
    generator = seeded(1)
    guess = PromptLookup() if guesser == "lookup" else DraftModel(OTHER_TABLE, choose)
    n = 1500
    tally = Tally()
    drawn = Counter(
        tuple(
            speculate(
                TABLE, PROMPT, guess, n_tokens=3, choose=choose, generator=generator, tally=tally
            )
        )
        for _ in range(n)
    )
    assert 0.1 < tally.n_kept / tally.n_guessed < 0.95  # both ways are taken
    chances = {text: chance_of(TABLE, text, choose) for text in product(range(V), repeat=3)}
    assert sum(chances.values()) == pytest.approx(1, abs=1e-4)
    assert not {text for text in drawn if chances[text] == 0}
    likely = {text: p for text, p in chances.items() if p * n >= 5}
    rest = n * (1 - sum(likely.values()))
    squares = sum((drawn[t] - n * p) ** 2 / (n * p) for t, p in likely.items())
    squares += (n - sum(drawn[t] for t in likely) - rest) ** 2 / max(rest, 1)
    freedom = len(likely)
    assert squares < freedom + 4 * (2 * freedom) ** 0.5  # four standard deviations


def test_a_guess_and_its_stand_in_have_the_wanted_shares():
    """Leviathan et al. 2023, appendix A.1."""
    wanted = torch.tensor([0.5, 0.2, 0.3, 0.0])
    guessed = torch.tensor([0.1, 0.6, 0.1, 0.2])
    out = torch.zeros(V)
    generator = seeded(0)
    for token in range(V):
        n = 1000
        told = Counter(_accepted(Guess(token, guessed), wanted, generator) for _ in range(n))
        for other, times in told.items():
            out[other] += guessed[token] * times / n
    torch.testing.assert_close(out, wanted, atol=0.04, rtol=0)
    certain = Counter(_accepted(Guess(1), wanted, generator) for _ in range(1000))
    assert certain[3] == 0 and abs(certain[1] / 1000 - 0.2) < 0.05


def test_lookup_finds_what_followed_the_longest_run_last():
    lookup = PromptLookup()
    words = [7, 8, 9, 1, 8, 9, 2, 7, 8, 9]
    assert [g.token for g in lookup.guess(words, 2, seeded(0))] == [1, 8]  # 7 8 9, not 8 9
    assert [g.token for g in lookup.guess([*words, 5], 2, seeded(0))] == []
    assert [g.token for g in lookup.guess([*words, 2], 2, seeded(0))] == [7, 8]
    assert [g.token for g in lookup.guess([4, 4], 3, seeded(0))] == [4]  # another text
    assert all(a.shares is None for a, _ in pairwise(lookup.guess(words, 3, seeded(0))))


def test_what_cannot_be_is_refused():
    options = {"choose": temperature(1.0), "generator": seeded(0)}
    with pytest.raises(ConfigError, match="empty"):
        next(speculate(MODEL, [], PromptLookup(), n_tokens=1, **options))
    with pytest.raises(ConfigError, match="context"):
        next(speculate(MODEL, PROMPT, PromptLookup(), n_tokens=99, **options))
    other = DraftModel(tiny(2, vocab_size=9), temperature(1.0))
    with pytest.raises(ConfigError, match="vocabulary"):
        list(speculate(MODEL, PROMPT, other, n_tokens=20, **options))


def test_a_draft_with_a_shorter_context_guesses_as_long_as_it_can():
    short = DraftModel(tiny(2, context_length=10), temperature(0))
    options = {"n_tokens": 30, "choose": temperature(0), "generator": seeded(0)}
    plain = list(generate(MODEL, PROMPT, **options))
    assert list(speculate(MODEL, PROMPT, short, **options)) == plain
