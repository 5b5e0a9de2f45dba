"""Bricks: derivatives written by hand are the true ones; rotations and windows do what they say."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from hornbook.errors import ConfigError
from hornbook.nn import feedforward
from hornbook.nn.attention import SelfAttention
from hornbook.nn.feedforward import SquaredReLUFeedForward
from hornbook.nn.layout import Padded, Ragged
from hornbook.nn.norms import RMSNorm, rms_norm
from hornbook.nn.rotary import Rotary


def doubles(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


def test_rms_norm_is_torchs_in_value_and_derivative():
    x = doubles(3, 5)
    torch.testing.assert_close(rms_norm(x, 0.1), F.rms_norm(x, (5,), eps=0.1))
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, 0.1), x)
    norm = RMSNorm(5, 0.1).double()
    torch.nn.init.normal_(norm.weight)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (5,), norm.weight, 0.1))


def test_rms_norm_of_bfloat16_is_rounded_once():
    x = torch.randn(4, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = F.rms_norm(x.float(), (64,), eps=1e-6).bfloat16()
    torch.testing.assert_close(rms_norm(x, 1e-6), expected, atol=0, rtol=2**-7)


def test_squared_relu_in_pieces_is_the_plain_formula(monkeypatch):
    monkeypatch.setattr(feedforward, "N_ROWS", 4)  # two whole pieces and a rest
    torch.manual_seed(0)
    brick = SquaredReLUFeedForward(3, 5).double()
    up, down = brick.up.weight, brick.down.weight
    x = doubles(2, 5, 3)
    plain = F.linear(F.relu(F.linear(x, up)) ** 2, down)
    torch.testing.assert_close(brick(x), plain)
    g = doubles(2, 5, 3).detach().flip(0)
    expected = torch.autograd.grad(plain, (x, up, down), g)
    torch.testing.assert_close(torch.autograd.grad(brick(x), (x, up, down), g), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert brick.float()(x.float()).dtype == torch.bfloat16


def test_a_turn_has_the_true_derivative_and_keeps_lengths():
    x = doubles(3, 2, 6)
    turn = Rotary(6, 9).double()(torch.tensor([0, 3, 8]))
    assert torch.autograd.gradcheck(turn, x)
    torch.testing.assert_close(turn(x).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turn(x)[0], x[0])  # nothing turns at position 0


def test_what_two_tokens_say_to_each_other_depends_on_their_distance_only():
    q, k = doubles(1, 1, 6), doubles(1, 1, 6).flip(-1)
    for direction in (1, -1):
        rotary = Rotary(6, 50, direction=direction).double()

        def product(i, j, rotary=rotary):
            return (rotary(torch.tensor([i]))(q) * rotary(torch.tensor([j]))(k)).sum()

        torch.testing.assert_close(product(9, 4), product(49, 44))
        assert not torch.isclose(product(9, 4), product(4, 9))


def test_a_turn_by_hand():
    """One pair, speed 1: after one position (1, 0) stands at (cos 1, sin 1)."""
    x = torch.tensor([[[1.0, 0.0]]])
    expected = torch.tensor([1.0]).cos().item(), torch.tensor([1.0]).sin().item()
    assert Rotary(2, 4)(torch.tensor([1]))(x).flatten().tolist() == pytest.approx(expected)
    back = Rotary(2, 4, direction=-1)(torch.tensor([1]))(x).flatten().tolist()
    assert back == pytest.approx((expected[0], -expected[1]))


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_a_window_is_a_mask(causal):
    """Far tokens move nothing, near ones do; padded and ragged agree."""
    torch.manual_seed(0)
    attention = SelfAttention(8, 2, causal=causal, window=2)
    lengths = [9, 4]
    mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    x = torch.randn(2, 9, 8)
    ragged = attention(x[mask], Ragged(lengths))
    torch.testing.assert_close(attention(x, Padded(mask))[mask], ragged)
    for moved in range(9):
        other = x.clone()
        other[0, moved] += 1
        differs = (attention(other[mask], Ragged(lengths)) != ragged).any(-1)[:9].tolist()
        assert differs == [
            0 <= i - moved <= 2 or (not causal and abs(i - moved) <= 2) for i in range(9)
        ]


@torch.no_grad()
def test_grouped_queries_are_repeated_keys():
    torch.manual_seed(0)
    grouped = SelfAttention(16, 4, n_kv_heads=2, causal=True)
    full = SelfAttention(16, 4, causal=True)
    q, k, v = grouped.qkv.weight.split([16, 8, 8])
    repeat = [part.unflatten(0, (2, 4)).repeat_interleave(2, 0).flatten(0, 1) for part in (k, v)]
    full.qkv.weight.copy_(torch.cat([q, *repeat]))
    full.qkv.bias.zero_()
    grouped.qkv.bias.zero_()
    full.out.load_state_dict(grouped.out.state_dict())
    x = torch.randn(7, 16)
    torch.testing.assert_close(grouped(x, Ragged([4, 3])), full(x, Ragged([4, 3])))


def test_an_odd_head_cannot_turn():
    with pytest.raises(ConfigError, match="one too many"):
        Rotary(5, 10)
