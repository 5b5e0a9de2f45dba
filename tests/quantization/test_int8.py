"""int8 layers: the kernel equals its definition, surgery is undone, large inputs are kept."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Padded, Ragged
from hornbook.quantization import int8
from hornbook.quantization.kernels import (
    Grid,
    IntegerWeight,
    Kernel,
    adds_right,
    choose_kernel,
    onednn,
    reference,
)

REFERENCE = Kernel("reference", reference, "test")


@pytest.fixture
def model() -> Bert:
    torch.manual_seed(0)
    return Bert(BertConfig(vocab_size=50, n_layers=2, d_model=32, n_heads=2, d_ff=64)).eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(50, (48,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("out", [None, Grid(0.02, 9)])
def test_onednn_equals_the_definition(gelu: bool, out: Grid | None):
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        pytest.skip("this torch has no 8-bit product of oneDNN")
    if not adds_right():
        pytest.skip("oneDNN's 8-bit products overflow on this processor, and are not used")
    torch.manual_seed(0)
    weight = IntegerWeight.round(torch.randn(24, 64) / 8, torch.randn(24))
    x = torch.randint(0, 256, (10, 64), dtype=torch.uint8)
    got, expected = (prepare(weight, Grid(0.03, 120), gelu, out)(x) for prepare in KERNELS)
    assert got.dtype == expected.dtype
    # A sum that lies between two bytes may go to either.
    torch.testing.assert_close(
        got.float(), expected.float(), atol=1e-4 if out is None else 1, rtol=1e-5
    )


def test_what_is_chosen_adds_the_largest_products_right():
    """On every processor: without VNNI oneDNN's sums overflow in 16 bits."""
    weight = IntegerWeight.round(torch.tensor([[2.0], [-2.0]]).expand(2, 96), torch.ones(2))
    x = torch.full((3, 96), 255, dtype=torch.uint8)
    got = choose_kernel().prepare(weight, Grid(0.5, 128), False, None)(x)
    torch.testing.assert_close(got, torch.tensor([[1.0 + 96 * 127, 1.0 - 96 * 127]]).expand(3, 2))


KERNELS = (onednn, reference)


def test_columns_add_up_to_a_finer_step():
    """k columns of one channel resolve steps of 1/k: the error falls k-fold, nothing else moves."""
    x = torch.linspace(-1, 1, 2001)[:, None]
    seen, weight = int8.Range(-torch.ones(1), torch.ones(1)), torch.ones(1, 1)
    errors = []
    for n_extra in (0, 3):
        columns = int8.Columns(seen, weight, n_extra)
        scale = columns.weight(weight, torch.zeros(1))
        matrix = scale.values.float() * scale.scales[:, None]
        y = (columns.quantise(x).float() - int8.CENTRE.zero) @ matrix.T + scale.bias
        errors.append((y - x).abs().max().item())
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.05)


def test_one_large_channel_does_not_cost_the_others(model, tokens):
    """A channel a hundred times as large as the rest would leave them three values of one step."""
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(32, 16))
    x = torch.randn(500, 32)
    x[:, 3] *= 100
    expected = layer(x)
    int8.attach(layer, lambda: layer(x), targets="0", kernel=REFERENCE, n_extra=8)
    error = (layer(x) - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt()
    # one step for all channels gives .03
    assert error < 0.01


def test_attached_is_close_and_detached_is_the_same(model, tokens):
    layout = Ragged([16, 32])
    expected = model(tokens, layout)
    names = int8.attach(model, lambda: model(tokens, layout), kernel=REFERENCE, n_exact=8)
    assert names == [
        f"blocks.{b}.{m}"
        for b in (0, 1)
        for m in ("attention.qkv", "attention.out", "feed_forward")
    ]
    rounded = model(tokens, layout)
    assert F.cosine_similarity(rounded, expected).min() > 0.9995 and not rounded.equal(expected)
    int8.detach(model)
    assert model(tokens, layout).equal(expected)


def test_padded_and_ragged_batches_agree(model, tokens):
    ragged = Ragged([24, 24])
    int8.attach(model, lambda: model(tokens, ragged), kernel=REFERENCE, n_exact=8)
    square = tokens.view(2, 24)
    padded = model(square, Padded(torch.ones_like(square, dtype=torch.bool)))
    torch.testing.assert_close(padded.flatten(0, 1), model(tokens, ragged), atol=1e-3, rtol=1e-3)


def test_wrong_names_are_said(model, tokens):
    with pytest.raises(ConfigError, match="matches 'layers"):
        int8.attach(model, lambda: None, targets=r"layers\.\d+")
    with pytest.raises(ConfigError, match="saw no inputs"):
        int8.attach(model, lambda: None, kernel=REFERENCE)


def test_the_kernel_says_why(monkeypatch):
    choose_kernel.cache_clear()
    monkeypatch.setattr("hornbook.quantization.kernels._speedup", lambda: 0.5)
    kernel = choose_kernel()
    choose_kernel.cache_clear()
    assert kernel.prepare is reference and kernel.reason
