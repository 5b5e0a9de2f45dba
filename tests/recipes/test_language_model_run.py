"""A training run as a folder: from settings to a model that writes, stopped, resumed, refused."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from hornbook import bundle
from hornbook.config import settings_from
from hornbook.errors import CheckpointError, ConfigError, DataError, StudyError
from hornbook.files import sha256
from hornbook.recipes import training_run
from hornbook.recipes.dial import Asked, derived, resolve
from hornbook.records import Metrics, RunSummary

TINY = {
    "depth": 1,
    "d_model": 16,
    "context_length": 16,
    "batch_size": 4,
    "steps": 12,
    "evaluations": 3,
    "data": "",
}


class Quiet:
    """A listener that hears everything and can end a run after a number of steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after, self.session = stop_after, None

    def begin(self, plan) -> None:
        self.plan = plan

    def hear(self, step) -> None:
        if step.step == self.stop_after:
            self.session.training.stop()

    def hear_evaluation(self, evaluation) -> None:
        pass

    def end(self, summary) -> None:
        pass


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{i} green bottles, hanging on the wall.\n" for i in range(120)))
    return path


def run(text, folder, stop_after=None, **settings) -> RunSummary:
    listener = Quiet(stop_after)
    asked = training_run.asked_for(TINY | {"data": str(text)} | settings)
    listener.session = training_run.open_new(asked, folder, listener)
    return listener.session.carry_out(listener, command="test")


def resume(folder, **given) -> RunSummary:
    listener = Quiet()
    return training_run.reopen(folder, listener, given).carry_out(listener, command="test")


def test_a_run_keeps_settings_curves_model_and_summary(text, tmp_path):
    summary = run(text, tmp_path / "run")
    assert summary.status == "finished" and summary.n_steps == 12
    assert json.loads((tmp_path / "run/summary.json").read_text())["n_steps"] == 12
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["d_model"] == 16
    metrics = Metrics.from_lines((tmp_path / "run/metrics.jsonl").read_text())
    assert [step.step for step in metrics.steps] == list(range(1, 13))
    losses = [look.validation_loss for look in metrics.evaluations]
    assert summary.best_validation_loss == min(losses) == losses[-1] < losses[0]
    assert {"2-gram, Witten-Bell", "7-gram, Kneser-Ney"} <= {r.name for r in summary.referees}
    opened = bundle.load(tmp_path / "run")
    assert opened.family == "nanochat" and opened.model.config.d_model == 16


@pytest.mark.parametrize("family", ["bigram", "gpt2", "llama", "bert", "modern-bert"])
def test_every_family_learns_and_opens_again(text, tmp_path, family):
    summary = run(text, tmp_path / "run", family=family, steps=20, n_heads=2, vocab_size=200)
    metrics = Metrics.from_lines((tmp_path / "run/metrics.jsonl").read_text())
    assert metrics.steps[-1].loss < metrics.steps[0].loss
    assert summary.n_parameters > 0
    bundle.load(tmp_path / "run")


def test_a_modern_encoder_may_have_alibi(text, tmp_path):
    options = {"positions": "alibi", "steps": 3, "evaluations": 1, "tokenizer": "character"}
    run(text, tmp_path / "run", family="modern-bert", n_heads=2, **options)
    assert bundle.load(tmp_path / "run").model.trunk.config.positions == "alibi"
    with pytest.raises(ConfigError, match="positions of one kind"):
        run(text, tmp_path / "gpt", **options)


def test_the_same_settings_make_the_same_model(text, tmp_path):
    weights = []
    for name in ("one", "two"):
        run(text, tmp_path / name)
        weights.append(sha256(tmp_path / name / "model/model.safetensors"))
    run(text, tmp_path / "three", seed=1)
    weights.append(sha256(tmp_path / "three" / "model/model.safetensors"))
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_stopped_and_resumed_is_never_stopped(text, tmp_path, family):
    options = {"family": family, "vocab_size": 200, "n_heads": 2}
    run(text, tmp_path / "whole", **options)
    stopped = run(text, tmp_path / "parts", stop_after=7, **options)
    assert stopped.status == "interrupted" and stopped.n_steps == 7
    assert resume(tmp_path / "parts").status == "finished"
    for name in ("checkpoints/step-00000012/optimizer.safetensors", "model/model.safetensors"):
        assert sha256(tmp_path / "whole" / name) == sha256(tmp_path / "parts" / name), name


def test_half_a_line_in_the_metrics_does_not_end_a_resumed_run(text, tmp_path):
    run(text, tmp_path / "run", stop_after=5)
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"kind":"step","st')
    assert resume(tmp_path / "run").status == "finished"


def test_a_damaged_checkpoint_is_passed_over_and_said(text, tmp_path):
    run(text, tmp_path / "run", stop_after=9)
    newest = max((tmp_path / "run/checkpoints").glob("step-*"))
    (newest / "model.safetensors").write_bytes(b"torn")
    session = training_run.reopen(tmp_path / "run", Quiet(), {})
    assert len(session.skipped) == 1 and newest.name in session.skipped[0]
    assert session.carry_out(Quiet(), command="").status == "finished"


@pytest.mark.parametrize("family", ["gpt", "bert"])
def test_micro_batches_change_nothing_but_rounding(text, tmp_path, family):
    options = {"family": family, "tokenizer": "character"}
    whole = run(text, tmp_path / "one", **options)
    parts = run(text, tmp_path / "two", micro_batch_size=1, **options)
    assert parts.best_validation_loss == pytest.approx(whole.best_validation_loss, abs=1e-4)


def test_on_counts_it_beats_the_counts_at_once(text, tmp_path, monkeypatch):
    compared, real = [], training_run.read_curves

    def read(metrics, **options):
        compared.append(options["alike"])
        return real(metrics, **options)

    monkeypatch.setattr(training_run, "read_curves", read)
    summary = run(text, tmp_path / "run", counting=True, steps=6)
    alone = run(text, tmp_path / "alone", steps=6)
    assert summary.best_validation_loss < 0.5 * alone.best_validation_loss
    assert summary.model == "gpt on counts"
    assert compared == [False, True], "its training leaves out a fold, which validation does not"
    bundle.load(tmp_path / "run")


def test_resuming_refuses_other_settings_and_other_data(text, tmp_path):
    run(text, tmp_path / "run", stop_after=5)
    with pytest.raises(ConfigError, match="steps is 12, asked for 20"):
        resume(tmp_path / "run", steps=20)
    text.write_text(text.read_text().replace("bottles", "battles"))
    with pytest.raises(CheckpointError, match="fingerprint"):
        resume(tmp_path / "run")


def test_resuming_refuses_other_validation_data(text, tmp_path):
    run(text, tmp_path / "run", stop_after=5)
    words = text.read_text()
    text.write_text(words[:-200] + words[-200:].replace("bottles", "battles"))
    with pytest.raises(CheckpointError, match="validation data are others"):
        resume(tmp_path / "run")


def test_a_resumed_runs_energy_is_that_of_its_parts(text, tmp_path, monkeypatch):
    first = run(text, tmp_path / "run", stop_after=5)
    rows = (tmp_path / "run/emissions.csv").read_text()
    whole = resume(tmp_path / "run")
    assert (tmp_path / "run/emissions.csv").read_text().startswith(rows)
    assert first.energy_kwh < whole.energy_kwh and first.emissions_kg < whole.emissions_kg


def test_an_interrupted_run_says_that_its_loss_is_of_a_sample(text, tmp_path, monkeypatch):
    for module in ("language_model", "training_run"):
        monkeypatch.setattr(f"hornbook.recipes.{module}.SAMPLED", 160)
    stopped = run(text, tmp_path / "run", stop_after=8)
    assert "of a sample of 160" in stopped.message
    assert not resume(tmp_path / "run").message


def test_an_interrupted_run_in_parts_keeps_its_last_weights_not_its_best(text, tmp_path):
    """What processes that share a model would put together again, from a checkpoint."""
    listener = Quiet(stop_after=8)
    asked = training_run.asked_for(TINY | {"data": str(text), "evaluations": 4, "sharded": True})
    session = listener.session = training_run.open_new(asked, tmp_path / "run", listener)
    session.carry_out(listener, command="")
    training = session.training
    last = [p.clone() for p in training.objective.model.parameters()]
    training.accelerator = type("Two", (), {"num_processes": 2})
    for status, same in (("interrupted", True), ("finished", False)):
        rebuilt = training.whole(status).model.parameters()
        assert all(map(torch.equal, rebuilt, last)) == same


def test_any_tokenizer_trained_here_has_what_an_encoder_hides_behind(text, tmp_path):
    run(text, tmp_path / "run", family="bert", tokenizer="bpe", vocab_size=300, steps=2)
    assert bundle.load(tmp_path / "run").tokenizer.id_of("[MASK]") == 4
    run(text, tmp_path / "gpt", steps=2)
    with pytest.raises(ConfigError, match=r"no token \[MASK\](.|\n)*wordpiece"):
        run(text, tmp_path / "no", family="bert", tokenizer=str(tmp_path / "gpt"))
    assert not (tmp_path / "no").exists()


def test_the_plan_of_a_network_on_counts_has_the_counts(text):
    settled = [
        training_run.settle(
            training_run.asked_for(TINY | {"data": str(text), "counting": counting})
        )
        for counting in (False, True)
    ]
    alone, counted = (training_run.plan_of(s, prepared) for prepared, s in settled)
    assert alone.memory.counts == 0 < counted.memory.counts
    assert counted.memory.total >= alone.memory.total + counted.memory.counts


def test_a_finished_run_or_a_full_folder_is_not_written_over(text, tmp_path):
    run(text, tmp_path / "run")
    before = sha256(tmp_path / "run/model/model.safetensors")
    with pytest.raises(StudyError, match="not empty"):
        run(text, tmp_path / "run")
    with pytest.raises(StudyError, match="finished"):
        resume(tmp_path / "run")
    assert sha256(tmp_path / "run/model/model.safetensors") == before


def test_an_unknown_country_is_refused_before_a_folder_is_made(text, tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_COUNTRY", "XX")
    with pytest.raises(ConfigError, match="XX"):
        run(text, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_said(text, tmp_path):
    with pytest.raises(ConfigError, match="multiple of n_heads"):
        run(text, tmp_path / "a", n_heads=3)
    with pytest.raises(ConfigError, match="there is no setting named 'dept'"):
        run(text, tmp_path / "b", dept=3)
    with pytest.raises(ConfigError, match="give one"):
        run(text, tmp_path / "c", time="5s")
    with pytest.raises(DataError, match="fewer than one window"):
        run(text, tmp_path / "d", context_length=50_000)
    left = [name for name in "abcd" if (tmp_path / name).exists()]
    assert not left, "a folder was claimed for a run that never began"


def test_the_dial_decides_what_is_left_open_and_says_so():
    asked = settings_from(Asked, data="x", depth=6, lr=0.5)
    settings = resolve(asked, vocab_size=70, n_tokens=10**6, tokenizer="character")
    assert settings.d_model == 384 and settings.n_layers == 6 and settings.n_heads == 6
    assert settings.lr == 0.5
    decided = derived(asked, settings)
    assert decided["d_model"] == 384 and "lr" not in decided and "depth" not in decided


def test_a_run_on_shards_is_resumed_and_repeated(text, tmp_path):
    from hornbook.data.corpus import open_corpus
    from hornbook.data.shard_writer import shard_corpus
    from hornbook.text.train import train_tokenizer

    corpus = open_corpus(str(text))
    shard_corpus(corpus, tmp_path / "shards", train_tokenizer("character", corpus.train))
    run(tmp_path / "shards", tmp_path / "run", stop_after=5)
    assert resume(tmp_path / "run").status == "finished"
    run(tmp_path / "shards", tmp_path / "whole")
    config = training_run.asked_for({}, tmp_path / "run" / "config.yaml")
    again = training_run.open_new(config, tmp_path / "again", Quiet())
    again.carry_out(Quiet(), command="")
    sums = {sha256(tmp_path / n / "model/model.safetensors") for n in ("run", "whole", "again")}
    assert len(sums) == 1


def test_a_config_repeats_and_refuses_what_it_has_decided(text, tmp_path):
    run(text, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    assert training_run.asked_for({"time": "9s"}, config).steps is None
    with pytest.raises(ConfigError, match="depth would change"):
        training_run.asked_for({"depth": 8}, config)


def test_a_preset_brings_all_its_sizes_and_says_when_others_are_asked():
    asked = settings_from(Asked, data="x", family="gpt2", preset="gpt2")
    settings = resolve(asked, vocab_size=50257, n_tokens=10**7, tokenizer="gpt2")
    assert (settings.n_layers, settings.d_model, settings.context_length) == (12, 768, 1024)
    assert "depth" not in derived(asked, settings), "its sizes do not follow from the dial"
    other = settings_from(Asked, data="x", family="gpt2", preset="gpt2", d_model=64)
    with pytest.raises(ConfigError, match="d_model 768, not 64"):
        resolve(other, vocab_size=50257, n_tokens=10**7, tokenizer="gpt2")


def test_the_last_word_is_of_the_kept_model_on_the_whole_text(text, tmp_path, monkeypatch):
    monkeypatch.setattr("hornbook.recipes.language_model.SAMPLED", 160)
    summary = run(text, tmp_path / "run", evaluations=3)
    metrics = Metrics.from_lines((tmp_path / "run/metrics.jsonl").read_text())
    assert metrics.final is not None and metrics.final.step == summary.best_step
    assert summary.best_validation_loss == metrics.final.validation_loss
    assert len(metrics.evaluations) >= 3, "the looks on the way stay as they were"
    assert not any(look.final for look in metrics.evaluations)
