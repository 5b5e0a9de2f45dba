"""Zero-shot by entailment as a row of a comparison; a tiny model of random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import hornbook as hb
from hornbook import bundle
from hornbook.cli.compare import chosen
from hornbook.compare.predictor import Predictor
from hornbook.compare.sources import Source, resolve, source_of
from hornbook.compare.technique import Budget, Context
from hornbook.compare.techniques import TECHNIQUES
from hornbook.compare.techniques.zero_shot_nli import ZeroShotNli, labels_in_words
from hornbook.data.examples import Document, Example, Labelled, Problem, TextDataset
from hornbook.errors import BudgetError, ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import HeadConfig, SequenceClassifier
from hornbook.recipes.apply import head_as_data, ready
from hornbook.recipes.kinds import KINDS
from hornbook.text.train import train_tokenizer

TEXT = "wheat and corn rose today while gold and tin fell. this text is about grain or metal."
PROBLEM = Problem(("grain", "metal"), False, {"grain": "what grows on a field."})
TEXTS = [Document(f"{thing} {way} today") for thing in ("wheat", "gold", "corn", "tin")
         for way in ("rose", "fell", "is")]  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with the models `nli` and `topics`, which knows no entailment."""
    folder = tmp_path_factory.mktemp("models")
    words = train_tokenizer("wordpiece", lambda: [TEXT] * 20, 160)
    config = BertConfig(words.vocab_size, 64, 2, 2, 32, 64)
    torch.manual_seed(0)
    heads = {"nli": ("contradiction", "entailment", "neutral"), "topics": ("grain", "metal")}
    for name, labels in heads.items():
        model = SequenceClassifier(Bert(config), HeadConfig(config, labels))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        bundle.save(folder / name, model, words)
    return folder


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


def labelled():
    targets = np.array([["wheat" in d.text or "corn" in d.text] for d in TEXTS])
    return Labelled(TEXTS, np.concatenate([targets, ~targets], axis=1))


def fitted(model, problem=PROBLEM, seconds=60.0):
    technique = ZeroShotNli()
    data = labelled()
    context = Context(problem, Budget(seconds), model=str(model))
    return technique, technique.fit(data.take(range(4)), data.take(range(4, 12)), context)


def logits(models, name):
    """What the model says of each text and a label, (N, 3), by the task of pairs."""
    say = ready("pairs", str(models / "nli"))
    sentence = f"This text is about {name}."
    rows = [{"first": d.text, "second": sentence} for d in TEXTS]
    return [{k: np.log(v) for k, v in one["probabilities"].items()} for one in say(rows)]


def test_a_score_is_what_the_model_says_of_the_sentence(models):
    technique, held_out = fitted(models / "nli", Problem(("grain", "metal"), True))
    assert held_out.rows.tolist() == list(range(4, 12))
    assert held_out.scores == pytest.approx(technique.scores(TEXTS[4:]), abs=1e-5)
    for column, name in enumerate(("grain", "metal")):  # of several labels: against contradiction
        found = [one["entailment"] - one["contradiction"] for one in logits(models, name)[4:]]
        assert held_out.scores[:, column] == pytest.approx(found, abs=5e-3)


def test_one_label_goes_by_entailment_and_comes_back_the_same(models, tmp_path):
    technique, held_out = fitted(models / "nli")
    several = fitted(models / "nli", Problem(PROBLEM.label_names, True))[1].scores
    assert np.abs(held_out.scores - several).max() > 0.01
    technique.save(tmp_path)
    loaded = ZeroShotNli.load(tmp_path)
    np.testing.assert_array_equal(loaded.scores(TEXTS), technique.scores(TEXTS))
    assert loaded.scores([]).shape == (0, 2)


def test_what_the_run_read_of_a_text_is_kept(models, tmp_path):
    """A run's task.json says how many tokens; without it the saved model would read others."""
    opened = bundle.load(models / "nli")
    task = KINDS.load("pairs").make(opened, head_as_data("pairs", opened), max_tokens=12)
    run = tmp_path / "run"
    bundle.save(run, opened.model, opened.tokenizer)
    (run / "task.json").write_text(json.dumps(task.card()), encoding="utf-8")
    (tmp_path / "saved").mkdir()
    technique, _ = fitted(run)
    technique.save(tmp_path / "saved")
    loaded = ZeroShotNli.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.scores(TEXTS), technique.scores(TEXTS))
    whole = fitted(models / "nli")[0].scores(TEXTS)
    assert np.abs(technique.scores(TEXTS) - whole).max() > 1e-3


def test_a_study_has_a_row_for_it(models, tmp_path):
    data = [
        Example(Document(f"{d.text} {i}"), (("metal", "grain")[int(grain)],), str(i))
        for i in range(5)
        for d, grain in zip(TEXTS, labelled().targets[:, 0], strict=True)
    ]
    study = hb.compare(
        TextDataset("things", data[:40], data[40:]),
        techniques=[f"zero-shot-nli={models / 'nli'}"],
        out=tmp_path / "run",
    )
    assert [row.technique for row in study.leaderboard] == ["zero-shot-nli"]
    assert f"zero-shot-nli={models / 'nli'}" in study.summary.command
    (folder,) = (tmp_path / "run" / "techniques" / "zero-shot-nli").glob("*/model")
    assert Predictor.open(folder).predict(["wheat rose"])[0] in ("grain", "metal")


def test_what_it_needs_is_said(models, tmp_path):
    for spec in ("zero-shot-nli", "zero-shot-nli="):
        with pytest.raises(ConfigError, match="needs a classifier of pairs") as caught:
            source_of(spec)
        assert "zero-shot-nli=runs/entail" in caught.value.hint
    with pytest.raises(ConfigError, match="is no classifier of pairs that has a label 'entail"):
        fitted(models / "topics")
    with pytest.raises(BudgetError, match=r"asking about 2 labels of 8 texts takes about \d+ s"):
        fitted(models / "nli", seconds=0.0)
    mine = tmp_path / "mine.py"
    mine.write_text("class Mine:\n    name = 'zero-shot-nli'\n")
    with pytest.raises(ConfigError, match="like a technique that is built in"):
        source_of(f"{mine}:Mine")


def test_it_runs_where_it_is_named_and_joins_the_others(tmp_path, monkeypatch):
    assert [source.name for source in resolve(())] == list(TECHNIQUES)
    assert chosen("", ["zero-shot-nli=m"]) == [*TECHNIQUES, "zero-shot-nli=m"]
    assert chosen("lora,zero-shot-nli=m", []) == ["lora", "zero-shot-nli=m"]
    names = [source.name for source in resolve(["ensemble", "zero-shot-nli=m", "lora"])]
    assert names == ["lora", "zero-shot-nli", "ensemble"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "m").mkdir(parents=True)
    source = source_of("zero-shot-nli=m")  # found from any folder
    assert source == Source("zero-shot-nli", f"zero-shot-nli={tmp_path / 'runs' / 'm'}")
    assert source.model == str(tmp_path / "runs" / "m") and not source.is_file


def test_labels_are_put_in_words():
    problem = Problem(("money-fx", "HUM"), False, {"HUM": "a person."})
    assert labels_in_words(problem) == ["money fx", "HUM: a person"]
