"""Broken, foreign and incomplete checkpoints are refused with all that is wrong."""

from __future__ import annotations

import json

import pytest
import torch

from hornbook.errors import CheckpointError, UnavailableError, UnknownNameError
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert, read_weights, save_bert, write_weights
from hornbook.models.bert import Bert, BertConfig


@pytest.fixture
def folder(tmp_path):
    save_bert(tmp_path, Bert(BertConfig(50, 8, n_layers=1, n_heads=2, d_model=8, d_ff=16)))
    return tmp_path


def test_every_problem_is_listed(folder):
    path = folder / "model.safetensors"
    weights = read_weights(path)
    weights["stranger"] = torch.zeros(3)
    del weights["encoder.layer.0.output.dense.bias"]
    weights["embeddings.LayerNorm.bias"] = torch.zeros(9)
    write_weights(path, weights)
    with pytest.raises(CheckpointError) as caught:
        load_bert(folder)
    for wrong in ("unexpected stranger", "missing encoder.layer.0.output.dense.bias", "(9,)"):
        assert wrong in str(caught.value)


def test_a_cut_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="whole safetensors file"):
        load_bert(folder)


def test_garbage_is_not_weights(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not tensors at all")
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        read_weights(path)


def test_another_family_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "t5"}))
    with pytest.raises(CheckpointError, match="'t5', not a 'bert'"):
        load_bert(folder)


def test_a_missing_folder_is_not_a_model(tmp_path):
    with pytest.raises(UnknownNameError, match="minilmm"):
        find_model("minilmm")


def test_offline_says_what_works(tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path))
    with pytest.raises(UnavailableError) as caught:
        find_model("owner/some-model")
    assert "tfidf-svm" in caught.value.hint


def test_a_name_cannot_leave_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    outside = tmp_path / "home" / "outside"
    outside.mkdir(parents=True)
    (outside / "config.json").write_text("{}")
    with pytest.raises(Exception, match=r"outside|no model named"):
        find_model("..")
