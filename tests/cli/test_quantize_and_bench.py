"""`hornbook quantize`, `bench` and `plan memory`, as a user meets them."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook import bundle
from hornbook.cli import main
from hornbook.errors import CheckpointError
from hornbook.evaluation.writing_memory import writing_memory
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.slots import SlotCache
from hornbook.quantization import weights
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

CONFIG = LlamaConfig(
    vocab_size=257, context_length=128, n_layers=2, n_heads=4, d_model=64, d_ff=128, tied_head=True
)


@pytest.fixture
def hornbook(monkeypatch, capsys, tmp_path):
    """Run a command in a folder of its own; gives exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hornbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    vocabulary = {token: i for i, token in enumerate([END_OF_TEXT, *ALPHABET])}
    rust = byte_level(RustTokenizer(models.BPE(vocab=vocabulary, merges=[])))
    (tmp_path / "text.txt").write_text("It was a bright cold day in April. " * 400)
    bundle.save(tmp_path / "model", Llama(CONFIG), Tokenizer(rust))
    return tmp_path / "model"


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_folder_is_the_model_that_was_measured(hornbook, folder, tmp_path, bits):
    code, out, err = hornbook(
        "quantize", folder, "--bits", bits, "--out", "small", "--text", "text.txt", "--json",
        "--tokens", 1024,
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert found["after"]["bytes"] < 0.4 * found["before"]["bytes"]
    assert found["n_tokens"] == 1024
    before, after = found["before"]["perplexity"], found["after"]["perplexity"]
    assert before["low"] <= before["value"] <= before["high"]
    change = after["value"] / before["value"] - 1
    assert found["perplexity_change"]["share"] == pytest.approx(change, abs=1e-6)
    assert abs(change) < 0.02
    opened = bundle.open_model(str(tmp_path / "small"))
    assert weights.is_quantized(opened.model)
    model = bundle.load(folder).model
    weights.attach(model, bits)
    ids = torch.arange(40)
    state = opened.model.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in model.state_dict().items())
    with torch.inference_mode():  # a file's tensors lie otherwise: float sums may differ in a bit
        expected, found_now = (m.logits(m(ids, Ragged([40]))) for m in (model, opened.model))
    assert (found_now - expected).abs().max() < 0.02 * expected.abs().max()
    n_bytes = sum(t.nbytes for t in opened.model.state_dict().values())
    assert found["after"]["bytes"] == n_bytes
    assert (tmp_path / "small" / "model.safetensors").stat().st_size < n_bytes + 8192

    code, _, err = hornbook("quantize", folder, "--out", "small", "--text", "text.txt")
    assert code and "--overwrite" in err
    code, _, err = hornbook("quantize", "small", "--out", "smaller", "--text", "text.txt")
    assert code and "already" in err
    code, out, err = hornbook("bench", "generate", "small", "--tokens", 4, "--prompt", 32, "--json")
    assert code == 0, err
    assert json.loads(out)["decode"] > 0 and json.loads(out)["n_prompt"] == 32


def test_a_damaged_quantised_folder_is_refused(folder, tmp_path):
    opened = bundle.load(folder)
    weights.attach(opened.model, 8)
    bundle.save(tmp_path / "small", opened.model, opened.tokenizer)
    path = tmp_path / "small" / "model.safetensors"
    tensors = load_file(path)
    save_file({name: t for name, t in tensors.items() if "layers.1.qkv" not in name}, path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.qkv\.scales"):
        bundle.load(tmp_path / "small")
    config = tmp_path / "small" / "config.json"
    config.write_text(config.read_text().replace('"bits": 8', '"bits": 5'))
    with pytest.raises(CheckpointError, match="bits is 5"):
        bundle.load(tmp_path / "small")


def test_memory_is_counted_from_shapes(hornbook, folder):
    model = Llama(CONFIG).eval()
    for bits in (32, 8, 4):
        if bits < 32:
            weights.attach(model, bits)
        held = dict(model.named_buffers()) | model.state_dict(keep_vars=True)
        once = {id(t): t.nbytes for t in held.values()}
        planned = writing_memory(Llama, CONFIG, bits=bits, context=100, batch=3)
        assert planned.weights == sum(once.values())
        weights.detach(model)
    cache = SlotCache(3, 100)
    with torch.inference_mode():
        for slot in range(3):
            model(torch.zeros(100, dtype=torch.long), cache.read([slot], [100]))
    assert planned.cache == cache.n_bytes
    code, out, _ = hornbook(
        "plan", "memory", folder, "--bits", 4, "--context", 100, "--batch", 3, "--json", "--train"
    )
    found = json.loads(out)
    assert code == 0 and (found["weights"], found["cache"]) == (planned.weights, planned.cache)
    assert found["train"] > 16 * found["parameters"]
    assert found["rule_of_thumb"] == round(found["parameters"] * 0.5 * 1.2)
    code, _, err = hornbook("plan", "memory", folder, "--context", 129)
    assert code and "128" in err
    code, out, _ = hornbook("plan", "memory", "--params", "13e9", "--json")
    assert json.loads(out)["rule_of_thumb"] == 31_200_000_000


def test_the_device_is_timed(hornbook):
    code, out, _ = hornbook("bench", "device")
    assert code == 0
    for name in ("products in float32", "products in int8", "memory", "attention", "step"):
        assert name in out
