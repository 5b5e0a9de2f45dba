"""An encoder-decoder trained on pairs: learnt, stopped and resumed, opened by others, refused."""

from __future__ import annotations

import random

import pytest
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.files import sha256
from hornbook.generation.translate import translate
from hornbook.recipes import training_run
from hornbook.recipes.first_pairs import first_pairs
from hornbook.records import Metrics, RunSummary
from hornbook.reports.training import write_training_report

ENGLISH = ["one", "two", "three", "four", "five", "six", "red", "green", "blue"]
GERMAN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "rot", "grün", "blau"]
TINY = {
    "family": "seq2seq",
    "data": "",
    "vocab_size": 330,
    "depth": 1,
    "d_model": 32,
    "n_heads": 2,
    "batch_size": 4,
    "context_length": 48,
    "steps": 12,
    "evaluations": 3,
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


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng, path = random.Random(0), tmp_path_factory.mktemp("data") / "pairs.tsv"
    rows = [[rng.randrange(9) for _ in range(rng.randint(1, 5))] for _ in range(400)]
    lines = [
        "\t".join(" ".join(words[i] for i in row) for words in (ENGLISH, GERMAN)) for row in rows
    ]
    path.write_text("\n".join(["source\ttarget", *lines, ""]), encoding="utf-8")
    return path


def run(table, folder, stop_after=None, **settings) -> RunSummary:
    listener = Quiet(stop_after)
    asked = training_run.asked_for(TINY | {"data": str(table)} | settings)
    listener.session = training_run.open_new(asked, folder, listener)
    return listener.session.carry_out(listener, command="test")


@pytest.fixture(scope="module")
def learnt(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    run(table, folder, steps=100, evaluations=2, lr=0.01, lr_embedding=0.01, warm_up=0.1)
    return folder


def test_it_beats_counting_the_targets_and_says_what_it_writes(learnt):
    summary = RunSummary.model_validate_json((learnt / "summary.json").read_bytes())
    counted = min(summary.referees, key=lambda referee: referee.loss)
    assert counted.name.endswith("targets alone")
    assert summary.best_validation_loss < 0.8 * counted.loss
    assert any("of the places" in note for note in summary.corpus.notes)
    metrics = Metrics.from_lines((learnt / "metrics.jsonl").read_text())
    assert metrics.steps[-1].tokens == summary.n_tokens
    source, written, meant = metrics.evaluations[-1].sample.split("\n")
    assert source.split()[0] in ENGLISH and written.startswith("→") and meant.startswith("(meant")
    assert abs(summary.n_tokens / summary.plan.n_tokens - 1) < 0.1
    assert "targets alone" in write_training_report(learnt).read_text()


def test_transformers_opens_it_and_writes_the_same(learnt):
    import torch
    from transformers import MarianMTModel

    opened = bundle.load(learnt)
    sources = ["two red", "blue one four"]
    ours = translate(opened.model, opened.tokenizer, sources, max_tokens=30)
    assert ours[0] and ours[0] != ours[1]
    theirs = MarianMTModel.from_pretrained(learnt / "model").eval()
    end = opened.tokenizer.id_of("<|endoftext|>")
    for source, expected in zip(sources, ours):
        ids = torch.tensor([[*opened.tokenizer.encode([source], special=False)[0], end]])
        found = theirs.generate(ids, max_new_tokens=30, num_beams=1, do_sample=False)[0]
        assert opened.tokenizer.decode(found.tolist()) == expected
    with pytest.raises(ConfigError, match="the model reads 48"):
        translate(opened.model, opened.tokenizer, ["one " * 60], max_tokens=5)


def test_more_beams_from_the_command_line(learnt):
    """`generate --beams` searches, and finds what transformers' beams find."""
    import torch
    from transformers import MarianMTModel

    words = ["generate", str(learnt), "two red", "--beams", "3", "-n", "20"]
    said = CliRunner().invoke(app, words).stdout
    opened = bundle.load(learnt)
    ids = [*opened.tokenizer.encode(["two red"], special=False)[0]]
    theirs = MarianMTModel.from_pretrained(learnt / "model").eval()
    end = opened.tokenizer.id_of("<|endoftext|>")
    row = theirs.generate(torch.tensor([[*ids, end]]), num_beams=3, max_new_tokens=20)[0]
    assert said.strip() == opened.tokenizer.decode(row.tolist())


def test_peek_shows_pairs_of_the_first_batch(learnt):
    """The decoder is given the target moved by one; all of it carries the same loss."""
    shown = first_pairs(learnt, n_rows=2)
    assert len(shown.pairs) == 2 <= shown.n_pairs
    for pair in shown.pairs:
        words = "".join(pair.source[:-1]).split()
        assert set(words) <= set(ENGLISH) and pair.source[-1] == "<|endoftext|>"
        german = "".join(place.target_text for place in pair.places[:-1]).split()
        assert german == [GERMAN[ENGLISH.index(word)] for word in words]
        assert pair.places[0].text == pair.places[-1].target_text == "<|endoftext|>"
        assert [p.text for p in pair.places[1:]] == [p.target_text for p in pair.places[:-1]]
        assert {p.weight for p in pair.places} == {1 / shown.n_targets}
    assert first_pairs(learnt, seed=5).pairs != shown.pairs
    told = CliRunner().invoke(app, ["data", "peek", str(learnt), "--rows", "1"]).stdout
    assert "pair 1:" in told and "pair 2:" not in told and "carries no loss" in told


def test_stopped_and_resumed_is_never_stopped(table, tmp_path):
    run(table, tmp_path / "whole", dropout=0.1)
    stopped = run(table, tmp_path / "parts", stop_after=7, dropout=0.1)
    assert stopped.status == "interrupted" and stopped.n_steps == 7
    listener = Quiet()
    resumed = training_run.reopen(tmp_path / "parts", listener, {})
    assert resumed.carry_out(listener, command="").status == "finished"
    for name in ("checkpoints/step-00000012/optimizer.safetensors", "model/model.safetensors"):
        assert sha256(tmp_path / "whole" / name) == sha256(tmp_path / "parts" / name), name


def test_resuming_refuses_other_pairs(table, tmp_path):
    copy = tmp_path / "pairs.tsv"
    copy.write_text(table.read_text())
    run(copy, tmp_path / "run", stop_after=5)
    copy.write_text(copy.read_text().replace("red", "read"))
    with pytest.raises(CheckpointError, match="fingerprint"):
        training_run.reopen(tmp_path / "run", Quiet(), {})


def test_micro_batches_change_nothing_but_rounding(table, tmp_path):
    whole = run(table, tmp_path / "one")
    parts = run(table, tmp_path / "two", micro_batch_size=1)
    assert parts.best_validation_loss == pytest.approx(whole.best_validation_loss, abs=1e-4)


def test_what_is_too_long_is_left_out_and_said_and_the_context_follows_the_pairs(table):
    asked = training_run.asked_for(TINY | {"data": str(table), "context_length": None})
    prepared, settings = training_run.settle(asked)
    assert prepared.longest <= settings.context_length < prepared.longest + 8
    short = training_run.asked_for(TINY | {"data": str(table), "context_length": 4})
    few, _ = training_run.settle(short)
    assert len(few.train.ends) < len(prepared.train.ends)
    assert any("more than 4 tokens and were left out" in note for note in few.corpus.notes)
    with pytest.raises(DataError, match="no pair"):
        training_run.settle(
            training_run.asked_for(TINY | {"data": str(table), "context_length": 1})
        )
    with pytest.raises(ConfigError, match="for the family 'seq2seq'"):
        training_run.asked_for({"data": str(table), "source": "source"})


def test_the_plan_counts_long_sources_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("source,target\n" + "".join(f"{'word ' * 30}{i},{i}\n" for i in range(60)))
    prepared, settings = training_run.settle(
        training_run.asked_for(TINY | {"data": str(path), "steps": None, "epochs": 2})
    )
    plan = training_run.plan_of(settings, prepared)
    n_tokens = len(prepared.train) + len(prepared.sources[0])
    assert plan.n_tokens == pytest.approx(n_tokens, rel=0.1)  # two epochs of half of them
    assert plan.context_length > 2 * len(prepared.train) / len(prepared.train.ends)


def test_one_batch_is_learnt_by_heart(table, tmp_path):
    settings = TINY | {"data": str(table), "lr": 0.01, "lr_embedding": 0.01}
    session = training_run.open_new(training_run.asked_for(settings), tmp_path / "run", Quiet())
    assert session.training.memorise().loss < 0.05
