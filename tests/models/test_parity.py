"""Our BERT and GPT give transformers' states and logits at random weights, padded and ragged."""

from __future__ import annotations

import pytest
import torch

from hornbook.interop.huggingface import load_bert, load_gpt2, save_bert, save_gpt2
from hornbook.interop.names import to_ours
from hornbook.interop.names.bert import table as bert_table
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


def their_gpt():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=90, n_embd=32, n_layer=3, n_head=4, n_positions=20, n_inner=48
    )
    model = transformers.GPT2LMHeadModel(config).eval()
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
def test_gpt_equals_transformers(tmp_path, batch):
    theirs = their_gpt()
    theirs.save_pretrained(tmp_path)
    ours = load_gpt2(tmp_path).eval()
    tokens, mask = batch
    expected = theirs(tokens, attention_mask=mask.long()).logits
    padded = ours.logits(ours(tokens, Padded(mask)))
    torch.testing.assert_close(padded[mask], expected[mask], atol=1e-5, rtol=0)
    ragged = ours.logits(ours(tokens[mask], Ragged(LENGTHS)))
    torch.testing.assert_close(ragged, expected[mask], atol=1e-5, rtol=0)


@torch.no_grad()
def test_left_padding_changes_nothing():
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32)).eval()
    tokens = torch.tensor([[0, 0, 7, 8, 9]])
    alone = gpt(tokens[:, 2:], Padded(torch.ones(1, 3, dtype=torch.bool)))
    padded = gpt(tokens, Padded(tokens > 0))
    torch.testing.assert_close(padded[:, 2:], alone)


@torch.no_grad()
def test_a_later_token_cannot_move_an_earlier_state():
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32)).eval()
    tokens = torch.arange(10, 18)
    before = gpt(tokens, Ragged([8]))
    tokens[5] = 3
    after = gpt(tokens, Ragged([8]))
    assert torch.equal(before[:5], after[:5])
    assert not torch.allclose(before[5:], after[5:])


@torch.no_grad()
def test_what_we_save_opens_in_transformers(tmp_path, batch):
    torch.manual_seed(0)
    tokens, mask = batch
    bert = Bert(BertConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32)).eval()
    gpt = GPT(GPTConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32)).eval()
    for ours, save, name in ((bert, save_bert, "bert"), (gpt, save_gpt2, "gpt2")):
        folder = tmp_path / name
        folder.mkdir()
        save(folder, ours)
        theirs = transformers.AutoModel.from_pretrained(folder).eval()
        expected = theirs(tokens, attention_mask=mask.long()).last_hidden_state
        got = ours(tokens, Padded(mask))
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
    from hornbook.interop.names import gpt2, to_theirs

    bert = Bert(BertConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32))
    gpt = GPT(GPTConfig(90, 20, n_layers=2, n_heads=2, d_model=16, d_ff=32))
    for model, table in ((bert, bert_table(2)), (gpt, gpt2.table(2))):
        weights = model.state_dict()
        assert {row.ours for row in table} == weights.keys()
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        back = to_ours(to_theirs(weights, table), table, shapes)
        assert all(torch.equal(back[name], weights[name]) for name in weights)
