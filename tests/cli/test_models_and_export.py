"""`hornbook models` and `hornbook export`, as a user meets them."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook import bundle
from hornbook.cli import main
from hornbook.models.bigram import Bigram, BigramConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.quantization import weights
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer


@pytest.fixture
def hornbook(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own; gives exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hornbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def run_folder(tmp_path):
    """A trained run that chats, and one that is a bigram."""
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate([END_OF_TEXT, *ALPHABET])}
    rust = byte_level(RustTokenizer(models.BPE(vocab=vocabulary, merges=[])))
    rust.add_special_tokens([END_OF_TEXT])
    config = LlamaConfig(257, 32, n_layers=1, n_heads=2, d_model=32, d_ff=32, tied_head=True)
    chats = tmp_path / "runs" / "chats"
    bundle.save(
        chats / "model",
        Llama(config),
        Tokenizer(rust),
        template=ChatTemplate("{{ messages[0].content }}"),
        stop_tokens=[0],
    )
    bundle.save(tmp_path / "runs" / "pairs" / "model", Bigram(BigramConfig(257)), Tokenizer(rust))
    return chats


def test_models_are_listed_with_where_they_are(hornbook, run_folder, tmp_path):
    damaged = tmp_path / "runs" / "damaged" / "model"
    damaged.mkdir(parents=True)
    (damaged / "config.json").write_text("{")
    code, out, _ = hornbook("models", "--json")
    found = {one["name"]: one for one in json.loads(out)}
    assert code == 0
    assert {"minilm", "smollm2-135m-instruct", "chats", "pairs", "damaged"} <= found.keys()
    kinds = {name: one["kind"] for name, one in found.items()}
    assert kinds["minilm"] == "encoder" and kinds["smollm2-135m-instruct"] == "chat"
    assert (kinds["chats"], kinds["pairs"], kinds["damaged"]) == ("chat", "text", "damaged")
    assert found["chats"]["source"] == "runs/chats"
    _, table, _ = hornbook("models")
    assert "chats" in table and "LlamaForCausalLM" in table


@pytest.mark.parametrize("to", ["hf", "gguf"])
def test_what_is_exported_opens_with_the_same_logits(hornbook, run_folder, tmp_path, to):
    out = tmp_path / "out"
    code, shown, _ = hornbook("export", "chats", "--to", to, "--numbers", "f32", "--out", out)
    assert code == 0 and str(out) in shown
    first, again = bundle.load(run_folder), bundle.load(out)
    assert again.template.source == first.template.source
    assert again.stop_tokens == {0}
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


def test_a_folder_with_something_in_it_is_kept(hornbook, run_folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, _, err = hornbook("export", "chats", "--out", tmp_path / "out")
    assert code == 2 and "is not empty" in err
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"
    code, _, _ = hornbook("export", "chats", "--out", tmp_path / "out", "--overwrite")
    assert code == 0 and (tmp_path / "out" / "config.json").is_file()


def test_a_quantised_model_is_listed_and_not_exported(hornbook, run_folder, tmp_path):
    opened = bundle.load(run_folder)
    weights.attach(opened.model, 4, keep=False)
    bundle.save(tmp_path / "runs" / "small" / "model", opened.model, opened.tokenizer)
    listed = json.loads(hornbook("models", "--json")[1])
    assert {one["name"]: one["what"] for one in listed}["small"] == "LlamaForCausalLM in 4 bits"
    code, _, err = hornbook("export", "small", "--out", tmp_path / "out")
    assert code == 2 and "has been quantised" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chats", "--to", "hf", "--numbers", "q8_0"], "hf is not written with q8_0"),
        (["chats", "--to", "gguf", "--numbers", "bf16"], "gguf is not written with bf16"),
        (["pairs", "--to", "hf"], "transformers has no model of the family 'hornbook-bigram'"),
        (["pairs", "--to", "gguf"], "family 'hornbook-bigram' is not written as GGUF"),
        (["nothing"], "there is no model named 'nothing'"),
    ],
)
def test_what_cannot_be_is_said(hornbook, run_folder, tmp_path, arguments, said):
    code, _, err = hornbook("export", *arguments, "--out", tmp_path / "out")
    assert code == 2 and said in err and "hint:" in err
    assert not (tmp_path / "out").exists()
