"""Muon is torch's, `Together` is one optimiser, and every parameter is listed with its own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of
from hornbook.training.muon import Muon, orthogonalized
from hornbook.training.optimizers import (
    Together,
    adamw,
    assignments,
    decay_groups,
    muon_and_adamw,
    step_divided,
)

CONFIG = GPTConfig(40, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(GPT(CONFIG))


def _step(model, optimizer, seed=0):
    tokens = torch.randint(0, 40, (12,), generator=torch.Generator().manual_seed(seed)).tolist()
    optimizer.zero_grad()
    loss_of(model, collate([tokens])).total.backward()
    optimizer.step()


@pytest.mark.parametrize("make", [adamw, lambda groups: torch.optim.AdamW(groups, fused=False)])
def test_a_step_on_gradients_divided_by_a_number(make):
    torch.manual_seed(0)
    start, gradient = torch.randn(40, 30), torch.randn(40, 30)
    weights = [nn.Parameter(start.clone()) for _ in range(2)]
    divided, plain = (make([{"params": [w], "lr": 0.1, "weight_decay": 0.1}]) for w in weights)
    for _ in range(2):
        weights[0].grad, weights[1].grad = gradient.clone(), gradient / 8
        step_divided(divided, [weights[0].grad], 8.0)
        plain.step()
    assert torch.equal(weights[0], weights[1])
    for name in ("exp_avg", "exp_avg_sq"):  # the step alone hardly depends on the scale
        assert torch.equal(divided.state[weights[0]][name], plain.state[weights[1]][name])
    weights[0].grad = gradient.clone()
    divided.step()  # whoever steps himself has nothing divided
    weights[1].grad = gradient.clone()
    plain.step()
    assert torch.equal(weights[0], weights[1])


@pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_muon_is_torchs(shape, weight_decay):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon to compare with")
    torch.manual_seed(0)
    start = [torch.randn(shape) for _ in range(3)]
    ours, theirs = ([nn.Parameter(m.clone()) for m in start] for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": weight_decay}
    mine = Muon(ours, dtype=torch.bfloat16, **settings)
    reference = torch.optim.Muon(theirs, **settings)
    for _ in range(3):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(shape)
            q.grad = p.grad.clone()
        mine.step()
        reference.step()
    for first, p, q in zip(start, ours, theirs, strict=True):
        moved = (q - first).norm()
        assert moved > 0.1 and (p - q).norm() < 0.01 * moved  # bfloat16, summed in another order


def test_float32_orthogonalises_as_bfloat16_does_but_smoother():
    torch.manual_seed(0)
    matrices = torch.randn(4, 32, 48)
    exact = orthogonalized(matrices)
    rough = orthogonalized(matrices.bfloat16()).float()
    assert (exact - rough).norm() < 0.03 * exact.norm()
    values = torch.linalg.svdvals(exact)
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(orthogonalized(matrices.mT), exact.mT)


@pytest.mark.parametrize("spectrum", [torch.ones(24), torch.logspace(0, -7, 24), torch.eye(24)[3]])
def test_iterating_on_the_small_side_changes_nothing_but_rounding(spectrum):
    """Also where singular values span seven orders of magnitude, or there is but one."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(2, n, 24))[0] for n in (24, 96))
    long = left @ torch.diag(spectrum) @ right.mT
    exact = orthogonalized(long.double())
    for found, expected in ((long, exact), (long.mT, exact.mT)):
        error = (orthogonalized(found) - expected).norm() / exact.norm()
        assert error < 1e-3


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match="matrices"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_each_parameter_has_one_optimiser_and_is_listed(model):
    model.trunk.positions.weight.requires_grad_(False)
    optimizer = muon_and_adamw(model.named_parameters(), muon_lr=0.02, lr=0.01, weight_decay=0.1)
    rows = {row.name: row for row in assignments(model.named_parameters(), optimizer)}
    assert list(rows) == [name for name, _ in model.named_parameters()]
    for name, row in rows.items():
        if name == "trunk.positions.weight":
            assert row.optimizer == ""
        elif "blocks." in name and len(row.shape) == 2:
            assert (row.optimizer, row.lr, row.weight_decay) == ("Muon", 0.02, 0.0)
        else:
            decay = 0.1 if len(row.shape) == 2 else 0.0
            assert (row.optimizer, row.lr, row.weight_decay) == ("AdamW", 0.01, decay)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    assert len(trained) == len({id(p) for p in trained}) == len(rows) - 1


def test_together_steps_as_its_parts_do_alone(model):
    other = copy.deepcopy(model)
    _step(model, muon_and_adamw(model.named_parameters(), lr=0.01))
    matrices = [p for n, p in other.named_parameters() if "blocks." in n and p.ndim == 2]
    rest = [(n, p) for n, p in other.named_parameters() if not ("blocks." in n and p.ndim == 2)]
    muon = Muon(matrices)
    adam = adamw(decay_groups(rest, lr=0.01, weight_decay=0.0), betas=(0.9, 0.95))
    _step(other, Together([adam, muon]))
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_together_saves_and_loads_what_its_parts_remember(model):
    optimizer = muon_and_adamw(model.named_parameters())
    _step(model, optimizer)
    twin = copy.deepcopy(model)
    resumed = muon_and_adamw(twin.named_parameters())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _step(model, optimizer, seed=1)
    _step(twin, resumed, seed=1)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
