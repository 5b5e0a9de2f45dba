"""Recomputed blocks give the same gradients and keep less."""

from __future__ import annotations

import pytest
import torch

from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of
from hornbook.training.recomputation import recomputed


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = GPTConfig(40, 64, n_layers=4, n_heads=2, d_model=16, d_ff=64, dropout=0.2)
    return LanguageModel(GPT(config))


def _gradients(model):
    """Gradients by name, and the numbers kept for the way back."""
    kept = 0

    def keep(x):
        nonlocal kept
        kept += x.numel()
        return x

    torch.manual_seed(1)
    model.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        loss = loss_of(model, collate([list(range(40)), [3, 4, 5]]))
    loss.total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}, kept


def test_the_same_gradients_from_less_memory(model):
    expected, kept_by_all = _gradients(model)
    with recomputed(model) as n_blocks:
        found, kept_by_few = _gradients(model)
        assert list(model.state_dict()) == list(LanguageModel(model.trunk).state_dict())
    assert n_blocks == 4
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert kept_by_few < 0.4 * kept_by_all
    assert _gradients(model)[1] == kept_by_all  # undone
