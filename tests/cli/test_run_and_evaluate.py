"""hornbook run and evaluate, as a person types them, on a run that was trained."""

from __future__ import annotations

import json

import pytest
from tiny_news import WORDS, asking, hornbook

from hornbook import bundle
from hornbook.errors import ConfigError, UnknownNameError
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.recipes.apply import ready
from hornbook.recipes.apply_plain import Asked

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def run(news):
    hornbook("finetune", *asking(news), "--steps", 45, "--out", news / "run")
    return news / "run"


# Evaluation of a real run


def test_a_run_is_evaluated_on_its_own_division(run):
    found = json.loads(hornbook("evaluate", run, "--json", "--quiet").stdout)
    summary = json.loads((run / "summary.json").read_text())
    same = {m["name"]: m["value"] for m in summary["metrics"]}
    assert {m["name"]: m["value"] for m in found["metrics"]} == pytest.approx(same)
    assert found["examples_hash"] == summary["hashes"]["validation examples"]
    test = json.loads(hornbook("evaluate", run, "--on", "test", "--json", "--quiet").stdout)
    assert test["look"] == 1 and test["n_examples"] == summary["n_test"]


def test_columns_of_other_data_are_named(run, tmp_path):
    """As everywhere else: a blank before the = is none of the name."""
    rows = [f"{mark} wheat rose,grain\n{mark} tin fell,metal\n" for mark in "abcdefghij"]
    (tmp_path / "new.csv").write_text("body,kind\n" + "".join(rows))
    words = ["evaluate", run, "--data", tmp_path / "new.csv", "--on", "all", "--quiet", "--json"]
    told = hornbook(*words, "--column", "text =body", "--column", "label=kind").stdout
    assert json.loads(told)["n_examples"] == 20
    with pytest.raises(ConfigError, match="is not name=COLUMN"):
        hornbook(*words, "--column", "body")


# hornbook run


def test_texts_are_labelled_line_by_line(run, tmp_path):
    (tmp_path / "texts.txt").write_text("wheat corn rice\n\ngold silver tin\n")
    told = hornbook("run", "sentiment", run, "--file", tmp_path / "texts.txt", "--json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line.get("label", line.get("reason")) for line in lines] == [
        "grain",
        "no text",
        "metal",
    ]
    (tmp_path / "texts.csv").write_text("body,n\nwheat rose,1\n")
    named = hornbook(
        "run", "classify", run, "--file", tmp_path / "texts.csv", "--column", "text=body"
    )
    assert "wheat rose" not in named.stdout and "grain" in named.stdout.splitlines()[0]
    piped = hornbook("run", "classify", run, "-", input="gold silver zinc\nrice corn oats\n")
    assert [x for x in piped.stdout.split() if x in WORDS][::2] == ["metal", "grain"]


def test_another_task_s_model_is_named(run, news):
    with pytest.raises(ConfigError, match="was fine-tuned to classify, not to tag") as caught:
        ready("ner", str(run))
    assert "hornbook run classify" in caught.value.hint
    with pytest.raises(ConfigError, match="can't answer"):
        ready("qa", str(news / "tiny"))
    with pytest.raises(ConfigError, match="can't generate"):
        ready("generate", str(news / "tiny"))
    with pytest.raises(UnknownNameError, match="no task 'sentimnt'") as caught:
        ready("sentimnt", str(run))
    assert "Did you mean 'sentiment'" in caught.value.hint


def test_open_places_are_filled(news):
    (found,) = ready("fill-mask", str(news / "tiny"), Asked(top=3))(
        [{"text": "prices of ___ rose [MASK]"}]
    )
    assert [len(place) for place in found["guesses"]] == [3, 3]
    shares = [guess["probability"] for guess in found["guesses"][0]]
    assert shares == sorted(shares, reverse=True)


def test_a_modern_encoder_gives_vectors(news, tmp_path):
    tokenizer = bundle.load(news / "tiny").tokenizer
    config = ModernBertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64)
    bundle.save(tmp_path / "modern", ModernBert(config), tokenizer)
    (found,) = ready("embed", str(tmp_path / "modern"))([{"text": "wheat prices " * 30}])
    assert len(found["vector"]) == 32
    assert sum(x * x for x in found["vector"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("qa", "m", "Who?"), "answer needs context"),
        (("zero-shot", "m", "text"), "zero-shot needs labels"),
        (("sentiment", "m", "text", "--label", "a"), "classify reads no labels"),
        (("pairs", "m", "one"), "make no pairs"),
        (("sentiment", "m"), "nothing to read"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_opened(words, said):
    with pytest.raises(ConfigError, match=said):
        hornbook("run", *words)


def test_a_table_without_the_column_names_those_it_has(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UnknownNameError, match="no column 'text'") as caught:
        hornbook("run", "classify", "m", "--file", tmp_path / "t.csv")
    assert "--column text=COLUMN" in caught.value.hint
