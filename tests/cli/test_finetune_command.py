"""hornbook finetune, as a person types it, on a model and data made here."""

from __future__ import annotations

import json
import random

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import ConfigError, StudyError, TrainingError
from hornbook.models.bert import Bert, BertConfig
from hornbook.recipes.adapted import open_task
from hornbook.records import AdaptSummary, Metrics, PreflightRecord
from hornbook.text.train import train_tokenizer

WORDS = {
    "grain": "wheat corn rice barley oats rye".split(),  # noqa: SIM905
    "metal": "gold silver tin zinc copper lead".split(),  # noqa: SIM905
}
OTHERS = "prices of the rose fell today and were higher than in may report says".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a tiny encoder and a table of two kinds of texts."""
    folder = tmp_path_factory.mktemp("home")
    rng, rows = random.Random(0), []
    for i in range(160):
        label = ("grain", "metal")[i % 2]
        words = [*rng.sample(OTHERS, 4), *rng.sample(WORDS[label], 3)]
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    lines = "".join(f"{text},{label}\n" for text, label in rows)
    (folder / "news.csv").write_text("text,label\n" + lines)
    tokenizer = train_tokenizer("wordpiece", lambda: [t for t, _ in rows], 200)
    torch.manual_seed(0)
    model = Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64))
    bundle.save(folder / "tiny", model, tokenizer)
    return folder


def hornbook(*words, **options):
    result = CliRunner().invoke(app, [str(w) for w in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def finetune(home, *words):
    return hornbook(
        "finetune", "classify", "--model", home / "tiny", "--data", home / "news.csv",
        "--set", "lr=3e-3", "--set", "tokens_per_step=256", "--set", "evaluations=3", *words,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(home):
    told = finetune(home, "--steps", 40, "--out", home / "run")
    assert told.exit_code == 0
    return home / "run", told


def test_a_run_says_what_it_found_learnt_and_kept(run):
    folder, told = run
    for words in ("examples to learn from", "numbers learn", "memory", "before the first step"):
        assert words in told.stderr
    for words in (
        "before",
        "after",
        "95 % interval",
        "accuracy",
        "chosen by accuracy",
        "report.html",
    ):
        assert words in told.stdout
    summary = AdaptSummary.model_validate_json((folder / "summary.json").read_bytes())
    assert summary.status == "finished" and summary.n_steps == 40
    (accuracy,) = [m for m in summary.metrics if m.name == "accuracy"]
    assert accuracy.value > max(0.8, summary.metrics_before["accuracy"])
    assert accuracy.low <= accuracy.value <= accuracy.high
    assert PreflightRecord.model_validate_json((folder / "preflight.json").read_bytes()).plan
    assert "<html" in (folder / "report.html").read_text()
    card = (folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["model-index"][0]["results"][0]["dataset"]["split"] == "validation"
    assert "hornbook finetune" in card or "pytest" in card


def test_what_was_saved_predicts_what_the_run_says_it_predicts(run):
    folder, _ = run
    lines = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
    opened = open_task(folder)
    table = dict(
        line.rsplit(",", 1) for line in (folder.parent / "news.csv").read_text().splitlines()[1:]
    )
    parts = type(opened.task).open_data(str(folder.parent / "news.csv"), {}, seed=0)
    texts = {e.document.text: e for e in parts.validation}
    assert len(lines) == len(texts)
    items = opened.task.items(parts.validation)
    said = opened.task.predict(opened.model, items)
    for example, line, now in zip(parts.validation, lines, said, strict=True):
        assert line["target"] == [table[example.document.text]]
        assert line["prediction"]["label"] == now["label"]


def test_transformers_opens_it_with_its_head(run):
    transformers = pytest.importorskip("transformers")
    folder, _ = run
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "model")
    opened = open_task(folder)
    parts = type(opened.task).open_data(str(folder.parent / "news.csv"), {}, seed=0)
    item = opened.task.items(parts.validation[:1])[0]
    with torch.no_grad():
        logits = theirs(torch.tensor([item.tokens])).logits
        ours = opened.model(opened.task.collate([item]))
    torch.testing.assert_close(logits, ours, atol=1e-5, rtol=1e-4)
    assert list(theirs.config.id2label.values()) == ["grain", "metal"]


def test_a_dry_run_and_the_masks_write_nothing(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = finetune(home, "--dry-run")
    for words in ("preflight", "steps", "memory", "advice"):
        assert words in told.stdout
    plan = json.loads(finetune(home, "--dry-run", "--json", "--quiet").stdout)["plan"]
    assert plan["fits"] and plan["n_steps"] > 1
    masks = finetune(home, "--show-masks").stdout
    assert "carry loss" in masks and "⟦[CLS]→" in masks
    assert list(tmp_path.iterdir()) == []


def test_interrupted_and_resumed_is_uninterrupted(home, tmp_path, monkeypatch):
    """Stopped as Ctrl-C stops it; then --resume ends with the weights of a run in one piece."""
    from hornbook.recipes.adaptation_run import Session

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    how = ["--steps", 8, "--set", "dropout=0.1", "--method", "lora", "--set", "rank=4"]
    finetune(home, *how, "--out", whole, "--quiet")
    carry_out = Session.carry_out

    def stopped(self, listener, *, command):
        heard = listener.hear
        listener.hear = lambda step: (heard(step), self.stop() if step.step == 3 else None)
        return carry_out(self, listener, command=command)

    with monkeypatch.context() as patched:
        patched.setattr(Session, "carry_out", stopped)
        told = finetune(home, *how, "--out", parts)
    assert told.exit_code == 130 and f"--resume {parts}" in told.stdout
    hornbook("finetune", "--resume", parts, "--quiet")
    one, other = (Metrics.from_lines((f / "metrics.jsonl").read_text()) for f in (whole, parts))
    assert [s.loss for s in one.steps] == [s.loss for s in other.steps]
    weights = [(f / "model" / "model.safetensors").read_bytes() for f in (whole, parts)]
    assert weights[0] == weights[1]
    assert (parts / "adapter" / "adapter_config.json").is_file()
    with pytest.raises(StudyError, match="is finished"):
        hornbook("finetune", "--resume", parts)


def test_a_run_that_goes_astray_ends_with_what_was_good(home, tmp_path):
    folder = tmp_path / "astray"
    with pytest.raises(TrainingError, match="the loss of step"):
        finetune(home, "--steps", 9, "--set", "lr=1e30", "--quiet", "--out", folder)
    summary = AdaptSummary.model_validate_json((folder / "summary.json").read_bytes())
    assert summary.status == "failed" and "refused" in summary.message
    assert next((folder / "refused").glob("*/batch.safetensors"))
    opened = open_task(folder)
    assert summary.best_step == 0  # nothing learnt was better
    assert all(torch.isfinite(p).all() and p.abs().max() < 9 for p in opened.model.parameters())


def test_what_cannot_be_done_is_said(home, tmp_path):
    with pytest.raises(ConfigError, match="which model is not said"):
        hornbook("finetune", "classify", "--data", home / "news.csv")
    with pytest.raises(ConfigError, match="has a setting 'rnak'"):
        finetune(home, "--set", "rnak=3", "--dry-run")
    with pytest.raises(ConfigError, match="method"):
        finetune(home, "--method", "lorra", "--dry-run")
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").write_text("x")
    with pytest.raises(StudyError, match="not empty"):
        finetune(home, "--out", full)
    with pytest.raises(ConfigError, match="not name=COLUMN"):
        finetune(home, "--column", "text")
