"""`hornbook tokenizer` as its user meets it."""

from __future__ import annotations

import io
import json
import random
import sys
from pathlib import Path

import pytest

from hornbook.cli import main
from hornbook.text.tokenizer import Tokenizer

rng = random.Random(0)
WORDS = ["".join(rng.choices("abcdefghijkl", k=rng.randrange(2, 8))) for _ in range(200)]


@pytest.fixture
def hornbook(monkeypatch, capsys):
    """Run a command in this process; gives exit code, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hornbook", "tokenizer", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main.run()
        shown = capsys.readouterr()
        return int(end.value.code or 0), shown.out, shown.err

    return run


@pytest.fixture
def book(tmp_path) -> Path:
    path = tmp_path / "book.txt"
    lines = [" ".join(rng.choices(WORDS, k=12)) + ", part XJ-4410-B.\n" for _ in range(200)]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def trained(hornbook, book, tmp_path) -> Path:
    out = tmp_path / "tok"
    code, _, err = hornbook("train", "--data", book, "--vocab-size", 400, "--out", out)
    assert code == 0, err
    return out


@pytest.mark.parametrize("algorithm", ["character", "word", "bpe", "wordpiece", "unigram"])
def test_train_writes_a_tokenizer_and_measures_it_on_the_rest(hornbook, book, tmp_path, algorithm):
    out = tmp_path / algorithm
    arguments = ("train", "--data", book, "--algorithm", algorithm, "--out", out)
    code, shown, err = hornbook(*arguments, "--json")
    assert code == 0, err
    found = json.loads(shown)
    tokenizer = Tokenizer.load(Path(found["path"]))
    assert tokenizer.vocab_size == found["held_out"]["vocab_size"]
    assert 0.09 < found["held_out"]["n_bytes"] / book.stat().st_size < 0.11
    code, _, err = hornbook(*arguments)
    assert code == 2 and "--overwrite" in err
    assert hornbook(*arguments, "--overwrite")[0] == 0


def test_compare_puts_all_algorithms_side_by_side(hornbook, book, trained):
    arguments = ("compare", book, "--vocab-size", 350, "--tokenizer", trained)
    code, shown, err = hornbook(*arguments, "--json")
    assert code == 0, err
    rows = json.loads(shown)
    assert {"character", "word", "bpe", "wordpiece", "unigram", str(trained)} <= set(rows)
    assert rows["bpe"]["unknown_share"] == 0 and rows["word"]["tokens_per_word"] < 3
    assert rows["character"]["bytes_per_token"] == 1
    assert rows["bpe"]["n_words"] == rows["unigram"]["n_words"]
    _, shown, _ = hornbook(*arguments)
    assert "tokens/word" in shown and "splits worst" in shown and "unigram" in shown


def test_count_counts_a_file_a_table_and_standard_input(
    hornbook, book, trained, tmp_path, monkeypatch
):
    tokenizer = Tokenizer.load(trained / "tokenizer.json")
    text = book.read_text()
    wanted = len(tokenizer.encode([text])[0])
    assert hornbook("count", book, "--tokenizer", trained)[1] == f"{wanted}\n"
    _, shown, _ = hornbook("count", book, "--tokenizer", trained, "--json")
    assert json.loads(shown)["tokens"] == wanted
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    assert hornbook("count", "-", "--tokenizer", trained)[1] == f"{wanted}\n"
    table = tmp_path / "rows.jsonl"
    rows = ["ab cd", "a, <|endoftext|>", "part"]
    table.write_text("".join(json.dumps({"body": row}) + "\n" for row in rows))
    found = hornbook("count", table, "--text", "body", "--tokenizer", trained)[1]
    assert int(found) == sum(len(ids) for ids in tokenizer.encode(rows, read_special=False))


def test_count_is_tiktokens(hornbook, data_folder):
    """nanoGPT's figure for this text, by tiktoken: 301,966 to train on and 36,059 to validate."""
    assert hornbook("count", data_folder / "tinyshakespeare" / "input.txt")[1] == "338025\n"


def test_show_tells_tokens_ids_and_characters(hornbook, trained):
    code, shown, _ = hornbook("show", "part é [x]", "--tokenizer", trained, "--json")
    found = json.loads(shown)
    assert code == 0 and len(found["ids"]) == len(found["tokens"]) == len(found["offsets"])
    assert found["offsets"][0][0] == 0 and found["offsets"][-1][1] == len("part é [x]")
    _, shown, _ = hornbook("show", "part é [x]", "--tokenizer", trained)
    assert "part é [x]" in shown and "10 characters, 11 bytes" in shown


def test_adapt_shows_before_and_after(hornbook, trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(" ".join(word.upper() for word in rng.choices(WORDS, k=3000)))
    arguments = ("adapt", "--from", trained, "--data", other, "--vocab-size", 500)
    code, shown, err = hornbook(*arguments, "--out", tmp_path / "new", "--json")
    assert code == 0, err
    found = json.loads(shown)
    assert found["after"]["n_tokens"] < 0.6 * found["before"]["n_tokens"]
    assert found["after"]["n_bytes"] == found["before"]["n_bytes"]
    _, shown, _ = hornbook(*arguments, "--out", tmp_path / "newer")
    assert "on the held-out part of other.txt (-" in shown


def test_audit_lists_the_worst_words_and_adds_them(hornbook, book, trained, tmp_path):
    folder = tmp_path / "spaced"
    _, shown, _ = hornbook("train", "--data", book, "--vocab-size", 300, "--out", folder)
    arguments = ("audit", book, "--tokenizer", folder)
    _, shown, _ = hornbook(*arguments, "--top", 3)
    assert "XJ-4410-B" in shown and "--add 3 --out DIR" in shown
    code, shown, err = hornbook(*arguments, "--add", 1, "--out", tmp_path / "added", "--json")
    assert code == 0, err
    found = json.loads(shown)
    assert found["added"] == ["XJ-4410-B"]
    saved = next(row for row in found["worst"] if row["word"] == "XJ-4410-B")["saved"]
    assert found["before"] - found["after"] == saved > 200
    assert "XJ-4410-B" in Tokenizer.load(tmp_path / "added" / "tokenizer.json").tokens


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["train", "--data", "bok.txt", "--out", "x"], 1, "Did you mean 'book.txt'?"),
        (["train", "--data", "empty.txt", "--out", "x"], 1, "empty.txt is empty"),
        (["train", "--data", "binary.txt", "--out", "x"], 1, "is a binary file"),
        (["train", "--data", "book.txt", "--out", "x", "--algorithm", "bpa"], 2, "'bpe'"),
        (["train", "--data", "book.txt", "--out", "x", "--vocab-size", "90000"], 2, "--vocab-size"),
        (["train", "--data", "book.txt", "--out", "x", "--vocab-size", "9"], 2, "at least 257"),
        (["count", "empty.txt", "--tokenizer", "tok"], 1, "empty.txt is empty"),
        (["count", "bok.txt", "--tokenizer", "tok"], 1, "Did you mean 'book.txt'?"),
        (["count", "book.txt", "--tokenizer", "gpt3"], 2, "Did you mean 'gpt2'?"),
        (["count", "book.txt", "--tokenizer", "nothing"], 1, "no tokenizer.json"),
        (["audit", "book.txt", "--tokenizer", "tok", "--add", "3"], 2, "belong together"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(
    hornbook, book, trained, tmp_path, monkeypatch, arguments, code, said
):
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_text("")
    Path("nothing").mkdir()
    Path("binary.txt").write_bytes(bytes(range(256)) * 40)
    found, _, err = hornbook(*arguments)
    assert found == code and said in err and "Traceback" not in err
    assert not Path("x").exists()
