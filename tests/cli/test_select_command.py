"""hornbook data select: which texts to label next, by a tiny fine-tuned classifier."""

from __future__ import annotations

import csv
import json

import pytest
from tiny_news import OTHERS, WORDS, asking, hornbook, made

from hornbook.errors import ConfigError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return made(tmp_path_factory.mktemp("home"))


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


@pytest.fixture(scope="module")
def run(home):
    hornbook("finetune", *asking(home), "--steps", 45, "--out", home / "run")
    return home / "run"


def test_texts_to_label_next_are_unsure_and_unlike(run, tmp_path):
    unsure = "wheat gold rose today"  # of both kinds: nothing says which
    sure = [f"{a} {b} rice corn" for a in OTHERS[:4] for b in ("wheat", "oats")]
    texts = [*sure, unsure, "Wheat, gold rose today!", "", "silver corn the may"]
    (tmp_path / "new.csv").write_text(
        "n,body\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    )
    words = ["data", "select", run, tmp_path / "new.csv", "--column", "text=body", "--quiet"]
    told = hornbook(*words, "-n", 2, "--out", tmp_path / "picked.csv")
    with (tmp_path / "picked.csv").open(newline="") as file:
        picked = list(csv.DictReader(file))
    assert picked[0]["body"] == unsure and len(picked) == 2
    assert list(picked[0]) == ["n", "body", "guess", "margin"]
    assert all(row["guess"] in WORDS and row["body"] in told.stdout for row in picked)
    found = json.loads(hornbook(*words, "--json").stdout)
    assert len(found) == 10  # neither the empty text nor the same words again
    assert found[0]["margin"] == min(x["margin"] for x in found)
    assert found[0]["row"] == texts.index(unsure) + 1
    with pytest.raises(ConfigError, match="is there already"):
        hornbook(*words, "--out", tmp_path / "picked.csv")
