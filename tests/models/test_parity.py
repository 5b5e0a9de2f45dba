"""BERT as transformers saved it, pooler and all; parts of a model in turn; tables both ways."""

from __future__ import annotations

import pytest
import torch

from hornbook.interop.huggingface import load_bert
from hornbook.interop.names import gpt2, to_ours, to_theirs
from hornbook.models.bert import Bert, BertConfig, MaskedLMHead
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.layout import Padded, Ragged

transformers = pytest.importorskip("transformers")

LENGTHS = [7, 4, 4, 1]


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(5, 90, mask.shape, generator=generator) * mask
    return tokens, mask


def their_bert():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=90,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=20,
        layer_norm_eps=1e-12,
    )
    model = transformers.BertForMaskedLM(config).eval()
    _shake(model)
    return model


def _shake(model) -> None:
    """Biases and norms start at 0 and 1, where a missing or swapped one would go unnoticed."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)


@torch.no_grad()
def test_bert_equals_transformers(tmp_path, batch):
    theirs = their_bert()
    theirs.save_pretrained(tmp_path)
    ours, extras = load_bert(tmp_path)
    ours.eval()
    tokens, mask = batch
    expected = theirs.bert(tokens, attention_mask=mask.long()).last_hidden_state
    padded = ours(tokens, Padded(mask))
    torch.testing.assert_close(padded[mask], expected[mask], atol=1e-5, rtol=0)
    ragged = ours(tokens[mask], Ragged(LENGTHS))
    torch.testing.assert_close(ragged, expected[mask], atol=1e-5, rtol=0)

    head = MaskedLMHead(ours.config)
    head.load_state_dict(
        {
            "dense.weight": extras["cls.predictions.transform.dense.weight"],
            "dense.bias": extras["cls.predictions.transform.dense.bias"],
            "norm.weight": extras["cls.predictions.transform.LayerNorm.weight"],
            "norm.bias": extras["cls.predictions.transform.LayerNorm.bias"],
            "bias": extras["cls.predictions.bias"],
        }
    )
    logits = head(padded, ours.embeddings.tokens.weight)
    their_logits = theirs(tokens, attention_mask=mask.long()).logits
    torch.testing.assert_close(logits[mask], their_logits[mask], atol=1e-5, rtol=0)


@torch.no_grad()
def test_bert_segments_equal_transformers(tmp_path, batch):
    theirs = their_bert()
    theirs.save_pretrained(tmp_path)
    ours, _ = load_bert(tmp_path)
    tokens, mask = batch
    segments = (torch.arange(tokens.shape[1]) > 2).long().expand_as(tokens)
    expected = theirs.bert(tokens, mask.long(), segments).last_hidden_state
    got = ours.eval()(tokens, Padded(mask), segments)
    torch.testing.assert_close(got[mask], expected[mask], atol=1e-5, rtol=0)


@torch.no_grad()
def test_lower_then_upper_is_the_whole():
    torch.manual_seed(0)
    tokens, layout = torch.arange(10, 19), Ragged([5, 4])
    bert = Bert(BertConfig(90, 20, n_layers=3, n_heads=2, d_model=16, d_ff=32)).eval()
    gpt = GPT(GPTConfig(90, 20, n_layers=3, n_heads=2, d_model=16, d_ff=32)).eval()
    for model in (bert, gpt):
        whole = model(tokens, layout)
        for n in range(4):
            assert torch.equal(model.upper(model.lower(tokens, layout, n), layout, n), whole)


def test_tables_are_reversible_and_name_every_weight():
    gpt = GPT(GPTConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32))
    weights, table = gpt.state_dict(), gpt2.table(2)
    assert {row.ours for row in table} == weights.keys()
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    back = to_ours(to_theirs(weights, table), table, shapes)
    assert all(torch.equal(back[name], weights[name]) for name in weights)
