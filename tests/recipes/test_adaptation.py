"""The loop that adapts a model to a task: what it keeps, where it goes on, when it stops."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_task
import torch
from safetensors.torch import load_file

from hornbook.adapters.methods import prepare
from hornbook.config import settings_from
from hornbook.data.item_batches import ItemBatches
from hornbook.errors import CheckpointError, TrainingError
from hornbook.evaluation.likelihood import mean_loss
from hornbook.nn.losses import LossSum
from hornbook.recipes.adaptation import Adaptation, adapt
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.rates import rate_of
from hornbook.records import EvaluationRecord, Metrics
from hornbook.training.checkpoints import latest_checkpoint
from hornbook.training.listeners import All, Lines


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")


def settings(**given) -> AdaptSettings:
    usual = {"task": "tiny", "model": "tiny", "data": "letters", "lr": 3e-3, "steps": 12}
    return settings_from(
        AdaptSettings, **(usual | {"tokens_per_step": 128, "evaluations": 3} | given)
    )


class Run:
    """One run over a fresh model: the same model, items and seed each time."""

    def __init__(self, folder, *, dropout=0.0, stop_after=None, spoil=None, **given) -> None:
        torch.manual_seed(0)
        self.task, self.model, self.folder = (
            tiny_task.Tiny(),
            tiny_task.Model(dropout=dropout),
            folder,
        )
        self.items = self.task.items(tiny_task.letters(120))
        self.held_out = self.task.items(tiny_task.letters(40, seed=1))
        self.settings, self.stop_after, self.heard = settings(**given), stop_after, 0
        if spoil is not None:
            loss, task = self.task.loss, self.task
            task.loss = lambda model, batch: spoil(self.heard, loss(model, batch))

    def validation(self) -> EvaluationRecord:
        batches = [self.task.collate(self.held_out)]
        loss, _ = mean_loss(self.model, self.task.loss, batches)
        return EvaluationRecord(step=0, tokens=0, seconds=0.0, validation_loss=loss)

    def hear(self, step) -> None:
        self.heard = step.step

    def hear_evaluation(self, evaluation) -> None:
        pass

    def go(self):
        listener = All([Lines(self.folder / "metrics.jsonl"), self])
        return adapt(
            self.model, self.task, self.items, self.validation, self.settings, self.folder,
            listener, stop=lambda: self.heard == self.stop_after,
        )  # fmt: skip

    @property
    def weights(self):
        return {name: x.clone() for name, x in self.model.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_keeps_the_best(tmp_path):
    run = Run(tmp_path, steps=60)
    progress = run.go()
    looks = Metrics.from_lines((tmp_path / "metrics.jsonl").read_text()).evaluations
    assert progress.status == "finished" and progress.step == 60
    assert looks[0].step == 0 and looks[0].validation_loss > 0.6
    assert progress.best_score == min(look.validation_loss for look in looks) < 0.35


@pytest.mark.parametrize("stop_after", [5, 8])
def test_a_run_stopped_and_resumed_ends_with_the_same_bits(tmp_path, stop_after):
    """Stopped between two evaluations (every 4 steps), and right behind one; dropout on."""
    whole = Run(tmp_path / "whole", dropout=0.2)
    whole.go()
    first = Run(tmp_path / "parts", dropout=0.2, stop_after=stop_after)
    assert first.go().status == "interrupted"
    second = Run(tmp_path / "parts", dropout=0.2)
    torch.rand(3)  # whatever a program did before
    assert second.go().step == 12
    assert same(whole.weights, second.weights)
    lines = [Metrics.from_lines((tmp_path / n / "metrics.jsonl").read_text()) for n in
             ("whole", "parts")]  # fmt: skip
    assert [s.loss for s in lines[0].steps] == [s.loss for s in lines[1].steps]
    assert [e.validation_loss for e in lines[0].evaluations] == [
        e.validation_loss for e in lines[1].evaluations
    ]


def test_epochs_of_unlike_numbers_of_batches_are_as_long_when_resumed(tmp_path):
    """Ragged texts come to other batches each time they are shuffled; the run's length stays."""
    usual = {"epochs": 3.0, "steps": None, "tokens_per_step": 38}
    whole = Run(tmp_path / "whole", **usual)
    n_batches = []
    lengths = [whole.task.length(item) for item in whole.items]
    for epoch in range(3):
        batches = ItemBatches(lengths, tokens_per_batch=38, seed=0)
        batches.restore(batches.state() | {"epoch": epoch})
        n_batches.append(batches.n_batches)
    stop_after = next(sum(n_batches[:e]) + 2 for e in (1, 2) if n_batches[e] != n_batches[0])
    n_steps = whole.go().step
    assert n_steps == 3 * n_batches[0]
    Run(tmp_path / "parts", stop_after=stop_after, **usual).go()
    again = Run(tmp_path / "parts", **usual)
    assert again.go().step == n_steps
    assert same(whole.weights, again.weights)


def test_a_killed_run_loses_nothing_that_was_kept(tmp_path):
    """SIGKILL after step 7: on from the checkpoint of step 4, to the same bits. All in processes of
    their own: what other tests did to this one is not what is asked."""

    def run(folder, killed_at: int) -> int:
        script = Path(__file__).with_name("killed_adaptation.py")
        words = [sys.executable, str(script), str(tmp_path / folder), str(killed_at)]
        return subprocess.run(words, timeout=250).returncode

    assert run("whole", 0) == 0
    assert run("parts", 7) == -9
    assert run("parts", 0) == 0
    whole, parts = (load_file(tmp_path / f / "weights.safetensors") for f in ("whole", "parts"))
    assert same(whole, parts)


def test_another_base_is_refused_when_a_run_goes_on(tmp_path):
    first = Run(tmp_path, stop_after=5)
    first.go()
    other = Run(tmp_path)
    with torch.no_grad():
        other.model.trunk.blocks[0].norm_1.weight += 1
    with pytest.raises(CheckpointError, match="other weights"):
        other.go()


@pytest.mark.parametrize("by", [{"tokens_per_step": 128}, {"examples_per_step": 10}])
def test_four_micro_batches_are_one(tmp_path, by):
    one, four = Run(tmp_path / "1", **by), Run(tmp_path / "4", micro_batches=4, **by)
    one.go(), four.go()
    for name, x in one.weights.items():
        torch.testing.assert_close(four.weights[name], x, atol=2e-5, rtol=1e-4)
    lines = [Metrics.from_lines((tmp_path / n / "metrics.jsonl").read_text()) for n in "14"]
    assert [s.tokens for s in lines[0].steps] == [s.tokens for s in lines[1].steps]


def test_only_what_learns_is_in_a_checkpoint_of_an_adapter_and_it_goes_on(tmp_path):
    def run(folder, **how):
        made = Run(folder, method="lora", **how)
        prepare(made.model, "lora", rank=2)
        return made

    whole = run(tmp_path / "whole")
    whole.go()
    run(tmp_path / "parts", stop_after=6).go()
    kept = load_file(next((tmp_path / "parts" / "checkpoints").glob("*6")) / "model.safetensors")
    assert "head.weight" in kept and not any("embeddings" in name for name in kept)
    again = run(tmp_path / "parts")
    again.go()
    assert same(whole.weights, again.weights)


def test_a_loss_that_is_no_number_ends_the_run_with_the_batch_kept(tmp_path):
    def spoil(step, loss):
        return LossSum(loss.total * math.nan, loss.n_targets) if step == 5 else loss

    run = Run(tmp_path, spoil=spoil)
    with pytest.raises(TrainingError, match="loss of step 6 is nan"):
        run.go()
    place = tmp_path / "refused" / "step-00000006"
    told = json.loads((place / "examples.json").read_text())
    batch = load_file(place / "batch.safetensors")
    assert len(batch["targets"]) == len(told) > 1
    assert set(told[0]["text"]) <= set("#ab")
    assert all(torch.isfinite(x).all() for x in run.model.state_dict().values())
    healthy = Run(tmp_path / "healthy", steps=12, stop_after=5)
    healthy.go()
    assert same(healthy.weights, run.weights)


def test_a_second_refusal_in_a_row_keeps_the_batch_and_the_steps_taken(tmp_path):
    """Step 6 has an infinite gradient, step 7 a loss that is no number: the loop gives up."""

    def spoil(step, loss):
        if step == 5 and loss.total.requires_grad:
            loss.total.register_hook(lambda gradient: gradient * math.inf)
        return LossSum(loss.total * math.nan, loss.n_targets) if step == 6 else loss

    run = Run(tmp_path, spoil=spoil)
    with pytest.raises(TrainingError, match="steps 5 and 6 were refused"):
        run.go()
    for step in (6, 7):
        place = tmp_path / "refused" / f"step-{step:08d}"
        assert json.loads((place / "examples.json").read_text())
    kept = latest_checkpoint(tmp_path / "checkpoints")
    assert kept.step == kept.state["progress"]["step"] == 7
    healthy = Run(tmp_path / "healthy", stop_after=5)
    healthy.go()
    saved = load_file(kept.folder / "model.safetensors")
    assert same({name: healthy.weights[name] for name in saved}, saved)


def test_the_best_weights_come_back_and_patience_ends_a_run(tmp_path):
    """The validation loss is made to rise from the second evaluation on."""
    run = Run(tmp_path, patience=2, evaluations=6)
    looks = iter([0.7, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8])
    kept = []

    def validation():
        kept.append(run.weights)
        return EvaluationRecord(step=0, tokens=0, seconds=0.0, validation_loss=next(looks))

    adaptation = Adaptation(run.model, run.task, run.items, validation, run.settings, run.folder)
    progress = adaptation.run(run)
    assert progress.status == "stopped early" and len(kept) == 4
    adaptation.take_best()
    assert same(run.weights, kept[1])
    assert not same(kept[1], kept[3])
    # Killed before its summary was written: resumed, it is still over, and nothing is looked at.
    again = Run(tmp_path, patience=2, evaluations=6)
    resumed = Adaptation(again.model, again.task, again.items, None, again.settings, again.folder)
    assert resumed.run(again).status == "stopped early"
    assert resumed.progress.step == progress.step and again.heard == 0


def test_rates_by_layer():
    model = tiny_task.Model()
    rate = rate_of(model, layer_decay=0.5, head=10.0)
    assert rate("head.weight") == 10.0
    assert rate("trunk.blocks.1.norm_1.weight") == 1.0
    assert rate("trunk.blocks.0.norm_1.weight") == 0.5
    assert rate("trunk.embeddings.tokens.weight") == 0.25
