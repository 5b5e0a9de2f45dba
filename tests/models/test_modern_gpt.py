"""The modern GPT: equal to transformers' NanoChat, silent at first, blind to the future."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch

from hornbook.adapters.lora import attach
from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.init import scale_residual_
from hornbook.nn.layout import Padded, Ragged
from hornbook.nn.losses import cross_entropy_sum

transformers = pytest.importorskip("transformers")

LENGTHS = [11, 7, 7, 1]
CONFIG = ModernGPTConfig(90, 20, n_layers=3, n_heads=4, d_model=32, d_ff=48)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(90, mask.shape, generator=generator) * mask, mask


def shaken(config: ModernGPTConfig) -> ModernGPT:
    """Zero outputs would hide what is wrong inside a block; large logits reach the cap."""
    torch.manual_seed(0)
    model = ModernGPT(config, init_outputs=partial(scale_residual_, n_residuals=1, std=0.3))
    torch.nn.init.normal_(model.head.weight, std=0.7)
    return model.eval()


@torch.no_grad()
@pytest.mark.parametrize("n_kv_heads", [None, 2, 1])
@pytest.mark.parametrize("logit_cap", [15.0, None])
def test_equals_transformers_both_ways(tmp_path, batch, n_kv_heads, logit_cap):
    ours = shaken(replace(CONFIG, n_kv_heads=n_kv_heads, logit_cap=logit_cap, rotary_base=500.0))
    save_model(tmp_path, ours)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert type(theirs).__name__ == "NanoChatForCausalLM"
    tokens, mask = batch
    expected = theirs(tokens, attention_mask=mask.long()).logits
    padded = ours.logits(ours(tokens, Padded(mask)))
    torch.testing.assert_close(padded[mask], expected[mask], atol=1e-5, rtol=0)
    ragged = ours.logits(ours(tokens[mask], Ragged(LENGTHS)))
    torch.testing.assert_close(ragged, expected[mask], atol=2e-5, rtol=0)

    theirs.save_pretrained(tmp_path / "back")
    back = load_model(tmp_path / "back").eval()
    assert back.config == replace(ours.config, n_kv_heads=n_kv_heads or 4)
    again = back.logits(back(tokens[mask], Ragged(LENGTHS)))
    assert torch.equal(again, ragged)


@torch.no_grad()
def test_a_later_token_cannot_move_an_earlier_logit():
    model = shaken(CONFIG)
    tokens = torch.arange(10, 20)
    before = model.logits(model(tokens, Ragged([10])))
    tokens[6] = 3
    after = model.logits(model(tokens, Ragged([10])))
    assert torch.equal(before[:6], after[:6])
    assert not torch.isclose(before[6:], after[6:]).all(1).any()


@torch.no_grad()
def test_left_padding_changes_nothing(batch):
    model, (tokens, _) = shaken(CONFIG), batch
    alone = model(tokens[:1], Padded(torch.ones(1, 11, dtype=torch.bool)))
    mask = torch.arange(16)[None] >= 5
    left = model(torch.nn.functional.pad(tokens[:1], (5, 0)), Padded(mask))
    torch.testing.assert_close(left[:, 5:], alone)


@torch.no_grad()
def test_its_first_guess_is_all_tokens_alike():
    torch.manual_seed(0)
    model = ModernGPT(CONFIG)
    tokens = torch.randint(90, (40, 20))
    logits = model.logits(model(tokens, Padded(torch.ones(40, 20, dtype=torch.bool))))
    loss = cross_entropy_sum(logits, torch.randint(90, (40, 20)))
    assert abs(loss.total / loss.n_targets - math.log(90)) < 0.01


@torch.no_grad()
def test_at_first_each_block_is_the_identity():
    model = ModernGPT(CONFIG)
    x, layout = torch.randn(5, 32), Ragged([5])
    for block in model.blocks:
        assert torch.equal(block(x, layout, lambda heads: heads), x)


@torch.no_grad()
def test_an_adapter_on_any_layer_is_heard():
    """The feed-forward layer takes a short way through bare matrices; not past an adapter."""
    tokens = torch.arange(10)
    for layer in ("attention.qkv", "feed_forward.up", "feed_forward.down"):
        model = shaken(CONFIG)
        before = model(tokens, Ragged([10]))
        names = attach(model, rank=2, targets=rf".*{layer}")
        torch.testing.assert_close(model(tokens, Ragged([10])), before)
        for name in names:
            torch.nn.init.normal_(model.get_submodule(name).change.b)
        assert not torch.allclose(model(tokens, Ragged([10])), before, atol=1e-3)


def test_a_document_longer_than_the_context_is_refused():
    model = ModernGPT(CONFIG)
    with pytest.raises(ConfigError, match="21 tokens; the model reads 20"):
        model(torch.zeros(21, dtype=torch.long), Ragged([21]))


def test_a_width_that_does_not_divide_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        ModernGPT(replace(CONFIG, d_model=100, n_heads=6))
    assert "n_heads [5, 10], or d_model [96, 102]" in caught.value.hint
    with pytest.raises(ConfigError, match="multiple of n_kv_heads"):
        ModernGPT(replace(CONFIG, n_kv_heads=3))
    with pytest.raises(ConfigError, match="pairs of features"):
        ModernGPT(replace(CONFIG, d_model=36, n_heads=4))


def test_a_config_that_asks_for_more_is_refused(tmp_path):
    save_model(tmp_path, ModernGPT(CONFIG))
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"relu2"', '"silu"'))
    with pytest.raises(CheckpointError, match="hidden_act is 'silu', not 'relu2'"):
        load_model(tmp_path)
