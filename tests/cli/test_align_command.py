"""hornbook align and finetune choose, from a file to a run that others open."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.adaptation_tables import show_run
from hornbook.cli.finetune import settled
from hornbook.cli.main import app
from hornbook.cli.train import pairs
from hornbook.errors import ConfigError, UnknownNameError
from hornbook.models.heads import SequenceClassifier
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.recipes.adaptation_opening import checked_options
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.adapted import open_task
from hornbook.recipes.kinds import KINDS
from hornbook.records import AdaptSummary, MetricRecord
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.train import train_tokenizer

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = ("text", "user", "plain", "system")


def hornbook(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random Llama that chats, pairs of a kind and a rude answer, questions with options."""
    folder = tmp_path_factory.mktemp("align")
    text = "a plain text, user, assistant, system. dear fool where is the " * 20
    tokenizer = train_tokenizer(
        "bpe", lambda: [text], 330, special=("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    )
    torch.manual_seed(0)
    config = LlamaConfig(len(tokenizer.tokens), 64, n_layers=2, n_heads=2, d_model=16, d_ff=24)
    model = Llama(config)
    bundle.save(
        folder / "model", model, tokenizer, template=ChatTemplate(TURNS), stop_tokens=[1, 2]
    )
    pairs = [
        {"prompt": f"where is {i} the {w}", "chosen": f"{w} a dear", "rejected": f"{w} a fool"}
        for i, w in enumerate(WORDS * 8)
    ]
    questions = [
        {"context": f"the {w} {i}", "options": ["dear", "a fool"], "answer": i % 2}
        for i, w in enumerate(WORDS * 8)
    ]
    for name, rows in (("pairs", pairs), ("questions", questions)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


OPTIONS = ("--steps", 6, "--set", "lr=0.02", "--set", "tokens_per_step=400", "--set",
           "evaluations=2", "--set", "precision=float32", "--json", "--quiet")  # fmt: skip


def run_of(folder, loss, *more, data="pairs.jsonl", command="align"):
    out = folder / loss
    printed = hornbook(command, loss, "--model", folder / "model", "--data", folder / data,
                       "--out", out, *OPTIONS, *more)  # fmt: skip
    return out, json.loads(printed)


@pytest.mark.parametrize(
    ("task", "given"),
    [
        ("dpo", "beta=two"),
        ("reward", "margin=[1]"),
        ("embed", "sizes=64"),
        ("translate", "n_beams=two"),
        ("tag", "aggregation=last"),
        ("answer", "stride=1.5"),
    ],
)
def test_a_tasks_setting_of_another_type_is_refused(task, given):
    name, value = given.split("=")
    settings = AdaptSettings(task=task, model="m", data="d", **settled([f"{name}={value}"]))
    with pytest.raises(ConfigError, match=f"{name} is '?{re.escape(value)}'?: .*") as refused:
        checked_options(KINDS.load(task), settings)
    assert f"--set {name}=... takes: " in refused.value.hint


def test_numbers_are_numbers_without_a_point():
    found = pairs(["a=5e-2", "b=-1E3", "c=[1e-1, 2]", "d=5e", "e=1e-2x", "f=3", "g=0.5"])
    assert found == {
        "a": 0.05, "b": -1000.0, "c": [0.1, 2], "d": "5e", "e": "1e-2x", "f": 3, "g": 0.5
    }  # fmt: skip
    options = settled(["beta=1", "smoothing=1e-1"])
    settings = AdaptSettings(task="dpo", model="m", data="d", **options)
    assert checked_options(KINDS.load("dpo"), settings) == {"beta": 1.0, "smoothing": 0.1}


@pytest.mark.parametrize("task", KINDS)
def test_the_settings_of_every_task_have_types(task):
    settings = AdaptSettings(task=task, model="m", data="d")
    assert checked_options(KINDS.load(task), settings) == {}


def test_the_loss_is_shown_once(capsys):
    made = AdaptSummary.model_construct(
        n_validation=4, metrics_before={"loss": 2.0}, best_validation_loss=1.0, best="loss",
        metrics=[MetricRecord(name="loss", value=1.0, low=0.9, high=1.1)], reading=None,
        status="finished", seconds=1.0, n_steps=3, best_step=None, message="", n_test=None,
    )  # fmt: skip
    show_run(Path("none"), made, False, "finetune")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("loss")]
    assert len(shown) == 1 and shown[0].split()[1:] == "2.0000 1.0000 0.9000 to 1.1000".split()  # noqa: SIM905


@pytest.mark.parametrize(("n_before", "told"), [(None, False), (40, True), (400, False)])
def test_what_was_measured_before_on_fewer_examples_is_said(n_before, told, capsys):
    made = AdaptSummary.model_construct(
        n_validation=400, n_before=n_before, metrics_before={"loss": 2.0}, reading=None,
        best_validation_loss=1.0, best="loss", metrics=[], status="finished", seconds=1.0,
        n_steps=3, best_step=None, message="", n_test=None,
    )  # fmt: skip
    show_run(Path("none"), made, False, "finetune")
    said = capsys.readouterr().out
    assert ('"before" was measured on 40 of them, from all over' in said) == told


def test_dpo_from_a_file_to_a_run(folder):
    out, summary = run_of(folder, "dpo", "--set", "beta=0.2")
    found = {m["name"]: m["value"] for m in summary["metrics"]}
    assert found.keys() == {"accuracy", "reward accuracy", "margin", "kl"}
    assert found["reward accuracy"] == 1 and found["margin"] > 0.1 and found["kl"] > 0
    assert summary["metrics_before"]["reward accuracy"] == 0.5
    assert summary["metrics_before"]["kl"] == pytest.approx(0, abs=1e-4)
    assert (out / "adapter" / "adapter_config.json").is_file()
    lines = (out / "validation.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["prediction"]["n_chosen"] > 0
    opened = open_task(out)
    assert opened.task.beta == 0.2 and isinstance(opened.model, Llama)
    items = opened.task.items(opened.task.open_data(str(folder / "pairs.jsonl"), {}, seed=0).test)
    # The base is opened by its name, so that the divergence is known of a run that lies on disk.
    assert {"chosen", "kl"} <= opened.task.predict(opened.model, items)[0].keys()


def test_a_reward_model_is_kept_with_its_head(folder):
    out, summary = run_of(folder, "reward")
    assert summary["metrics"][0]["name"] == "accuracy"
    assert isinstance(open_task(out).model, SequenceClassifier)
    config = json.loads((out / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert config["id2label"] == {"0": "reward"}
    pair = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()][3]
    told = hornbook(
        "run", "reward", out, pair["prompt"], pair["rejected"], pair["chosen"], "--json"
    )
    best, other = json.loads(told)["answers"]
    assert best["answer"] == pair["chosen"] and best["reward"] > other["reward"]


def test_all_weights_may_learn_beside_a_copy(folder):
    _, summary = run_of(folder, "ipo", "--method", "full", "--set", "lr=0.003")
    found = {m["name"]: m["value"] for m in summary["metrics"]}
    assert found["kl"] > 0 and found["reward accuracy"] == 1


def test_choosing_is_a_task_of_finetune(folder):
    out, summary = run_of(folder, "choose", data="questions.jsonl", command="finetune")
    assert [m["name"] for m in summary["metrics"]] == ["acc_norm", "acc"]
    assert open_task(out).task.name == "choose"


def test_masks_show_the_answers(folder):
    shown = hornbook("align", "dpo", "--model", folder / "model", "--data", folder / "pairs.jsonl",
                     "--show-masks")  # fmt: skip
    assert "chosen: " in shown and "rejected: " in shown and "carry loss" in shown


def test_what_is_wrong_is_said(folder):
    with pytest.raises(UnknownNameError, match="no loss 'dpoo'"):
        hornbook("align", "dpoo", "--model", folder / "model", "--data", folder / "pairs.jsonl")
    with pytest.raises(ConfigError, match="which loss"):
        hornbook("align", "--model", folder / "model")
    with pytest.raises(UnknownNameError, match="dpo has no setting 'tau'"):
        run_of(folder, "dpo", "--set", "tau=1", "--out", folder / "nothing")
