"""Folders of the hub and ours: opened there and here alike, with what a conversation needs."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook import bundle
from hornbook.errors import CheckpointError, UnknownNameError
from hornbook.generation import sampling
from hornbook.generation.generate import generate, seeded
from hornbook.interop.catalogue import fetched
from hornbook.interop.gguf_writer import write_gguf
from hornbook.interop.huggingface import read_weights, write_weights
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.rotary import Stretch
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ChatTemplate(
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
)
CHAT = [{"role": "user", "content": "hello, you"}]


@pytest.fixture
def tokenizer() -> Tokenizer:
    tokens = [*SPECIALS, *ALPHABET, "he"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    rust = byte_level(RustTokenizer(models.BPE(vocab=vocabulary, merges=[("h", "e")])))
    rust.add_special_tokens(SPECIALS)
    return Tokenizer(rust)


def llama(**changed) -> Llama:
    torch.manual_seed(0)
    sizes = {"vocab_size": 260, "context_length": 64, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2}
    model = Llama(LlamaConfig(**sizes | {"d_model": 32, "d_ff": 48, "tied_head": True} | changed))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return model.eval()


def greedy(model, ids: list[int], n_tokens: int) -> list[int]:
    choose = sampling.temperature(0)
    return list(generate(model, ids, n_tokens=n_tokens, choose=choose, generator=seeded(0)))


@pytest.mark.parametrize(
    "changed",
    [
        {"rotary_base": 500.0},
        {"tied_head": False},
        {"rotary_stretch": Stretch(factor=8.0, slow=1.0, fast=4.0, first_context=32)},
    ],
    ids=["tied", "a head of its own", "stretched"],
)
@torch.no_grad()
def test_transformers_opens_the_folder_and_answers_the_same(tmp_path, tokenizer, changed):
    """All that vLLM and transformers read: config, weights, tokenizer, template, ends."""
    transformers = pytest.importorskip("transformers")
    ours = llama(**changed)
    bundle.save(tmp_path, ours, tokenizer, template=TEMPLATE, stop_tokens=[0, 2])
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    words = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.generation_config.eos_token_id == [0, 2]
    assert (words.eos_token_id, words.pad_token_id, words.model_max_length) == (2, 0, 64)
    ids = TEMPLATE.encode(CHAT, tokenizer)
    assert words.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"] == ids
    row = torch.tensor(ids)
    expected = theirs(row[None]).logits[0]
    torch.testing.assert_close(
        ours.logits(ours(row, Ragged([len(ids)]))), expected, atol=1e-4, rtol=0
    )
    answer = theirs.generate(
        row[None],
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=25,
        do_sample=False,
        eos_token_id=259,
    )[0, len(ids) :].tolist()
    assert greedy(ours, ids, 25)[: len(answer)] == answer
    again = bundle.load(tmp_path)
    assert again.template == TEMPLATE
    assert again.stop_tokens == {0, 2}
    assert again.model.config == ours.config


@pytest.mark.parametrize("numbers", [torch.float16, torch.bfloat16])
def test_weights_in_half_are_read_as_whole(tmp_path, tokenizer, numbers):
    ours = llama()
    bundle.save(tmp_path, ours, tokenizer, numbers=numbers)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] in str(numbers)
    again = bundle.load(tmp_path).model
    for (name, a), b in zip(ours.state_dict().items(), again.state_dict().values()):
        assert b.dtype == torch.float32, name
        assert torch.equal(a.to(numbers).float(), b), name


@pytest.mark.parametrize("kind", ["rope_type", "type"])
def test_other_ways_to_stretch_are_refused(tmp_path, tokenizer, kind):
    """Old files say "type", newer ones "rope_type"."""
    bundle.save(tmp_path, llama(), tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config["rope_scaling"] = {kind: "linear", "factor": 2.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="'linear'"):
        bundle.load(tmp_path)


def test_a_tied_head_may_be_saved_once_more(tmp_path, tokenizer):
    bundle.save(tmp_path, llama(), tokenizer)
    path = tmp_path / "model.safetensors"
    weights = read_weights(path)
    embedding = weights["model.embed_tokens.weight"]
    write_weights(path, weights | {"lm_head.weight": embedding.clone()})
    assert torch.equal(bundle.load(tmp_path).model.tokens.weight, embedding)
    write_weights(path, weights | {"lm_head.weight": embedding + 1})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight should be"):
        bundle.load(tmp_path)


def test_a_folder_of_gpt2_from_the_hub(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    sizes = {"n_positions": 32, "n_layer": 2, "n_head": 2, "n_embd": 16}
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=260, eos_token_id=0, bos_token_id=0, **sizes)
    ).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    found = bundle.load(tmp_path)
    assert (found.family, found.template, found.stop_tokens) == ("gpt2", None, {0, 2})
    row = torch.arange(10)
    with torch.no_grad():
        got = found.model.eval().logits(found.model(row, Ragged([10])))
        torch.testing.assert_close(got, theirs(row[None]).logits[0], atol=1e-4, rtol=0)


def test_a_template_of_its_own_goes_before_the_one_in_the_config(tmp_path):
    config = {"chat_template": "old", "eos_token": {"content": "<|im_end|>", "lstrip": False}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    from hornbook.interop.turns import read_template

    assert read_template(tmp_path) == ChatTemplate("old", {"eos_token": "<|im_end|>"})
    (tmp_path / "chat_template.jinja").write_text("new")
    assert read_template(tmp_path).source == "new"
    (tmp_path / "chat_template.jinja").unlink()
    config["chat_template"] = [
        {"name": "tool_use", "template": "tools"},
        {"name": "default", "template": "plain"},
    ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    both = read_template(tmp_path)
    assert (both.source, both.with_tools) == ("plain", "tools")


@pytest.mark.parametrize("said", [2, [1, 2]])
def test_ends_are_what_the_files_say_of_special_tokens(tmp_path, tokenizer, said):
    bundle.save(tmp_path, llama(), tokenizer)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": said}))
    known = {0, 2}  # by their names
    assert bundle.load(tmp_path).stop_tokens == known | set(said if said != 2 else [])
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": 77}))
    assert bundle.load(tmp_path).stop_tokens == known  # 77 is a letter


@pytest.mark.parametrize(
    ("file", "content", "match"),
    [
        ("tokenizer_config.json", "{", "tokenizer_config.json is not JSON"),
        ("generation_config.json", "[]", "is not a JSON object"),
        ("config.json", '{"model_type": "llama"}', "does not say 'hidden_size'"),
        ("config.json", "[]", "does not say what the model is"),
        ("config.json", '{"model_type": "mamba"}', "holds a 'mamba'"),
    ],
)
def test_broken_files_are_named(tmp_path, tokenizer, file, content, match):
    bundle.save(tmp_path, llama(), tokenizer)
    (tmp_path / file).write_text(content)
    with pytest.raises(CheckpointError, match=match):
        bundle.load(tmp_path)


@pytest.mark.parametrize("size", ["hidden_size", "num_attention_heads", "num_hidden_layers"])
@pytest.mark.parametrize("value", [0, -1, "32", None, 7.5])
def test_sizes_that_are_none_are_refused(tmp_path, tokenizer, size, value):
    bundle.save(tmp_path, llama(), tokenizer)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {size: value}))
    with pytest.raises(CheckpointError):
        bundle.load(tmp_path)


def test_models_by_name(tmp_path, tokenizer, monkeypatch):
    """A path, a run of this folder, what lies in the cache; and nothing outside of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    bundle.save(tmp_path / "runs" / "mine" / "model", llama(), tokenizer)
    bundle.save(tmp_path / "home" / "models" / "me--small", llama(n_layers=1), tokenizer)
    folder = tmp_path / "home" / "models" / "as-gguf"
    folder.mkdir()
    write_gguf(folder / "any.gguf", llama(n_layers=3), tokenizer, name="any")
    for name, n_layers in [("mine", 2), ("me/small", 1), ("as-gguf", 3), ("runs/mine", 2)]:
        opened = bundle.open_model(name)
        assert (opened.name, opened.model.config.n_layers) == (name, n_layers)
    bundle.save(tmp_path / "elsewhere", llama(), tokenizer)
    monkeypatch.chdir(tmp_path / "home")
    with pytest.raises(UnknownNameError, match="'elsewhere'"):
        bundle.open_model("elsewhere")


def test_a_gpt_reads_back_after_training_saves_it(tmp_path, tokenizer):
    """The first weights that are not drawn when a model is opened are all read."""
    torch.manual_seed(0)
    ours = GPT(GPTConfig(260, 32, n_layers=1, n_heads=2, d_model=16, d_ff=32))
    bundle.save(tmp_path, ours, tokenizer)
    again = bundle.load(tmp_path).model.state_dict()
    assert all(torch.equal(a, again[name]) for name, a in ours.state_dict().items())


def test_what_the_hub_gave_before_opens_offline(tmp_path, tokenizer, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    cache, commit = tmp_path / "hub" / "models--me--fetched", "0123456789abcdef" * 2 + "01234567"
    bundle.save(cache / "snapshots" / commit, llama(n_layers=1), tokenizer)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    (cache / "blobs").mkdir()
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert fetched() == {"me/fetched": cache / "snapshots" / commit}
    assert bundle.open_model("me/fetched").model.config.n_layers == 1
