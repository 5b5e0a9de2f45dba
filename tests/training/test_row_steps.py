"""Steps over touched rows are AdamW's over all rows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.optim import AdamW

from hornbook.training import row_steps
from hornbook.training.optimizers import adamw, step_divided

N_ROWS, WIDTH = 60, 24
FEW = [[3, 50, 3, 9], [9], [0, 3, 59], [50, 7], [7, 7, 0]]  # 7 rows of 60, some once, some again
MANY = [*FEW, list(range(10, 40)), [3, 12], [58, 9]]  # more than a third, in the end


def gradients(steps: list[list[int]]) -> list[torch.Tensor]:
    """By rows, as an embedding's are: in no order, rows named twice."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.sparse_coo_tensor(
            torch.tensor([rows]),
            torch.randn(len(rows), WIDTH, generator=generator),
            (N_ROWS, WIDTH),
            check_invariants=False,
        )
        for rows in steps
    ]


def table() -> torch.nn.Parameter:
    return torch.nn.Parameter(
        torch.randn(N_ROWS, WIDTH, generator=torch.Generator().manual_seed(1))
    )


def ours(parameter: torch.Tensor, decay: float) -> AdamW:
    return adamw([{"params": [parameter], "lr": 0.1, "weight_decay": decay}])


def take(optimizer, parameter, steps, *, dense=lambda number: False, by=3.0):
    for number, gradient in enumerate(steps):
        whole = gradient.to_dense()
        parameter.grad = whole if dense(number) else gradient.coalesce()
        values = whole if dense(number) else parameter.grad._values()
        step_divided(optimizer, [values], by)
        optimizer.zero_grad()


@pytest.mark.parametrize("steps", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_the_numbers_are_those_of_all_rows(steps, decay):
    plain, rows, both = table(), table(), table()
    take(AdamW([plain], lr=0.1, weight_decay=decay, fused=True), plain, gradients(steps),
         dense=lambda number: True)  # fmt: skip
    optimizer = ours(rows, decay)
    take(optimizer, rows, gradients(steps))
    assert bool(optimizer.state[rows]) == (steps is MANY)  # all rows' moments, or its own table
    take(ours(both, decay), both, gradients(steps), dense=lambda number: number == 2)
    torch.testing.assert_close(rows, plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(both, plain, rtol=0, atol=1e-6)
    assert not torch.equal(plain, table())


@pytest.mark.parametrize("at", [0, 3, 6, 7])
def test_what_is_saved_is_adamws_and_goes_on_with_the_same_bits(at):
    rows, steps = table(), gradients(MANY)
    optimizer = ours(rows, 0.1)
    take(optimizer, rows, steps[:at])
    saved, there = copy.deepcopy(optimizer.state_dict()), rows.detach().clone()
    take(optimizer, rows, steps[at:])

    plain = table()
    peer = AdamW([plain], lr=0.1, weight_decay=0.1, fused=True)
    take(peer, plain, steps[:at], dense=lambda number: True)
    for name, value in peer.state_dict()["state"].get(0, {}).items():
        torch.testing.assert_close(saved["state"][0][name], value, rtol=0, atol=1e-6)
    assert saved["state"].keys() == peer.state_dict()["state"].keys()

    again = torch.nn.Parameter(there.clone())
    optimizer = ours(again, 0.1)
    take(optimizer, again, gradients(FEW))  # is forgotten
    with torch.no_grad():
        again.copy_(there)
    if at:
        optimizer.load_state_dict(saved)
        take(optimizer, again, steps[at:])
        assert torch.equal(again, rows)


def test_whose_moments_are_the_optimisers_is_not_asked_again(monkeypatch):
    """Looking through all moments costs more than a step over all rows."""
    rows = table()
    optimizer = ours(rows, 0.0)
    take(optimizer, rows, gradients(MANY))
    monkeypatch.setattr(row_steps, "_Table", None)  # no other is begun
    take(optimizer, rows, gradients(FEW))
    assert optimizer.state[rows]["step"] == len(MANY) + len(FEW)


def test_only_touched_rows_have_moments():
    rows = table()
    optimizer = ours(rows, 0.0)
    before = rows.detach().clone()
    take(optimizer, rows, gradients(FEW))
    changed = (rows != before).any(1).nonzero().squeeze(1).tolist()
    assert changed == sorted({row for step in FEW for row in step})
    assert not optimizer.state[rows] and optimizer.state_dict()["state"][0]["exp_avg"].shape == (
        N_ROWS, WIDTH)  # fmt: skip
