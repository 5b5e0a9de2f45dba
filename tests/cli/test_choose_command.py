"""hornbook finetune, evaluate and run choose with an encoder, from a file to what it says."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import ConfigError, HornbookError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import ChoiceScorer
from hornbook.recipes.adapted import open_task
from hornbook.text.train import train_tokenizer

WORDS = ("text", "user", "plain", "system")


def hornbook(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_an_encoder_learns_to_choose_and_is_opened_again(tmp_path):
    tokenizer = train_tokenizer("wordpiece", lambda: ["a dear fool text user plain system"] * 9, 80)
    torch.manual_seed(0)
    model = Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 48))
    bundle.save(tmp_path / "base", model, tokenizer)
    questions = [
        {"context": f"{w} {w} {a}", "options": ["dear", "fool", a][: 2 + i % 2], "answer": i % 2}
        for i, (w, a) in enumerate((w, a) for w in WORDS * 2 for a in WORDS)
    ]
    data, out = tmp_path / "q.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row) + "\n" for row in questions))
    with pytest.raises(ConfigError, match="noise before it is taught"):
        hornbook("evaluate", tmp_path / "base", "--task", "choose", "--data", data, "--on", "test",
                 "--out", tmp_path / "never")  # fmt: skip
    summary = json.loads(
        hornbook(
            "finetune",
            "choose",
            "--model",
            tmp_path / "base",
            "--data",
            data,
            "--out",
            out,
            "--method",
            "lora",
            "--steps",
            4,
            "--set",
            "examples_per_step=4",
            "--set",
            "evaluations=1",
            "--set",
            "precision=float32",
            "--json",
            "--quiet",
        )
    )
    assert [m["name"] for m in summary["metrics"]] == ["acc"]
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["architectures"] == ["BertForMultipleChoice"]
    assert isinstance(open_task(out).model, ChoiceScorer)
    found = json.loads(hornbook("evaluate", out, "--on", "test", "--json"))
    assert found["metrics"][0]["name"] == "acc" and found["look"] == 1
    asked = ("run", "choose", out, "text user", "--option", "dear", "--option", "fool")
    said = json.loads(hornbook(*asked, "--json"))
    assert sum(one["probability"] for one in said["options"]) == pytest.approx(1, abs=1e-3)
    assert f"→ {said['choice']}" in hornbook(*asked)
    with pytest.raises(HornbookError, match="zero-shot"):  # marks of options are no likelihoods
        hornbook("run", "zero-shot", out / "model", "text user", "--label", "dear,fool")
