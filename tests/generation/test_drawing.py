"""The quick way to draw against the transforms it stands for, and the penalties by hand."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornbook.errors import CheckpointError, ConfigError
from hornbook.generation import sampling
from hornbook.generation.drawing import Drawer, log_probabilities, shortlist
from hornbook.generation.generate import seeded
from hornbook.generation.request import Sampling


def by_transforms(logits: torch.Tensor, wanted: Sampling) -> torch.Tensor:
    transforms = [sampling.temperature(wanted.temperature)]
    transforms += [sampling.top_k(wanted.top_k)] if wanted.top_k else []
    transforms += [sampling.top_p(wanted.top_p)] if wanted.top_p else []
    transforms += [sampling.min_p(wanted.min_p)] if wanted.min_p else []
    return sampling.chain(*transforms)(logits.double()).softmax(0)


def by_shortlist(logits: torch.Tensor, wanted: Sampling) -> torch.Tensor:
    tokens, weights = shortlist(logits.numpy(), wanted)
    shares = torch.zeros(len(logits), dtype=torch.float64)
    weights = torch.from_numpy(weights).double()
    places = torch.arange(len(logits)) if tokens is None else torch.from_numpy(tokens)
    shares[places] = weights / weights.sum()
    return shares


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([3, 70, 1500]),
    st.floats(0.05, 6),
    st.one_of(st.none(), st.integers(1, 2000)),
    st.one_of(st.none(), st.floats(0.01, 1)),
    st.one_of(st.none(), st.floats(0.001, 1)),
)
def test_the_quick_way_leaves_the_same_distribution(seed, size, temperature, k, p, floor):
    logits = torch.randn(size, generator=seeded(seed)) * 3
    wanted = Sampling(temperature=temperature, top_k=k, top_p=p, min_p=floor)
    slow, quick = by_transforms(logits, wanted), by_shortlist(logits, wanted)
    # Rounding may decide otherwise about a token that lies just on a boundary.
    differs = (slow > 1e-30) != (quick > 1e-30)
    assert differs.sum() <= 1
    assert (slow - quick).abs().max() < 1e-4 + slow[differs].sum()


def test_forbidden_tokens_stay_forbidden():
    logits = torch.full((2000,), -math.inf)
    logits[[5, 1900]] = torch.tensor([1.0, 2.0])
    for wanted in (Sampling(), Sampling(top_k=50), Sampling(top_p=0.999), Sampling(min_p=0.01)):
        drawn = {Drawer(wanted, [0]).draw(logits) for _ in range(50)}
        assert drawn == {5, 1900}


def test_draws_have_the_frequencies_of_their_shares_and_repeat_with_a_seed():
    logits = torch.tensor([0.5, 0.1, 0.0, 0.4]).log()
    drawer = Drawer(Sampling(seed=3), [0])
    drawn = [drawer.draw(logits) for _ in range(4000)]
    counts = torch.tensor(drawn).bincount(minlength=4) / 4000
    torch.testing.assert_close(counts, logits.exp(), atol=0.03, rtol=0)
    again = Drawer(Sampling(seed=3), [0])
    assert [again.draw(logits) for _ in range(50)] == drawn[:50]
    unseeded = [[Drawer(Sampling(), [0]).draw(torch.zeros(1000)) for _ in range(4)] for _ in "ab"]
    assert unseeded[0] != unseeded[1]


def test_pick_is_exact_over_many_blocks():
    weights = np.zeros(1000, np.float32)
    weights[[3, 590, 600, 999]] = [1, 2, 3, 4]
    generator = seeded(0)
    counts = Counter(sampling.pick(weights, generator) for _ in range(5000))
    assert set(counts) == {3, 590, 600, 999}
    for place, share in ((3, 0.1), (590, 0.2), (600, 0.3), (999, 0.4)):
        assert abs(counts[place] / 5000 - share) < 0.03


LOGITS = torch.tensor([2.0, -2.0, 1.0, 0.0])


def test_penalties_by_hand():
    seen = {0: 1, 1: 3}
    torch.testing.assert_close(
        sampling.repetition_penalty(2.0, seen)(LOGITS), torch.tensor([1.0, -4.0, 1.0, 0.0])
    )
    torch.testing.assert_close(
        sampling.presence_penalty(0.5, seen)(LOGITS), torch.tensor([1.5, -2.5, 1.0, 0.0])
    )
    torch.testing.assert_close(
        sampling.frequency_penalty(0.5, seen)(LOGITS), torch.tensor([1.5, -3.5, 1.0, 0.0])
    )
    torch.testing.assert_close(
        sampling.logit_bias({3: 4.0, 0: -math.inf})(LOGITS), torch.tensor([-math.inf, -2, 1, 4])
    )
    for transform in (sampling.repetition_penalty(2.0, {}), sampling.presence_penalty(1.0, {})):
        torch.testing.assert_close(transform(LOGITS), LOGITS)


def test_repetition_counts_the_prompt_and_the_others_do_not():
    greedy = {"temperature": 0.0}
    assert Drawer(Sampling(**greedy, repetition_penalty=9.0), [0]).draw(LOGITS) == 2
    assert Drawer(Sampling(**greedy, presence_penalty=9.0), [0]).draw(LOGITS) == 0
    drawer = Drawer(Sampling(**greedy, presence_penalty=9.0), [])
    drawn = []
    for _ in range(4):
        drawn.append(drawer.draw(LOGITS))
        drawer.note(drawn[-1])
    assert drawn == [0, 2, 3, 1]


def test_the_allowed_tokens_alone_are_drawn():
    allowed = np.array([False, True, False, True])
    assert Drawer(Sampling(temperature=0), []).draw(LOGITS, allowed) == 3
    assert {Drawer(Sampling(), []).draw(LOGITS, allowed) for _ in range(100)} == {1, 3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": math.nan},
        {"temperature": -1},
        {"top_k": 0},
        {"top_p": 2.0},
        {"min_p": 0.0},
        {"repetition_penalty": 0.0},
        {"presence_penalty": math.inf},
        {"frequency_penalty": math.nan},
        {"logit_bias": {1: math.nan}},
        {"seed": 2**70},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        Drawer(Sampling(**wrong), [0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_broken_model_is_said_to_be_broken(temperature):
    with pytest.raises(CheckpointError, match="not numbers"):
        Drawer(Sampling(temperature=temperature), [0]).draw(torch.full((9,), math.nan))


def test_log_probabilities_are_the_models_own():
    logprob, top = log_probabilities(LOGITS, 1, 2)
    expected = LOGITS.log_softmax(0)
    assert logprob == pytest.approx(float(expected[1]))
    assert [token for token, _ in top] == [0, 2]
    assert [value for _, value in top] == pytest.approx(expected[[0, 2]].tolist())
