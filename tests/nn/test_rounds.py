"""A loss in rounds is the loss of all logits at once, and so are its gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn import losses
from hornbook.nn.losses import IGNORE, cross_entropy_of, cross_entropy_sum
from hornbook.nn.rounds import rows_a_round, summed_in_rounds
from hornbook.tasks.language_modeling import LanguageModel, loss_of, windows

SIZES = {"n_layers": 1, "d_model": 16, "n_heads": 2}


@pytest.fixture
def small_rounds(monkeypatch):
    """Three rows a round."""
    monkeypatch.setattr(losses, "rows_a_round", lambda vocab_size: 3)


def batch():
    tokens = torch.randint(40, (2, 10), generator=torch.Generator().manual_seed(0))
    targets = tokens.roll(-1, 1)
    targets[:, -1] = IGNORE
    return windows(tokens, targets)


def models():
    torch.manual_seed(0)
    tied = LanguageModel(GPT(GPTConfig(40, 16, **SIZES)))
    capped = LanguageModel(ModernGPT(ModernGPTConfig(40, 16, **SIZES)))
    nn.init.normal_(capped.trunk.head.weight)  # as it begins all its guesses are alike
    return [tied, capped]


def gradients(model, loss):
    model.zero_grad()
    (0.5 * loss.total).backward()  # whatever comes after the loss is passed on
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("model", models(), ids=["tied head", "own head, capped"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_all_gradients_are_those_of_all_logits(model, dtype, small_rounds):
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        plain = cross_entropy_sum(model(batch()), batch().targets)
        in_rounds = loss_of(model, batch())
    assert in_rounds.n_targets == plain.n_targets == 18
    torch.testing.assert_close(in_rounds.total, plain.total)
    wanted, found = gradients(model, plain), gradients(model, in_rounds)
    assert wanted.keys() == found.keys() and len(wanted) == len(list(model.parameters()))
    tolerance = {} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.02}
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, msg=name, **tolerance)


def test_a_frozen_head_still_passes_its_gradient_on(small_rounds):
    model = models()[1]
    model.trunk.head.requires_grad_(False)
    wanted = gradients(model, cross_entropy_sum(model(batch()), batch().targets))
    found = gradients(model, loss_of(model, batch()))
    assert wanted.keys() == found.keys() and "trunk.head.weight" not in found
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_more_rows_of_logits_than_asked_for_are_made(smoothing, small_rounds):
    rows = []
    weight = torch.randn(40, 16)

    def logits_of(hidden):
        rows.append(len(hidden))
        return hidden @ weight.T

    hidden, targets = torch.randn(10, 16), torch.randint(40, (10,))
    with torch.no_grad():
        loss = cross_entropy_of(logits_of, hidden, targets, vocab_size=40, smoothing=smoothing)
    assert rows == [3, 3, 3, 1]
    torch.testing.assert_close(
        loss.total,
        F.cross_entropy(hidden @ weight.T, targets, reduction="sum", label_smoothing=smoothing),
    )


def test_few_tokens_take_the_plain_way():
    calls = []

    def total(rows, targets):
        calls.append(len(rows))
        return (rows.sum(-1) * targets).sum()

    summed_in_rounds(total, torch.ones(3, 2), torch.arange(3), 3)
    assert calls == [3]


def test_rounds_are_large_enough_for_the_gradient_of_the_head():
    assert rows_a_round(64) == 2**16
    assert rows_a_round(8192) == 512
    assert rows_a_round(50_000) == 512
