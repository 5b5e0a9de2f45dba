"""A fresh adapter is the base, merged is attached, detached is the base to the last bit."""

from __future__ import annotations

import copy

import pytest
import torch

from hornbook.adapters import lora
from hornbook.errors import CheckpointError, ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged

TOKENS, LAYOUT = torch.arange(10, 22), Ragged([7, 5])


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return Bert(BertConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32)).eval()


def _train_a_little(model) -> None:
    with torch.no_grad():
        for layer in lora.adapters(model).values():
            layer.change.b.normal_(std=0.1)


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing(bert):
    before = bert(TOKENS, LAYOUT)
    lora.attach(bert, rank=4)
    assert torch.equal(bert(TOKENS, LAYOUT), before)


@torch.no_grad()
def test_merged_equals_attached_and_detached_equals_base(bert):
    before = bert(TOKENS, LAYOUT)
    lora.attach(bert, rank=4)
    _train_a_little(bert)
    attached = bert(TOKENS, LAYOUT)
    assert not torch.allclose(attached, before)
    merged = copy.deepcopy(bert)
    lora.merge(merged)
    assert not lora.adapters(merged)
    torch.testing.assert_close(merged(TOKENS, LAYOUT), attached, atol=1e-5, rtol=0)
    lora.detach(bert)
    assert torch.equal(bert(TOKENS, LAYOUT), before)


def test_only_adapters_learn(bert):
    lora.attach(bert, rank=4)
    bert(TOKENS, LAYOUT).square().sum().backward()
    learning = {name for name, p in bert.named_parameters() if p.grad is not None}
    assert learning and all(name.endswith((".a", ".b")) for name in learning)


@torch.no_grad()
def test_state_round_trip(bert):
    other = copy.deepcopy(bert)
    pattern = lora.block_layers([1])
    names = lora.attach(bert, rank=4, targets=pattern)
    assert names and all(name.startswith("blocks.1.") for name in names)
    _train_a_little(bert)
    lora.attach(other, rank=4, targets=pattern)
    lora.load_state(other, lora.state(bert))
    assert torch.equal(other(TOKENS, LAYOUT), bert(TOKENS, LAYOUT))


def test_errors(bert):
    with pytest.raises(ConfigError, match="no linear layer"):
        lora.attach(bert, rank=4, targets="nowhere")
    with pytest.raises(ConfigError, match="rank"):
        lora.attach(bert, rank=0)
    lora.attach(bert, rank=4)
    with pytest.raises(CheckpointError, match="does not fit"):
        lora.load_state(bert, {"blocks.0.attention.qkv.a": torch.zeros(2, 2)})


def test_the_techniques_adapter_is_less_than_a_hundredth_of_its_base():
    from hornbook.compare.techniques.lora import RANK

    with torch.device("meta"):
        minilm = Bert(BertConfig())
    n_base = sum(p.numel() for p in minilm.parameters())
    lora.attach(minilm, rank=RANK)
    n_adapter = sum(p.numel() for p in minilm.parameters() if p.requires_grad)
    assert 0 < n_adapter < 0.01 * n_base
