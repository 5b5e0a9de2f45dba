"""Models with a head that marks options, to transformers and peft and back."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from transformers import (
    AutoModelForMultipleChoice,
    BertConfig,
    BertForMultipleChoice,
    ModernBertConfig,
    ModernBertForMultipleChoice,
)

from hornbook.adapters.methods import prepare
from hornbook.bundle import Bundle
from hornbook.interop.adapter_folder import with_head
from hornbook.interop.huggingface import load_model, save_model
from hornbook.interop.peft import load_adapter, save_adapter
from hornbook.models.heads import ChoiceScorer, bare_trunk
from hornbook.tasks.choose_pairs import ByPairs, PairsItem
from hornbook.text.train import train_tokenizer

SIZES = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 48, "max_position_embeddings": 32, "pad_token_id": 0}
THEIRS = {
    "bert": (BertForMultipleChoice, BertConfig(**SIZES)),
    "modernbert": (ModernBertForMultipleChoice, ModernBertConfig(**SIZES, local_attention=4)),
    "modernbert-mean": (
        ModernBertForMultipleChoice,
        ModernBertConfig(**SIZES, classifier_pooling="mean"),
    ),
}
ITEM = PairsItem(
    0,
    ([2, 11, 7, 3, 9, 3], [2, 11, 7, 3, 30, 31, 32, 3], [2, 11, 7, 3, 40, 3]),
    ([0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]),
    1,
)
TASK = ByPairs(train_tokenizer("wordpiece", lambda: ["a b c"], 40), max_tokens=32)


def shaken(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def their_marks(model):
    def filled(rows):
        return torch.tensor([[[*r, *[0] * (8 - len(r))] for r in rows]])

    more = {"attention_mask": filled([[1] * len(pair) for pair in ITEM.pairs])}
    if "modernbert" not in model.config.model_type:
        more["token_type_ids"] = filled(ITEM.segments)
    with torch.inference_mode():
        return model(input_ids=filled(ITEM.pairs), **more).logits[0]


def our_marks(model):
    return torch.tensor(TASK.predict(model.eval(), [ITEM])[0]["marks"])


def close(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert one.std() > 1e-3  # they do not agree for being all the same


@pytest.fixture(params=list(THEIRS))
def saved(request, tmp_path):
    kind, config = THEIRS[request.param]
    torch.manual_seed(0)
    model = shaken(kind(config))
    model.save_pretrained(tmp_path / "theirs")
    return model, tmp_path / "theirs"


def test_theirs_opens_here_with_its_head(saved):
    theirs, folder = saved
    ours = load_model(folder)
    assert isinstance(ours, ChoiceScorer) and ours.config.n_labels == 1
    close(our_marks(ours), their_marks(theirs))


def test_ours_opens_there_with_its_head(saved, tmp_path):
    theirs, folder = saved
    ours = shaken(load_model(folder))
    save_model(tmp_path / "ours", ours)
    found, loading = AutoModelForMultipleChoice.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(found) is type(theirs)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    close(their_marks(found.eval()), our_marks(ours))


@pytest.fixture
def base(tmp_path):
    torch.manual_seed(0)
    kind, config = THEIRS["bert"]
    shaken(kind(config)).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def test_an_adapter_opens_in_peft_with_its_head(base, tmp_path):
    ours = load_model(base)
    prepare(ours, "lora", rank=3)
    shaken(ours)
    save_adapter(tmp_path / "adapter", ours, base_name=str(base))
    theirs = peft.PeftModel.from_pretrained(
        BertForMultipleChoice.from_pretrained(base), str(tmp_path / "adapter")
    ).eval()
    close(their_marks(theirs), our_marks(ours))
    alone = peft.AutoPeftModel.from_pretrained(str(tmp_path / "adapter")).eval()
    close(their_marks(alone), our_marks(ours))


def test_an_adapter_of_peft_brings_its_head(base, tmp_path):
    """peft knows no task for options; what the base was is all that is told."""
    config = peft.LoraConfig(
        r=3, target_modules=["query", "value"], modules_to_save=["pooler", "classifier"]
    )
    theirs = peft.get_peft_model(BertForMultipleChoice.from_pretrained(base), config)
    shaken(theirs).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert settings["task_type"] is None
    bare = Bundle(bare_trunk(load_model(base)), TASK.tokenizer, "bert")
    ours = with_head(bare, tmp_path, settings)
    assert isinstance(ours, ChoiceScorer)
    load_adapter(tmp_path, ours)
    close(our_marks(ours), their_marks(theirs))
