"""Models with a head that reads whole texts, to transformers and back."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    NanoChatConfig,
    NanoChatModel,
)
from transformers.modeling_layers import GenericForSequenceClassification
from transformers.models.nanochat.modeling_nanochat import NanoChatPreTrainedModel

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import load_model, pooler_in, save_model
from hornbook.models.bigram import Bigram, BigramConfig
from hornbook.models.heads import HeadConfig, SequenceClassifier, bare_trunk
from hornbook.models.llama import Llama
from hornbook.models.llama import LlamaConfig as OurLlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.layout import Padded, Ragged
from hornbook.tasks.classification import Batch

TEXTS = [[2, 11, 7, 9, 3], [2, 30, 3], [2, 40, 41, 5, 6, 3]]
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 32}
NAMES = {0: "earn", 1: "acq", 2: "ship"}


class NanoChatForSequenceClassification(GenericForSequenceClassification, NanoChatPreTrainedModel):
    """As transformers makes its other decoders' classifiers; of this family it has none."""


THEIRS = {
    "bert": (BertForSequenceClassification, BertConfig(**SMALL, pad_token_id=0)),
    "modernbert": (
        ModernBertForSequenceClassification,
        ModernBertConfig(**SMALL, pad_token_id=0, local_attention=4),
    ),
    "modernbert-mean": (
        ModernBertForSequenceClassification,
        ModernBertConfig(**SMALL, pad_token_id=0, classifier_pooling="mean"),
    ),
    "llama": (
        LlamaForSequenceClassification,
        LlamaConfig(**SMALL, num_key_value_heads=2, pad_token_id=0),
    ),
    "gpt2": (
        GPT2ForSequenceClassification,
        GPT2Config(
            vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=32, pad_token_id=0,
            bos_token_id=None, eos_token_id=None,
        ),
    ),
    "nanochat": (
        NanoChatForSequenceClassification,
        NanoChatConfig(**SMALL, num_key_value_heads=2, pad_token_id=0),
    ),
}  # fmt: skip


def batch(texts, segments=None):
    tokens = torch.tensor([t for text in texts for t in text])
    return Batch(tokens, Ragged([len(t) for t in texts]), segments=segments)


def their_logits(model, texts, **more):
    longest = max(map(len, texts))
    padded = [t + [0] * (longest - len(t)) for t in texts]
    mask = [[1] * len(t) + [0] * (longest - len(t)) for t in texts]
    with torch.inference_mode():
        return model(
            input_ids=torch.tensor(padded), attention_mask=torch.tensor(mask), **more
        ).logits


@pytest.fixture(scope="module", params=list(THEIRS))
def saved(request, tmp_path_factory):
    """A random model of transformers' with named labels, and its folder."""
    kind, config = THEIRS[request.param]
    config.id2label, config.label2id = NAMES, {v: k for k, v in NAMES.items()}
    config.problem_type = "multi_label_classification"
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def test_theirs_opens_here_with_its_head(saved):
    theirs, folder = saved
    ours = load_model(folder).eval()
    assert ours.config.label_names == ("earn", "acq", "ship")
    assert ours.config.problem == "multi_label_classification"
    with torch.inference_mode():
        torch.testing.assert_close(ours(batch(TEXTS)), their_logits(theirs, TEXTS))


def test_ours_opens_there_with_its_head(saved, tmp_path):
    theirs, folder = saved
    ours = load_model(folder).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1)
    save_model(tmp_path, ours)
    reopened, loading = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert reopened.config.id2label == NAMES
    assert reopened.config.problem_type == "multi_label_classification"
    with torch.inference_mode():
        torch.testing.assert_close(ours(batch(TEXTS)), their_logits(reopened.eval(), TEXTS))


def test_segments_are_read_as_there(tmp_path):
    kind, config = THEIRS["bert"]
    torch.manual_seed(1)
    theirs = kind(config).eval()
    theirs.save_pretrained(tmp_path)
    segments = torch.tensor([0, 0, 0, 1, 1])
    logits = their_logits(theirs, TEXTS[:1], token_type_ids=segments[None])
    ours = load_model(tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(ours(batch(TEXTS[:1], segments)), logits)
        assert not torch.allclose(ours(batch(TEXTS[:1])), logits)


def test_layouts_agree(saved):
    _, folder = saved
    model = load_model(folder).eval()
    tokens = torch.zeros(3, 6, dtype=torch.long)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    for row, text in enumerate(TEXTS):
        tokens[row, : len(text)], mask[row, : len(text)] = torch.tensor(text), True
    with torch.inference_mode():
        torch.testing.assert_close(model(Batch(tokens, Padded(mask))), model(batch(TEXTS)))


def test_the_pooler_of_a_bare_encoder_is_found(tmp_path):
    theirs = BertModel(THEIRS["bert"][1])
    theirs.save_pretrained(tmp_path)
    found = pooler_in(tmp_path)
    torch.testing.assert_close(found["dense.weight"], theirs.pooler.dense.weight.detach())
    assert set(found) == {"dense.weight", "dense.bias"}


def test_two_labels_without_names_and_one_that_is_a_number(tmp_path):
    kind, config = THEIRS["bert"]
    for n_labels, names, problem in (
        (2, ("LABEL_0", "LABEL_1"), "single_label_classification"),
        (1, ("LABEL_0",), "regression"),
    ):
        config = BertConfig(**SMALL, num_labels=n_labels)
        kind(config).save_pretrained(tmp_path)
        opened = load_model(tmp_path).config
        assert (opened.label_names, opened.problem) == (names, problem)


def test_labels_numbered_with_a_gap_are_refused(saved, tmp_path):
    _, folder = saved
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["id2label"] = {"0": "a", "1": "b", "3": "c"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="numbers the labels"):
        load_model(tmp_path)


def test_a_decoder_loses_its_matrix_of_next_tokens_under_a_head(tmp_path):
    sizes = OurLlamaConfig(64, 32, 2, 4, 32, 48)
    trunk = bare_trunk(Llama(sizes))
    model = SequenceClassifier(trunk, HeadConfig(trunk.config, ("no", "yes"))).eval()
    save_model(tmp_path, model)
    reopened = load_model(tmp_path).eval()
    with torch.inference_mode():
        torch.testing.assert_close(reopened(batch(TEXTS)), model(batch(TEXTS)))


def test_a_run_of_ours_takes_a_head_and_is_the_same_when_opened(tmp_path):
    """`hornbook train gpt` makes a modern GPT, whose matrix of next tokens goes."""
    torch.manual_seed(0)
    trunk = bare_trunk(ModernGPT(ModernGPTConfig(64, 32, 2, 4, 32, 48, n_kv_heads=2)))
    assert bare_trunk(trunk) is trunk
    model = SequenceClassifier(trunk, HeadConfig(trunk.config, ("no", "yes"))).eval()
    assert "trunk.head.weight" not in model.state_dict()
    save_model(tmp_path, model)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["NanoChatForSequenceClassification"]
    reopened = load_model(tmp_path).eval()
    assert reopened.config == model.config
    with torch.inference_mode():
        assert torch.equal(reopened(batch(TEXTS)), model(batch(TEXTS)))
        theirs = NanoChatModel.from_pretrained(tmp_path).eval()  # what they have of it
        hidden = theirs(torch.tensor(TEXTS[:1])).last_hidden_state[0]
        one = batch(TEXTS[:1])
        torch.testing.assert_close(reopened.trunk(one.inputs, one.layout), hidden)


def test_a_trunk_without_such_a_head_is_refused():
    trunk = Bigram(BigramConfig(vocab_size=8))
    with pytest.raises(ConfigError, match="no head of this kind stands on a Bigram"):
        SequenceClassifier(trunk, HeadConfig(None, ("a", "b")))
