"""Beams against looking at every text there is."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.generation.beam import beam_search
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged

V, STOP, PROMPT = 5, 4, [1, 2]


@pytest.fixture(scope="module")
def model() -> Llama:
    torch.manual_seed(3)
    model = Llama(
        LlamaConfig(vocab_size=V, context_length=8, n_layers=1, n_heads=2, d_model=16, d_ff=16)
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return model.eval()


@torch.inference_mode()
def log_probability(model, text) -> float:
    tokens = torch.tensor([*PROMPT, *text])
    shares = model.logits(model(tokens, Ragged([len(tokens)]))).log_softmax(-1)
    return sum(float(shares[i + 1, token]) for i, token in enumerate(text))


def every_text(n_tokens: int):
    """Texts that end with a stop, and texts of full length without one."""
    for n in range(1, n_tokens + 1):
        for text in product(range(V), repeat=n):
            if STOP not in text[:-1] and (text[-1] == STOP or n == n_tokens):
                yield text


@pytest.mark.parametrize("power", [0.0, 1.0])
def test_with_beams_enough_it_finds_the_best_of_all_texts(model, power):
    scores = {t: log_probability(model, t) / len(t) ** power for t in every_text(4)}
    best = sorted(scores, key=lambda t: -scores[t])[:3]
    found = beam_search(
        model, PROMPT, n_tokens=4, n_beams=64, stop_tokens=frozenset([STOP]), length_power=power
    )
    for text, beam in zip(best, found, strict=False):
        assert beam.tokens == tuple(t for t in text if t != STOP)
        assert beam.ended == (STOP in text)
        assert beam.score == pytest.approx(scores[text], abs=1e-4)


def test_one_beam_is_greedy_and_more_find_no_less(model):
    (one,) = beam_search(model, PROMPT, n_tokens=6, n_beams=1)
    tokens = list(PROMPT)
    for token in one.tokens:
        with torch.inference_mode():
            hidden = model(torch.tensor(tokens), Ragged([len(tokens)]))
            assert token == int(model.logits(hidden[-1]).argmax())
        tokens.append(token)
    scores = [beam_search(model, PROMPT, n_tokens=6, n_beams=n)[0].score for n in (1, 3, 40)]
    assert scores[0] <= scores[1] + 1e-6 <= scores[2] + 2e-6
    found = beam_search(model, PROMPT, n_tokens=6, n_beams=20)
    assert len({beam.tokens for beam in found}) == 20
    for beam in found:  # what the slots held was each path's own
        assert beam.log_probability == pytest.approx(log_probability(model, beam.tokens), abs=1e-4)


def test_what_does_not_fit_is_refused(model):
    for options in ({"n_tokens": 8}, {"n_tokens": 0}, {"n_tokens": 2, "n_beams": 0}):
        with pytest.raises(ConfigError):
            beam_search(model, PROMPT, **options)
