"""The exported folder has what vLLM reads: it can't run here, so its reader is asked what it needs.

vLLM reads a folder by transformers' configuration, tokenizer and generation settings, and takes
weights by the names that transformers' own model of that configuration has.
"""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.text.chat_template import ChatTemplate

transformers = pytest.importorskip("transformers")
made = runpy.run_path(str(Path(__file__).parents[1] / "interop" / "test_gguf.py"))
MESSAGES = [{"role": "user", "content": "the horn"}, {"role": "assistant", "content": "is thin"}]


@pytest.fixture(scope="module", params=["llama", "llama, tied", "gpt2"])
def exported(request, tmp_path_factory) -> tuple[Path, bundle.Bundle]:
    """A small model with a template, through the command line."""
    run, out = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("out") / "exported"
    template = ChatTemplate(made["TEMPLATE"], {"eos_token": "<|im_end|>"})
    tokenizer = made["byte_tokenizer"]()
    ends = {tokenizer.control_ids["<|im_end|>"]}
    bundle.save(run, made["tiny"](request.param), tokenizer, template=template, stop_tokens=ends)
    done = CliRunner().invoke(app, ["export", str(run), "--out", str(out), "--numbers", "bf16"])
    assert done.exit_code == 0, done.output
    return out, bundle.load(run)


def test_config_and_weights_are_of_a_model_that_vllm_has(exported):
    folder, _ = exported
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.architectures in (["LlamaForCausalLM"], ["GPT2LMHeadModel"])
    assert config.dtype == torch.bfloat16  # --dtype auto takes this
    with torch.device("meta"):
        wanted = transformers.AutoModelForCausalLM.from_config(config)
    # GPT-2's folders on the hub leave out the first part of the names, and vLLM puts it back.
    optional = "transformer." if config.model_type == "gpt2" else ""
    shapes = {n.removeprefix(optional): tuple(t.shape) for n, t in wanted.state_dict().items()}
    if config.tie_word_embeddings:
        del shapes["lm_head.weight"]
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        assert (file.metadata() or {}).get("format") == "pt"
    assert found == shapes
    assert kinds == {"BF16"}


def test_the_tokenizer_lays_out_a_conversation_as_we_do(exported):
    folder, opened = exported
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=False)
    assert opened.template is not None
    assert list(theirs) == opened.template.encode(MESSAGES, opened.tokenizer)


def test_answers_end_where_ours_do(exported):
    folder, opened = exported
    ends = transformers.GenerationConfig.from_pretrained(folder).eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    assert ends == opened.stop_tokens != set()
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    length = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["model_max_length"]
    assert length == opened.model.config.context_length
