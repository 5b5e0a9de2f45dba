"""`hornbook serve` as its user meets it: what it refuses, that it answers, that it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys

import httpx
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models

from hornbook import bundle
from hornbook.cli import main, serve
from hornbook.compare.predictor import save_model
from hornbook.compare.sources import Source
from hornbook.compare.techniques.majority import Majority
from hornbook.data.examples import Problem
from hornbook.errors import ConfigError, HornbookError
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.serving.app import create_app
from hornbook.serving.listening import bind, in_thread
from hornbook.tasks.decision import Decision
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.tokenizer import Tokenizer


@pytest.fixture
def hornbook(monkeypatch, capsys):
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hornbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        return int(end.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model of bytes with random weights."""
    path = tmp_path_factory.mktemp("models") / "bytes"
    rust = RustTokenizer(models.BPE(vocab={c: i for i, c in enumerate(ALPHABET)}, merges=[]))
    tokenizer = Tokenizer(byte_level(rust))
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_ff": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1}
    config = LlamaConfig(vocab_size=tokenizer.vocab_size, context_length=128, **sizes)
    bundle.save(path, Llama(config), tokenizer)
    return path


def test_what_cannot_be_served_is_said_before_a_model_is_opened(hornbook, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a-key-for-this-test-0123\n")
    keys.chmod(0o644)
    schema = tmp_path / "schema.json"
    schema.write_text("[1, 2]")
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        refused = {
            ("--host", "0.0.0.0"): "API key",
            ("--api-key-file", tmp_path / "none"): "cannot be read",
            ("--api-key-file", keys): "chmod 600",
            ("--port", port): f"port {port} on 127.0.0.1 is in use",
            ("--refuse", tmp_path / "none"): "cannot be read",
            ("--schema", schema): "no JSON object",
        }
        for options, why in refused.items():
            code, errors = hornbook("serve", tmp_path / "no-model", *options)
            assert code == 2, errors
            assert why in errors and "hint" in errors and "a-key" not in errors
    code, errors = hornbook("serve", tmp_path / "no-model", "--port", 0)
    assert code != 0 and "no model" in errors


def test_a_missing_extra_says_how_to_get_it(hornbook, monkeypatch):
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    code, errors = hornbook("serve")
    assert code == 1 and "pip install 'hornbook[serve]'" in errors


def test_models_have_names_of_their_own(folder):
    served = serve.open_models([str(folder), f"other={folder}"], n_slots=2, n_open=4)
    assert [entry.name for entry in served] == ["bytes", "other"]
    served.close()
    with pytest.raises(ConfigError, match="two models are called 'bytes'"):
        serve.open_models([str(folder), f"{folder}/"], n_slots=2, n_open=4)


def test_only_what_writes_embeds_or_classifies_is_served(tmp_path):
    for content in ('{"model_type": "no-such-family"}', "broken"):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(HornbookError):
            serve.open_models([str(tmp_path)], n_slots=2, n_open=4)


@pytest.mark.parametrize("impatient", [False, True])
def test_it_answers_until_a_signal_and_ends_well(folder, impatient):
    command = [sys.executable, "-m", "hornbook.cli.main", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        url = None
        while url is None:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            url = re.search(r"http://[\d.]+:\d+", line)
        ask = {"model": "bytes", "prompt": "the secret prompt", "max_tokens": 5}
        answer = httpx.post(f"{url[0]}/v1/completions", json=ask, timeout=30)
        assert answer.json()["usage"]["completion_tokens"] == 5
        refused = httpx.get(f"{url[0]}/v1/models", headers={"host": "evil.example"}, timeout=30)
        assert refused.status_code == 403
        process.send_signal(signal.SIGTERM)  # Ctrl-C is the same to it
        if impatient:
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "POST /v1/completions 200" in errors and "secret" not in errors
    assert "Traceback" not in errors


def test_a_saved_technique_classifies(tmp_path):
    scores = np.tile(np.array([[0.7, 0.3]], np.float32), (40, 1))
    targets = np.eye(2, dtype=bool)[[0] * 28 + [1] * 12]
    decision = Decision.fit(scores, targets, multi_label=False, seed=0)
    source, problem = Source("majority", "majority"), Problem(("ham", "spam"), False, {})
    save_model(tmp_path / "mail", Majority(scores[0]), decision, source, problem)
    served = serve.open_models([str(tmp_path / "mail")], n_slots=2, n_open=4)
    with in_thread(create_app(served)) as url:
        ask = {"model": "mail", "input": "buy now"}
        (row,) = httpx.post(f"{url}/v1/classify", json=ask, timeout=30).json()["data"]
    assert row["predicted"] == ["ham"]
    assert [label["label"] for label in row["labels"]] == ["ham", "spam"]
    assert sum(label["score"] for label in row["labels"]) == pytest.approx(1)


def test_an_encoder_embeds(minilm):
    served = serve.open_models(["minilm"], n_slots=2, n_open=4)
    with in_thread(create_app(served)) as url:
        ask = {"model": "minilm", "input": ["a cat", "a kitten", "tax law"]}
        found = httpx.post(f"{url}/v1/embeddings", json=ask, timeout=60).json()
    cat, kitten, law = (np.array(row["embedding"]) for row in found["data"])
    assert cat @ kitten > cat @ law and cat @ cat == pytest.approx(1, abs=1e-3)
    assert found["usage"]["prompt_tokens"] == 12
