"""`hornbook data shard`, `peek`, `stats`, and `list` and `show` of running text."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from hornbook.cli import main


@pytest.fixture
def hornbook(monkeypatch, capsys):
    """Run a command in this process; gives exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hornbook", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def stories(tmp_path) -> Path:
    folder = tmp_path / "stories"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02}.txt").write_text(f"Story {i}. Once upon a time there was a café.\n")
    return folder


def test_shard_then_peek(hornbook, stories, tmp_path):
    out = tmp_path / "shards"
    arguments = ("data", "shard", stories, "--out", out, "--tokenizer", "character")
    code, shown, err = hornbook(*arguments, "--validation", ".25", "--json")
    assert code == 0, err
    found = json.loads(shown)
    assert found["train"]["n_documents"] == 9 and found["validation"]["n_documents"] == 3
    assert found["dtype"] == "<u2"
    assert hornbook(*arguments, "--validation", ".25", "--quiet")[0] == 0  # nothing left to do
    code, _, err = hornbook(*arguments, "--validation", ".5")
    assert code == 1 and "documents are not those" in err

    code, shown, _ = hornbook("data", "peek", out, "--context", "60", "--rows", "3", "--json")
    peeked = json.loads(shown)
    assert len(peeked["windows"]) == 3 and peeked["packing"]["n_ends"] == 9
    n_targets = sum(p["target"] is not None for row in peeked["windows"] for p in row)
    for row in peeked["windows"]:
        assert len(row) == 60
        for place, following in pairwise(row):
            if place["target"] is None:
                assert place["text"] == "<|endoftext|>" and place["weight"] == 0
            else:
                assert place["target"] == following["token"]
                assert place["target_text"] == following["text"]
                assert place["weight"] == pytest.approx(1 / n_targets)
    assert any(place["target"] is None for row in peeked["windows"] for place in row)
    code, shown, _ = hornbook("data", "peek", out, "--context", "60")
    flat = " ".join(shown.split())
    assert "window 2: 60 tokens" in flat and "upon a time" in flat and "×" in shown
    assert "none dropped" in flat and "weights" in flat


def test_peek_at_a_run_reads_what_the_run_reads(hornbook, stories, tmp_path):
    from hornbook.data.corpus import open_corpus
    from hornbook.data.packing import pack_corpus
    from hornbook.data.windows import Windows
    from hornbook.text.train import train_tokenizer

    run = tmp_path / "run"
    run.mkdir()
    corpus = open_corpus(stories)
    tokenizer = train_tokenizer("character", corpus.train)
    tokenizer.save(run / "tokenizer.json")
    settings = ["family: gpt", f"data: {stories}", "context_length: 16", "batch_size: 4", "seed: 7"]
    (run / "config.yaml").write_text("\n".join(settings) + "\n")
    tokens, _ = next(
        Windows(pack_corpus(corpus, tokenizer)[0], context_length=16, batch_size=4, seed=7)
    )
    code, shown, err = hornbook("data", "peek", run, "--json", "--rows", "4")
    assert code == 0, err
    found = json.loads(shown)["windows"]
    assert [[place["token"] for place in row] for row in found] == tokens.tolist()
    (run / "config.yaml").write_text("\n".join(["family: bert", *settings[1:]]))
    code, _, err = hornbook("data", "peek", run)
    assert code == 2 and "does not learn to predict the next token" in err


def test_stats_show_and_list(hornbook, stories, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Ein Text. " * 50 + "ß")
    found = json.loads(hornbook("data", "stats", path, "--json")[1])
    assert found["train"]["n_characters"] + found["validation"]["n_characters"] == 501
    assert found["unseen"] == {"ß": 1}
    shown = hornbook("data", "stats", path)[1]
    assert "'ß'" in shown and "different characters" in shown
    shown = hornbook("data", "show", path)[1]
    assert "running text, one text, 502 bytes" in shown and "Ein Text." in shown
    assert (
        json.loads(hornbook("data", "show", f"{stories}/*.txt", "--json")[1])["one_text"] is False
    )
    listed = json.loads(hornbook("data", "list", "--json")[1])
    assert {"sherlock", "pycode"} <= {c["name"] for c in listed if c["kind"] == "running text"}
    assert "tinyshakespeare" in hornbook("data", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["shard", "shrlock", "--out", "o"], 2, "Did you mean 'sherlock'?"),
        (["shard", "{s}", "--out", "o", "--tokenizer", "gtp2"], 2, "Did you mean 'gpt2'?"),
        (["shard", "{s}", "--out", "o", "--tokenizer", "{s}"], 1, "no tokenizer.json"),
        (["shard", "{s}", "--out", "o", "--validation", "2"], 2, "between 0 and 1"),
        (["shard", "{s}", "--out", "o", "--tokenizer", "{s}", "--vocab-size", "9"], 2, "already"),
        (["peek", "{s}"], 1, "neither a folder of shards nor a run"),
        (["stats", "none.txt"], 1, "there is no file none.txt"),
    ],
)
def test_mistakes_are_told(hornbook, stories, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    found, _, err = hornbook("data", *(a.format(s=stories) for a in arguments))
    assert found == code and said in err and "Traceback" not in err


def test_a_window_longer_than_the_corpus_is_told(hornbook, stories, tmp_path):
    out = tmp_path / "shards"
    hornbook("data", "shard", stories, "--out", out, "--tokenizer", "character", "--quiet")
    code, _, err = hornbook("data", "peek", out, "--context", "5000")
    assert code == 1 and "fewer than one window of 5,000" in err and "at most" in err


def test_clean_and_keep_by_words(hornbook, tmp_path):
    table = tmp_path / "pages.jsonl"
    pages = ["<p>About pandas &amp; more</p>", "<p>About bears</p>", "PANDAS again", "a fourth"]
    table.write_text("".join(json.dumps({"text": page}) + "\n" for page in pages))
    out = tmp_path / "out.jsonl"
    arguments = ("data", "clean", table, "--out", out)
    found = json.loads(hornbook(*arguments, "--any", "pandas, polars", "--json")[1])
    assert found["n_kept"] == 2 and found["share_kept"] == 0.5
    texts = {json.loads(line)["text"] for line in out.read_text().splitlines()}
    assert texts == {"About pandas & more", "PANDAS again"}
    assert hornbook(*arguments)[0] == 1  # it exists
    assert "4 of 4 texts kept" in hornbook(*arguments, "--overwrite")[1]
    code, _, err = hornbook(*arguments, "--overwrite", "--any", "whales")
    assert code == 1 and "none of 4 texts is left" in err
    assert len(out.read_text().splitlines()) == 4  # as it was
