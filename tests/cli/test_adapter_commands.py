"""An adapter's folder as a model, as a person types it: run, evaluate, finetune."""

from __future__ import annotations

import json
import random
import shutil

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.adapters import lora
from hornbook.cli.main import app
from hornbook.errors import CheckpointError, ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.recipes.adapted import open_task
from hornbook.text.train import train_tokenizer

WORDS = {"grain": ["wheat", "corn", "rice"], "metal": ["gold", "tin", "zinc"]}
OTHERS = ["prices", "rose", "fell", "today", "report", "says"]


def hornbook(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    rng, lines = random.Random(0), []
    for i in range(80):
        label = ("grain", "metal")[i % 2]
        words = [*rng.sample(OTHERS, 3), *rng.sample(WORDS[label], 2)]
        lines.append(f"{' '.join(rng.sample(words, 5))},{label}")
    (folder / "news.csv").write_text("\n".join(["text,label", *lines]))
    tokenizer = train_tokenizer("wordpiece", lambda: lines, 120)
    torch.manual_seed(0)
    model = Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64))
    bundle.save(folder / "base", model, tokenizer)
    made = finetune(folder, folder / "base", "run", "--steps", 12)
    assert made.exit_code == 0
    return folder


def finetune(home, model, out, *words):
    return hornbook(
        "finetune", "classify", "--model", model, "--data", home / "news.csv", "--method", "lora",
        "--set", "lr=1e-2", "--set", "tokens_per_step=256", "--set", "evaluations=1",
        "--out", home / out, "--quiet", *words,
    )  # fmt: skip


def test_an_adapter_says_what_the_merged_model_says(home):
    asked = ("gold fell today", "wheat rose today", "--json")
    merged = hornbook("run", "classify", home / "run" / "model", *asked)
    alone = hornbook("run", "classify", home / "run" / "adapter", *asked)
    assert alone.exit_code == 0 and "probabilities" in alone.stdout
    assert alone.stdout == merged.stdout


def test_an_adapter_whose_merged_model_was_removed_is_evaluated(home, tmp_path):
    run = shutil.copytree(home / "run", tmp_path / "run", ignore=shutil.ignore_patterns("model"))
    told = hornbook("evaluate", run / "adapter", "--on", "validation")
    assert told.exit_code == 0 and "accuracy" in told.stdout


def test_an_adapter_is_evaluated_and_learns_on(home):
    told = hornbook("evaluate", home / "run" / "adapter", "--on", "validation")
    assert told.exit_code == 0 and "accuracy" in told.stdout
    assert list((home / "run" / "evaluations").glob("validation-*.json"))
    assert not (home / "run" / "adapter" / "evaluations").exists()
    again = finetune(home, home / "run" / "adapter", "again", "--steps", 2)
    assert again.exit_code == 0
    first = open_task(home / "run" / "adapter").model.head.out.weight
    assert (open_task(home / "again").model.head.out.weight - first).abs().max() < 0.1


def test_a_base_that_is_gone_is_named_with_what_to_do(home):
    config = home / "run" / "adapter" / "adapter_config.json"
    said = json.loads(config.read_text())
    gone = home / "gone"
    gone.mkdir()
    for name in ("adapter_model.safetensors", "task.json"):
        (gone / name).write_bytes((home / "run" / "adapter" / name).read_bytes())
    moved = said | {"base_model_name_or_path": "runs/moved"}
    (gone / "adapter_config.json").write_text(json.dumps(moved))
    with pytest.raises(CheckpointError, match=r"runs/moved.*not on this machine") as error:
        hornbook("run", "classify", gone, "gold")
    assert "base_model_name_or_path" in error.value.hint


@pytest.fixture(scope="module")
def two(home):
    """A second adapter on the same base, with other labels."""
    lines = (home / "news.csv").read_text().replace(",grain", ",food").replace(",metal", ",[ore]")
    (home / "others.csv").write_text(lines)
    made = hornbook(
        "finetune", "classify", "--model", home / "base", "--data", home / "others.csv",
        "--method", "dora", "--set", "lr=1e-2", "--set", "tokens_per_step=256", "--set",
        "evaluations=1", "--out", home / "second", "--quiet", "--steps", 12,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    return (
        "--adapter",
        f"first.one={home / 'run'}",
        "--adapter",
        f"2={home / 'second' / 'adapter'}",
    )


def test_several_adapters_answer_as_each_alone(home, two):
    texts = ("gold fell today", "wheat rose today", "--json")
    told = hornbook("run", "classify", home / "base", *two, *texts)
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line.pop("adapter") for line in lines] == ["first.one"] * 2 + ["2"] * 2
    alone = [hornbook("run", "classify", home / run, *texts).stdout for run in ("run", "second")]
    for ours, theirs in zip(lines, "".join(alone).splitlines(), strict=True):
        theirs = json.loads(theirs)
        assert (ours["text"], ours["label"]) == (theirs["text"], theirs["label"])
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"], abs=2e-4)
    shown = hornbook("run", "classify", home / "base", *two, "gold").stdout
    assert shown.index("first.one:") < shown.index("metal") < shown.index("2:")
    assert "[ore]" in shown[shown.index("2:") :]


def test_several_adapters_share_the_bases_weights(home, two):
    base = bundle.load(home / "base")
    places = (home / "run" / "adapter", home / "second" / "adapter")
    models = [
        bundle.with_adapter(base, place, "base", adapter=str(i)).model
        for i, place in enumerate(places)
    ]
    assert models[0].trunk is models[1].trunk is base.model
    assert lora.names(base.model) == ["0", "1"]


def test_adapters_that_cannot_answer_are_refused(home, two, tmp_path):
    torch.manual_seed(1)
    base = bundle.load(home / "base")
    bundle.save(tmp_path / "other", Bert(base.model.config), base.tokenizer)
    with pytest.raises(CheckpointError, match=r"trained on '.*base', and this is '.*other'"):
        hornbook("run", "classify", tmp_path / "other", *two, "gold")
    with pytest.raises(CheckpointError, match="base holds no adapter"):
        hornbook("run", "classify", home / "base", "--adapter", f"a={home / 'base'}", "gold")
    with pytest.raises(ConfigError, match=r"run was fine-tuned to classify, not to tag"):
        hornbook("run", "tag", home / "base", *two, "gold")
    for wrong in ("run", "=run", "a="):
        with pytest.raises(ConfigError, match="is not NAME=FOLDER"):
            hornbook("run", "classify", home / "base", "--adapter", wrong, "gold")
    with pytest.raises(ConfigError, match="a name of its own"):
        hornbook("run", "classify", home / "base", *two, *two, "gold")
