"""Checkpoints: a killed run ends with the bits of one never killed; damage is seen and skipped."""

from __future__ import annotations

import copy
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hornbook.errors import CheckpointError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of
from hornbook.training.checkpoints import best_checkpoint, latest_checkpoint, save_checkpoint
from hornbook.training.optimizers import muon_and_adamw

CONFIG = GPTConfig(40, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32)
FILES = ["model.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"]
BATCH = collate([[1, 2, 3, 4, 5, 6, 7], [3, 9, 12]])


def _model(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    model = LanguageModel(GPT(config))
    return model, muon_and_adamw(model.named_parameters())


def _step(model, optimizer):
    loss_of(model, BATCH).total.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture
def run(tmp_path):
    """A folder with checkpoints of steps 1 to 3, and the model and optimiser after the third."""
    model, optimizer = _model()
    for step in (1, 2, 3):
        _step(model, optimizer)
        save_checkpoint(tmp_path, step, model, optimizer, {"at": step}, keep=5)
    return tmp_path, model, optimizer


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_is_loaded_goes_on_as_what_was_saved(run):
    folder, model, optimizer = run
    expected = (torch.rand(3), random.random(), np.random.rand())
    other, resumed = _model(seed=5)
    checkpoint = latest_checkpoint(folder)
    assert (checkpoint.step, checkpoint.state, checkpoint.skipped) == (3, {"at": 3}, ())
    checkpoint.load_into(other, resumed)
    found = (torch.rand(3), random.random(), np.random.rand())
    assert torch.equal(found[0], expected[0]) and found[1:] == expected[1:]
    for pair in ((model, optimizer), (other, resumed)):
        _step(*pair)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


def test_weights_alone_leave_the_random_state(run):
    folder, model, _ = run
    other, _ = _model(seed=5)
    before = torch.get_rng_state()
    latest_checkpoint(folder).load_into(other)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters()))


def _cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_a_damaged_one_is_passed_over_and_said(run, name, damage):
    folder, _, _ = run
    damage(folder / "step-00000003" / name)
    checkpoint = latest_checkpoint(folder)
    assert checkpoint.step == 2
    assert len(checkpoint.skipped) == 1 and "step-00000003" in checkpoint.skipped[0]


def test_all_damaged_is_an_error_and_none_is_none(run, tmp_path):
    folder, _, _ = run
    for place in folder.iterdir():
        _cut(place / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"every checkpoint .* damaged.*step-00000001"):
        latest_checkpoint(folder)
    assert latest_checkpoint(tmp_path / "nothing here") is None


def test_the_newest_and_the_best_stay(tmp_path):
    model, optimizer = _model()
    for step, score in enumerate([3.0, 1.0, 2.0, float("nan"), 2.5], 1):
        save_checkpoint(tmp_path, step, model, optimizer, {}, score=score, keep=2)
    assert _names(tmp_path) == ["step-00000002", "step-00000004", "step-00000005"]
    assert best_checkpoint(tmp_path).step == 2
    _flip(tmp_path / "step-00000002" / "model.safetensors")
    best = best_checkpoint(tmp_path)
    assert best.step == 5 and "step-00000002" in best.skipped[0]


def test_without_scores_there_is_no_best(run):
    folder, model, optimizer = run
    assert best_checkpoint(folder) is None
    save_checkpoint(folder, 4, model, optimizer, {}, keep=1)
    assert _names(folder) == ["step-00000004"]


def test_a_full_disk_leaves_the_earlier_ones(run):
    folder, model, optimizer = run
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        with pytest.raises(CheckpointError, match="step 4 could not be written"):
            save_checkpoint(folder, 4, model, optimizer, {}, keep=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert _names(folder) == ["step-00000001", "step-00000002", "step-00000003"]
    assert latest_checkpoint(folder).step == 3


def test_leftovers_of_a_killed_save_are_no_checkpoints_and_go(run):
    folder, model, optimizer = run
    shutil.copytree(folder / "step-00000003", folder / ".step-00000009.x1.part")
    assert latest_checkpoint(folder).step == 3
    save_checkpoint(folder, 4, model, optimizer, {}, keep=5)
    assert not list(folder.glob(".step*"))


def test_another_model_is_refused_with_the_differences(run):
    folder, _, _ = run
    checkpoint = latest_checkpoint(folder)
    wider, optimizer = _model(GPTConfig(40, 16, n_layers=1, n_heads=2, d_model=16, d_ff=48))
    before = copy.deepcopy(wider.state_dict())
    with pytest.raises(CheckpointError) as error:
        checkpoint.load_into(wider, optimizer)
    assert "trunk.blocks.1.attention.qkv.weight" in str(error.value)
    assert "(32, 16) for (48, 16)" in str(error.value)
    assert all(torch.equal(before[name], x) for name, x in wider.state_dict().items())
    same, _ = _model()
    fewer = muon_and_adamw([(n, p) for n, p in same.named_parameters() if "norm" not in n])
    with pytest.raises(CheckpointError, match="trains other parameters"):
        checkpoint.load_into(same, fewer)


def test_tied_weights_are_kept_once_and_stay_tied(tmp_path):
    model = torch.nn.Sequential(torch.nn.Embedding(8, 4), torch.nn.Linear(4, 8, bias=False))
    model[1].weight = model[0].weight
    optimizer = torch.optim.AdamW(model.parameters())
    save_checkpoint(tmp_path, 1, model, optimizer, {})
    saved = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.zero_()
    latest_checkpoint(tmp_path).load_into(model)
    assert torch.equal(model[1].weight, saved)


def _kill(folder, n_kills, seed):
    script = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(script), str(folder), str(n_kills), str(seed)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    last = "step-00000120"
    for name in [*FILES, "manifest.json"]:
        whole, killed = ((folder / kind / last / name).read_bytes() for kind in ("whole", "killed"))
        assert whole == killed, f"{name} differs after kills at {told}"
    assert not list((folder / "killed").glob(".step*"))
    return told


def test_a_killed_run_ends_with_the_same_bits(tmp_path):
    told = _kill(tmp_path, n_kills=4, seed=0)
    assert sum(told["killed"].values()) >= 3 and told["killed"]["while writing"] >= 1
    assert max(told["steps"]) > 0  # it was resumed from a checkpoint


@pytest.mark.long
def test_a_run_killed_twenty_times_ends_with_the_same_bits(tmp_path):
    told = _kill(tmp_path, n_kills=20, seed=1)
    assert sum(told["killed"].values()) >= 19 and told["killed"]["while writing"] >= 9
