"""hornbook data select: which texts to label next, by a tiny fine-tuned classifier."""

from __future__ import annotations

import csv
import json

import pytest
from tiny_news import OTHERS, WORDS, asking, hornbook

from hornbook.errors import ConfigError, DataError

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def run(news):
    hornbook("finetune", *asking(news), "--steps", 45, "--out", news / "run")
    return news / "run"


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


def test_a_text_does_not_move_the_cursor(run, tmp_path):
    (tmp_path / "new.txt").write_text("wheat \x1b[2Jrose\n\x9bcorn fell\n")
    told = hornbook("data", "select", run, tmp_path / "new.txt", "--quiet").stdout
    assert "\x1b" not in told and "\x9b" not in told
    assert "wheat �[2Jrose" in told and "�corn fell" in told


def test_no_column_is_written_over(run, tmp_path):
    (tmp_path / "new.csv").write_text("text,margin\nwheat rose,3 cm\ntin fell,4 cm\n")
    words = ["data", "select", run, tmp_path / "new.csv", "--quiet"]
    with pytest.raises(ConfigError, match="has a column 'margin'") as caught:
        hornbook(*words, "--out", tmp_path / "picked.csv")
    assert "Rename it" in caught.value.hint and not (tmp_path / "picked.csv").exists()
    assert "wheat rose" in hornbook(*words).stdout  # nothing is written


def test_a_file_without_texts_is_named(run, tmp_path):
    (tmp_path / "new.txt").write_text("")
    with pytest.raises(DataError, match=r"new\.txt is empty") as caught:
        hornbook("data", "select", run, tmp_path / "new.txt")
    assert "hornbook run" not in caught.value.hint


@pytest.fixture(scope="module")
def pairs(news):
    """A run that tells whether two texts are of the same kind."""
    rows = [f"{a} rose,{b} fell,{'same' if x == y else 'other'}" for x in WORDS for y in WORDS
            for a in WORDS[x] for b in WORDS[y]]  # fmt: skip
    (news / "pairs.csv").write_text("first,second,label\n" + "\n".join(rows))
    hornbook(
        "finetune", "pairs", "--model", news / "tiny", "--data", news / "pairs.csv", "--quiet",
        "--steps", 4, "--set", "evaluations=1", "--out", news / "paired",
    )  # fmt: skip
    return news / "paired"


def test_pairs_to_label_next(pairs, tmp_path):
    rows = ["wheat rose,gold fell", "tin rose,zinc fell", "Wheat rose!,gold fell", "tin rose,"]
    (tmp_path / "new.csv").write_text("a,b\n" + "\n".join(rows) + "\n")
    words = ["data", "select", pairs, tmp_path / "new.csv", "--column", "first=a", "--column",
             "second=b", "--quiet"]  # fmt: skip
    found = json.loads(hornbook(*words, "--json").stdout)
    assert {(x["first"], x["second"]) for x in found} == {
        ("wheat rose", "gold fell"),
        ("tin rose", "zinc fell"),
    }  # neither the half pair nor the same words again
    assert all(x["guess"] and set(x["guess"]) <= {"same", "other"} for x in found)
    told = hornbook(*words, "-n", 1, "--out", tmp_path / "picked.csv").stdout
    with (tmp_path / "picked.csv").open(newline="") as file:
        (picked,) = csv.DictReader(file)
    assert list(picked) == ["a", "b", "guess", "margin"]
    assert f"{picked['a']} | {picked['b']}" in told


def test_other_tasks_are_told_why_not(news, tmp_path):
    (tmp_path / "new.txt").write_text("wheat rose\n")
    hornbook("finetune", "fill", "--model", news / "tiny", "--data", news / "news.csv", "--quiet",
             "--steps", 1, "--set", "evaluations=1", "--out", news / "filled")  # fmt: skip
    with pytest.raises(ConfigError, match="was fine-tuned for 'fill', and") as caught:
        hornbook("data", "select", news / "filled", tmp_path / "new.txt")
    assert "how unsure the model is" in caught.value.hint
