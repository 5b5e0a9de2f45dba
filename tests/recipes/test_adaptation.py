"""The loop that adapts a model to a task: what it keeps, where it goes on, when it stops."""

from __future__ import annotations

import pytest
import tiny_task
import torch

from hornbook.config import settings_from
from hornbook.evaluation.likelihood import mean_loss
from hornbook.recipes.adaptation import adapt
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.records import EvaluationRecord, Metrics
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
