"""What 4 bits lose, put back where it costs most."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged
from hornbook.quantization import four_bits
from hornbook.quantization.four_bits import FourBitLinear, matching
from hornbook.quantization.reconstruction import reconstructed


def one_layer(rank: int) -> tuple[nn.Linear, torch.Tensor, FourBitLinear]:
    """A layer, inputs of which a few are far larger than others, and the layer in 4 bits."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 48)
    x = torch.randn(200, 64) * torch.logspace(0, 2, 64)
    (small,) = reconstructed(layer, {"": layer}, lambda: layer(x), rank=rank).values()
    return layer, x, small


@pytest.mark.parametrize("rank", [1, 4, 48])
def test_no_change_of_that_rank_leaves_less_of_the_outputs_loss(rank):
    """Theorem 1's optimum, by the whole decomposition of what the outputs lose."""
    layer, x, small = one_layer(rank)
    plain = FourBitLinear(layer)
    lost = (layer.weight - plain.weight) @ x.T
    least = torch.linalg.svdvals(lost)[rank:].square().sum().sqrt()
    left = ((layer.weight - small.weight) @ x.T).norm()
    assert left <= 1.03 * least + 0.01 * lost.norm()  # bfloat16 has 8 bits
    assert small.left.shape == (48, rank) and small.right.shape == (rank, 64)


def test_a_decomposition_that_has_seen_no_inputs_leaves_more():
    layer, x, small = one_layer(4)
    lost = layer.weight - FourBitLinear(layer).weight
    u, s, v = torch.linalg.svd(lost)
    blind = lost - (u[:, :4] * s[:4]) @ v[:4]
    assert ((layer.weight - small.weight) @ x.T).norm() < 0.8 * (blind @ x.T).norm()


def test_forward_gradient_and_floats_have_it_in_them():
    _, x, small = one_layer(4)
    assert torch.equal(small.rows(10, 20), small.weight[10:20])
    assert torch.equal(small.restored().weight, small.weight)
    x = x[:5].requires_grad_()
    torch.testing.assert_close(small(x), x @ small.weight.T + small.bias, rtol=1e-4, atol=1e-3)
    (found,) = torch.autograd.grad(small(x).square().sum(), x)
    (expected,) = torch.autograd.grad((x @ small.weight.T + small.bias).square().sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)


def test_a_model_of_which_some_is_never_reached():
    """Layers that no input came to are rounded as they are; random numbers and mode stay."""
    torch.manual_seed(0)
    model = Bert(BertConfig(20, 8, 2, 2, 16, 24))
    unused = model.blocks[1].feed_forward.down
    model.blocks[1].feed_forward = nn.ModuleDict({"down": unused})
    torch.manual_seed(1)
    drawn = torch.rand(3)
    torch.manual_seed(1)

    def run() -> None:
        assert not model.training and not torch.is_grad_enabled()
        model.blocks[0](model.embeddings(torch.arange(5), torch.arange(5), None), Ragged([5]))

    rounded = reconstructed(model, matching(model), run, rank=2)
    assert torch.equal(torch.rand(3), drawn) and model.training
    assert set(rounded) == {n for n in matching(model) if n.startswith("blocks.0.")}
    names = four_bits.attach(model, rounded=rounded)
    assert model.blocks[0].attention.qkv is rounded["blocks.0.attention.qkv"]
    assert unused.weight.shape == model.blocks[1].feed_forward.down.weight.shape
    assert model.blocks[1].feed_forward.down.left is None and len(names) == 7
    assert not any(len(m._forward_pre_hooks) for m in model.modules())
