"""`hornbook data check` names what is wrong, and shows which tokens get loss."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.text.byte_level import ALPHABET
from hornbook.text.chatml import END, with_chatml
from hornbook.text.tokenizer import Tokenizer


@pytest.fixture
def talks(tmp_path):
    rows = [
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]},
        {"messages": [{"role": "assistant", "content": "first"}]},
    ]
    path = tmp_path / "talks.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["data", "check", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_it_names_what_is_wrong(talks):
    said = run(talks)
    assert "1 conversations, read as messages" in said
    assert f"{talks}, line 2: message 1 is of assistant at the beginning" in said
    assert "assistant: yes" in said
    assert json.loads(run(talks, "--json"))["problems"][0]["code"] == "roles"


def test_it_shows_what_gets_loss(talks, tmp_path):
    rust = RustTokenizer(BPE({letter: i for i, letter in enumerate(ALPHABET)}, []))
    rust.pre_tokenizer, rust.decoder = ByteLevel(add_prefix_space=False), Decoder()
    tokenizer, template = with_chatml(Tokenizer(rust))
    torch.manual_seed(0)
    model = Llama(LlamaConfig(tokenizer.vocab_size, 64, 1, 2, 16, 24, tied_head=True))
    ends = {tokenizer.control_ids[END]}
    bundle.save(tmp_path / "m", model, tokenizer, template=template, stop_tokens=ends)
    said = run(talks, "--model", tmp_path / "m")
    assert "<|im_start|>assistant\n[[yes<|im_end|>]]" in said
    assert "4 carry loss" in said
    (shown,) = json.loads(run(talks, "--model", tmp_path / "m", "--json"))["conversations"]
    assert [part["token"] for part in shown if part["loss"]] == ["y", "e", "s", END]
