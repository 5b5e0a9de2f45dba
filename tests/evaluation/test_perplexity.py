"""Perplexity: what it is where that is known, and the interval of a change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hornbook.errors import DataError
from hornbook.evaluation.perplexity import Perplexity, change, perplexity
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.layout import Ragged

CONFIG = GPTConfig(vocab_size=20, context_length=16, n_layers=1, n_heads=2, d_model=8, d_ff=16)


def test_a_model_that_knows_nothing_is_as_perplexed_as_its_vocabulary_is_large():
    model = GPT(CONFIG)
    torch.nn.init.zeros_(model.tokens.weight)
    found = perplexity(model, [i % 20 for i in range(100)])
    assert found.value == pytest.approx(20) and found.low == pytest.approx(found.high)
    assert found.n_tokens == 96 and found.length == 16 and model.training


def test_every_window_is_read_from_nothing():
    torch.manual_seed(0)
    model, tokens = GPT(CONFIG).eval(), torch.randint(0, 20, (41,))
    found = perplexity(model, tokens.tolist(), length=8)
    with torch.inference_mode():
        logits = model.logits(model(tokens[16:24], Ragged([8])))
    expected = torch.nn.functional.cross_entropy(logits, tokens[17:25]).item()
    assert found.losses[2] == pytest.approx(expected, rel=1e-5) and len(found.losses) == 5
    assert found.value == pytest.approx(np.exp(found.losses.mean()))
    assert found.low < found.value < found.high
    with pytest.raises(DataError, match="two windows"):
        perplexity(model, tokens.tolist()[:16], length=8)


def test_a_change_is_told_from_the_same_windows():
    """Windows differ far more than the change: only in pairs can it be seen."""
    losses = np.random.default_rng(0).normal(3, 0.5, 60)
    before = Perplexity(20.0, 0, 0, losses, 8)
    after = Perplexity(20.0, 0, 0, losses + np.log(1.01), 8)
    assert change(before, after) == pytest.approx((0.01, 0.01, 0.01))
