"""Models with a head for tokens or spans, to transformers and back."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    BertForTokenClassification,
    ModernBertConfig,
    ModernBertForQuestionAnswering,
    ModernBertForTokenClassification,
)

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.heads import HeadConfig, SpanFinder, TokenClassifier
from hornbook.nn.layout import Ragged
from hornbook.tasks.classification import Batch

TEXTS = [[2, 11, 7, 9, 3], [2, 30, 3]]
SEGMENTS = [[0, 0, 0, 1, 1], [0, 0, 0]]
SMALL = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"intermediate_size": 48, "max_position_embeddings": 32, "pad_token_id": 0}
NAMES = {0: "O", 1: "B-person", 2: "I-person"}
THEIRS = {
    "bert-tokens": (BertForTokenClassification, BertConfig),
    "modernbert-tokens": (ModernBertForTokenClassification, ModernBertConfig),
    "bert-span": (BertForQuestionAnswering, BertConfig),
    "modernbert-span": (ModernBertForQuestionAnswering, ModernBertConfig),
}


def our_logits(model, text, segments):
    batch = Batch(torch.tensor(text), Ragged([len(text)]), segments=torch.tensor(segments))
    with torch.inference_mode():
        return model.eval()(batch)


def their_logits(model, text, segments):
    more = {"token_type_ids": torch.tensor([segments])} if model.config.model_type == "bert" else {}
    with torch.inference_mode():
        out = model.eval()(input_ids=torch.tensor([text]), **more)
    if hasattr(out, "logits"):
        return out.logits[0]
    return torch.stack([out.start_logits[0], out.end_logits[0]], -1)


@pytest.fixture(scope="module", params=list(THEIRS))
def saved(request, tmp_path_factory):
    kind, config = THEIRS[request.param]
    labels = {} if "span" in request.param else {"id2label": NAMES}
    torch.manual_seed(0)
    model = kind(config(**SMALL, **labels)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def test_both_ways_with_the_head(saved, tmp_path):
    theirs, folder = saved
    ours = load_model(folder)
    spans = isinstance(ours, SpanFinder)
    assert ours.config.label_names == (("start", "end") if spans else tuple(NAMES.values()))
    for text, segments in zip(TEXTS, SEGMENTS, strict=True):
        expected = their_logits(theirs, text, segments)
        torch.testing.assert_close(our_logits(ours, text, segments), expected, atol=1e-5, rtol=0)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(tmp_path, ours)
    back, loading = type(theirs).from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    assert spans or back.config.id2label == NAMES
    for text, segments in zip(TEXTS, SEGMENTS, strict=True):
        expected = their_logits(back, text, segments)
        torch.testing.assert_close(our_logits(ours, text, segments), expected, atol=1e-5, rtol=0)


def test_a_pooler_that_nothing_reads_is_left_out(tmp_path):
    """Files of before 2020 have one beside the head."""
    torch.manual_seed(0)
    model = BertForTokenClassification(BertConfig(**SMALL))
    model.bert.pooler = torch.nn.ModuleDict({"dense": torch.nn.Linear(32, 32)})
    model.save_pretrained(tmp_path)
    expected = their_logits_without_pooler(model, TEXTS[0])
    torch.testing.assert_close(
        our_logits(load_model(tmp_path), TEXTS[0], SEGMENTS[1][:1] * 5), expected
    )


def their_logits_without_pooler(model, text):
    model.bert.pooler = None
    return their_logits(model, text, [0] * len(text))


def test_more_outputs_than_labels_are_refused(tmp_path):
    model = BertForTokenClassification(BertConfig(**SMALL, id2label=NAMES))
    model.classifier = torch.nn.Linear(32, 5)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"classifier.weight is \(5, 32\), not \(3, 32\)"):
        load_model(tmp_path)


def test_a_decoder_carries_no_such_head():
    trunk = GPT(GPTConfig(vocab_size=16, context_length=8, n_layers=1, n_heads=2, d_model=8))
    with pytest.raises(ConfigError, match="stands on a GPT"):
        TokenClassifier(trunk, HeadConfig(trunk.config, ("a", "b"), "token"))
