"""peft opens our adapters and gives the same logits, head included, and the reverse; both learn
alike, step by step. Random tiny models of transformers are the bases."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.interop.huggingface import load_model
from hornbook.interop.peft import load_adapter, save_adapter
from hornbook.nn.layout import Ragged

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

LENGTHS = [7, 5, 9]


@dataclass
class Batch:
    inputs: Tensor
    layout: Ragged
    segments: Tensor | None = None


def _bert():
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=20,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config)


def _llama():
    config = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=20,
    )
    return transformers.LlamaForCausalLM(config)


def _gpt2():
    config = transformers.GPT2Config(
        vocab_size=60,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=20,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(config)


MAKE = {"bert": _bert, "llama": _llama, "gpt2": _gpt2}
# What peft adapts when it adapts every linear layer of the blocks.
LINEAR = {
    "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}
TARGETS = {"bert": r".*(attention\.(qkv|out)|up)", "llama": lora.ALL_BLOCK_LAYERS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for i, (name, make) in enumerate(MAKE.items()):
        torch.manual_seed(i)
        made[name] = tmp_path_factory.mktemp(name)
        make().save_pretrained(made[name])
    return made


def _theirs(name, folder):
    kind = type(MAKE[name]())
    return kind.from_pretrained(folder, attn_implementation="eager").eval()


def _tokens(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 60, (sum(LENGTHS),), generator=generator)


def _our_logits(model, tokens: Tensor) -> Tensor:
    layout = Ragged(LENGTHS)
    if hasattr(model, "trunk"):
        return model(Batch(tokens, layout))
    return model.logits(model(tokens, layout))


def _their_logits(model, tokens: Tensor) -> Tensor:
    """Text by text, so that padding can't matter."""
    found = [model(input_ids=text[None]).logits[0] for text in tokens.split(LENGTHS)]
    return torch.stack(found) if found[0].ndim == 1 else torch.cat(found)


def _shake(parameters) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("how", ["lora", "stabilized", "dora", "some"])
@torch.no_grad()
def test_peft_opens_ours(folders, tmp_path, name, how):
    torch.manual_seed(5)
    model = load_model(folders[name]).eval()
    base = _our_logits(model, _tokens())
    prepare(
        model,
        "dora" if how == "dora" else "lora",
        rank=3,
        rank_stabilized=how == "stabilized",
        targets=r".*qkv\.(q|v)" if how == "some" else None,
    )
    _shake(p for p in model.parameters() if p.requires_grad)
    ours = _our_logits(model, _tokens())
    assert not torch.allclose(ours, base, atol=1e-2)
    save_adapter(tmp_path, model, base_name=str(folders[name]))
    theirs = peft.PeftModel.from_pretrained(_theirs(name, folders[name]), tmp_path).eval()
    _close(ours, _their_logits(theirs, _tokens()))

    again = load_model(folders[name]).eval()
    load_adapter(tmp_path, again)
    _close(_our_logits(again, _tokens()), ours)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("how", ["lora", "stabilized", "dora", "uneven"])
@torch.no_grad()
def test_we_open_pefts(folders, tmp_path, name, how):
    torch.manual_seed(6)
    targets = LINEAR[name]
    if how == "uneven":
        targets = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}.get(name, ["c_attn"])
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=targets,
        use_rslora=how == "stabilized",
        use_dora=how == "dora",
        rank_pattern={targets[0]: 5} if how == "uneven" else {},
        alpha_pattern={targets[-1]: 7} if how == "uneven" else {},
        task_type="SEQ_CLS" if name == "bert" else "CAUSAL_LM",
        fan_in_fan_out=name == "gpt2",
    )
    theirs = peft.get_peft_model(_theirs(name, folders[name]), config).eval()
    _shake(p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(tmp_path)
    model = load_model(folders[name]).eval()
    load_adapter(tmp_path, model, base_name=str(folders[name]))
    _close(_our_logits(model, _tokens()), _their_logits(theirs, _tokens()))
    lora.merge(model)
    _close(_our_logits(model, _tokens()), _their_logits(theirs, _tokens()))
