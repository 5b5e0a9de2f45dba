"""Four bits: the published values, each weight at the nearest, gradients of the same matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hornbook.errors import ConfigError
from hornbook.quantization import four_bits

# Dettmers et al. 2023, appendix E.
PUBLISHED = [
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
]


def test_the_values_are_the_published_ones():
    torch.testing.assert_close(four_bits.levels(), torch.tensor(PUBLISHED), atol=1e-6, rtol=0)


@pytest.mark.parametrize("double", [False, True])
def test_each_weight_is_the_nearest_of_its_block(double):
    """d_out is more than is unpacked at a time, and d_in no multiple of 64: blocks of 32."""
    torch.manual_seed(0)
    base = nn.Linear(96, 300)
    layer = four_bits.FourBitLinear(base, double=double)
    blocks = base.weight.detach().reshape(-1, 32)
    scales = blocks.abs().amax(1, keepdim=True)
    choices = (scales[..., None] * four_bits.levels()).expand(-1, 32, -1)
    nearest = choices.gather(2, (blocks[..., None] - choices).abs().argmin(2, keepdim=True))
    found = layer.weight.view(-1, 32)
    # float8 has 3 bits after the point, and what it rounds are the scales' deviations.
    tolerance = scales.std() / 4 if double else torch.tensor(1e-7)
    assert (found - nearest.squeeze(2)).abs().max() <= tolerance
    assert torch.equal(layer.rows(257, 300), layer.weight[257:])


def test_forward_and_gradient_are_those_of_its_matrix():
    torch.manual_seed(0)
    layer = four_bits.FourBitLinear(nn.Linear(64, 300))
    x = torch.randn(2, 5, 64, requires_grad=True)
    g = torch.randn(2, 5, 300)
    y = layer(x)
    plain = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(y, plain, atol=1e-5, rtol=1e-5)
    (found,) = torch.autograd.grad((y * g).sum(), x)
    (expected,) = torch.autograd.grad((plain * g).sum(), x)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert not list(layer.parameters())


def test_bits_a_weight():
    layer = four_bits.FourBitLinear(nn.Linear(1024, 1024, bias=False))
    n_bytes = sum(b.numel() * b.element_size() for b in layer.buffers())
    assert n_bytes * 8 / 2**20 == pytest.approx(4.127, abs=0.001)  # section 3


def test_normal_weights_lose_less_than_in_evenly_spaced_bits():
    """What NF4 is for: figure 3's comparison, for a matrix of a normal distribution."""
    torch.manual_seed(0)
    base = nn.Linear(256, 256, bias=False)
    nn.init.normal_(base.weight)
    blocks = base.weight.detach().view(-1, 64)
    step = blocks.abs().amax(1, keepdim=True) / 7
    even = (blocks / step).round() * step
    found = four_bits.FourBitLinear(base).weight.view(-1, 64)
    assert (found - blocks).square().mean() < 0.8 * (even - blocks).square().mean()


def test_attach_restore_and_state(tmp_path):
    model = nn.ModuleDict({"blocks": nn.ModuleList([nn.ModuleDict({"up": nn.Linear(32, 16)})])})
    assert four_bits.attach(model) == ["blocks.0.up"]
    rounded = model["blocks"][0]["up"]
    other = four_bits.FourBitLinear(nn.Linear(32, 16))
    other.load_state_dict(rounded.state_dict())
    assert torch.equal(other.weight, rounded.weight)
    four_bits.restore(model)
    assert torch.equal(model["blocks"][0]["up"].weight, rounded.weight)
    with pytest.raises(ConfigError, match="no linear layer"):
        four_bits.attach(model, targets="nowhere")
    with pytest.raises(ConfigError, match="33 inputs"):
        four_bits.FourBitLinear(nn.Linear(33, 4))
