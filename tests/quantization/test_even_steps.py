"""What was in 4 bits already stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hornbook.quantization import even_steps
from hornbook.quantization.four_bits import FourBitLinear
from hornbook.quantization.reconstruction import reconstructed


def kept(kind: str, d_out: int = 40, d_in: int = 64) -> torch.Tensor:
    """The floats of a matrix in llama.cpp's Q4_0 or Q4_1, rounded as its reference does."""
    torch.manual_seed(0)
    blocks = torch.randn(d_out * d_in // 32, 32)
    blocks[3] = 0.0
    if kind == "Q4_1":
        low, most = blocks.aminmax(dim=1, keepdim=True)
        step, low = ((most - low) / 15).half().float(), low.half().float()
    else:
        farthest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
        step = (farthest / -8).half().float()
        low = -8 * step
    numbers = ((blocks - low) / step).round().nan_to_num(0.0).clamp(0, 15)
    return (numbers * step + low).view(d_out, d_in)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_it_keeps_its_bits_and_loses_nothing(kind):
    base = nn.Linear(64, 40)
    base.weight.data = kept(kind)
    layer = FourBitLinear(base)
    assert torch.equal(layer.weight, base.weight) and layer.lows is not None
    assert torch.equal(layer.rows(7, 9), base.weight[7:9])
    n_bytes = sum(b.numel() * b.element_size() for b in layer.buffers() if b is not layer.bias)
    assert n_bytes * 8 == 5 * base.weight.numel()
    x = torch.randn(3, 64, requires_grad=True)
    torch.testing.assert_close(layer(x), base(x), rtol=1e-5, atol=1e-5)
    (found,) = reconstructed(base, {"": base}, lambda: base(x)).values()
    assert found.left is None  # nothing to put back


def test_floats_are_none_of_these():
    assert even_steps.found_in(torch.randn(40, 64)) is None
    assert even_steps.found_in(torch.randn(40, 24)) is None  # no blocks of 32
    other = kept("Q4_1")
    other[39, 63] += 1e-6  # far behind the blocks that are looked at first
    assert even_steps.found_in(other) is None
    base = nn.Linear(64, 40)
    base.weight.data = other
    assert FourBitLinear(base).lows is None


def test_another_layers_state_is_taken():
    base, other = nn.Linear(64, 40), nn.Linear(64, 40)
    base.weight.data = kept("Q4_0")
    other.weight.data = kept("Q4_0").flip(0)
    layer, again = FourBitLinear(base), FourBitLinear(other)
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.weight, layer.weight)
