"""The commands as their user meets them: what they print, where, and their exit codes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hornbook.cli import main
from hornbook.cli.compare import chosen
from hornbook.compare.techniques import TECHNIQUES

FAKES = Path(__file__).parents[1] / "compare" / "fake_techniques.py"
WORDS = {"ships": ["port", "vessel", "cargo"], "wheat": ["grain", "crop", "mill"]}


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


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    rng = random.Random(0)
    path = tmp_path_factory.mktemp("data") / "tickets.csv"
    rows = ["body,topic"]
    for _ in range(120):
        topic = rng.choice(list(WORDS))
        words = rng.choices(WORDS[topic], k=3) + [f"w{rng.randrange(400)}" for _ in range(9)]
        rows.append(f"{' '.join(words)},{topic}")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def run_folder(table, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "tickets"
    command = [sys.executable, "-m", "hornbook.cli.main", "compare", str(table), "--json"]
    command += ["--text", "body", "--label", "topic", "--out", str(out), "--budget", "20s"]
    command += ["--techniques", "majority,tfidf-logreg", "--technique", f"{FAKES}:Crash"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)  # nothing but the summary on standard output
    assert summary["best"] == "tfidf-logreg"
    assert summary["not_finished"][0]["technique"] == "crash"
    assert "crash: failed: ValueError: no good" in done.stderr
    assert (
        "tickets.csv --text body --label topic --techniques majority,tfidf-logreg"
        in (summary["command"])
    )
    return out


def test_predict_in_its_forms(hornbook, run_folder, tmp_path, monkeypatch):
    assert hornbook("predict", run_folder, "vessel cargo port")[:2] == (0, "ships\n")
    code, out, _ = hornbook("predict", run_folder, "--json", "grain mill crop")
    found = json.loads(out)
    assert found["labels"] == ["wheat"] and sum(found["probabilities"].values()) == pytest.approx(1)
    code, out, _ = hornbook("predict", run_folder, "--top", "1", "vessel", "grain")
    assert [line.split()[0] for line in out.splitlines()] == ["ships", "wheat"]
    lines = tmp_path / "lines.txt"
    lines.write_text("vessel cargo\n\ngrain\u2028crop\r\n \nvessel")
    rows = "ships\n(no text)\nwheat\n(no text)\nships\n"  # a line for a line
    code, out, err = hornbook("predict", run_folder, "--file", lines)
    assert (code, out) == (0, rows) and "2 of 5 hold no text" in err
    objects = tmp_path / "objects.jsonl"
    objects.write_text('{"body": "vessel cargo", "head": "port"}\n')
    args = ("predict", run_folder, "--jsonl", objects)
    assert hornbook(*args, "--text", "body", "--title", "head")[1] == "ships\n"
    code, _, err = hornbook(*args, "--text", "bdy")
    assert code == 1 and "objects.jsonl, line 1" in err and "Did you mean 'body'" in err
    with lines.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert hornbook("predict", run_folder, "-")[1] == rows
    objects.write_text('{"body": null}\n\n{"body": "grain"}\n{"body": 7}\n')
    args = ("predict", run_folder, "--json", "--text", "body", "--jsonl", objects)
    found = [json.loads(line) for line in hornbook(*args)[1].splitlines()]
    assert [each.get("reason") for each in found] == ["no text", "no text", None, None]
    assert [each["labels"] for each in found][:3] == [[], [], ["wheat"]]
    objects.write_text('{"body": "grain"}\n{"body": ["grain"]}\n')
    code, _, err = hornbook(*args)
    assert code == 1 and "objects.jsonl, line 2: 'body' is a list" in err
    objects.write_bytes(b"PK\x03\x04\0\0")
    code, _, err = hornbook("predict", run_folder, "--file", objects)
    assert code == 1 and "is a binary file" in err
    model = run_folder / "techniques" / "majority" / "repeat-0" / "model"
    assert hornbook("predict", model, "x")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["compare", "tickts.csv"], 1, "there is no file tickts.csv"),
        (["compare", "{table}", "--text", "bdy"], 2, "Did you mean 'body'?"),
        (["compare", "--techniques", "tfidf-svn"], 2, "Did you mean 'tfidf-svm'?"),
        (["compare", "--budget", "soon"], 2, "90s, 5m, 1h30m"),
        (["compare", "--repeats", "0"], 2, "repeats"),
        (["compare", "{table}", "--out", "{run}"], 1, "exists already"),
        (["compare", "--technique", "no.py:Mine"], 2, "there is no file no.py"),
        (["compare", "--technique", str(FAKES) + ":Wrds"], 2, "Did you mean 'Words'?"),
        (["predict", "nowhere", "x"], 1, "no study.json"),
        (["predict", "{run}"], 2, "there is no text"),
        (["predict", "{run}", "--technique", "majorty", "x"], 2, "Did you mean 'majority'?"),
        (["predict", "{run}", "--file", "none.txt"], 1, "no file none.txt"),
        (["data", "show", "pydoc"], 2, "Did you mean 'pydocs'?"),
        (["cache", "rm", "nothing"], 2, "no entry 'nothing'"),
        (["compare", "--budge", "3"], 2, "--budget"),
        (["compare", "{run}"], 1, "--resume"),
        (["compare", "{run}", "--resume", "--budget", "2m"], 1, "budget was 20s, is 2m 00s"),
        (["compare", "{run}", "--resume", "--total", "2m"], 1, "total was not given, is 2m 00s"),
        (["compare", "{run}", "--resume", "--out", "new"], 1, "--out new cannot apply"),
        (["compare", "{run}", "--resume", "--overwrite"], 1, "cannot both be asked for"),
        (["compare", "{run}", "--resume", "--text", "head"], 1, "text was body, is head"),
        (["compare", "{run}", "--resume", "--techniques", "lora"], 1, "tfidf-logreg, "),
        (["compare", "{table}", "--resume", "--dry-run"], 2, "--dry-run shows the plan"),
    ],
)
def test_a_users_mistake_is_told_without_a_traceback(
    hornbook, table, run_folder, arguments, code, said
):
    given = [a.format(table=table, run=run_folder) for a in arguments]
    found, _, err = hornbook(*given)
    assert found == code and said in err and "Traceback" not in err


def test_a_run_that_dies_says_what_remains(hornbook, table, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hornbook.compare.study.write_outcome", full)
    code, _, err = hornbook(
        "compare", table, "--techniques", "majority", "--out", tmp_path / "run", "--quiet"
    )
    assert code == 1 and "No space" in err and "run --resume" in err


def test_a_fault_of_ours_keeps_its_traceback_in_a_file(hornbook, monkeypatch):
    def broken():
        raise RuntimeError("a bolt is loose")

    monkeypatch.setattr("hornbook.data.datasets.cards", broken)
    code, _, err = hornbook("data", "list")
    assert code == 1 and "a bolt is loose" in err
    log = Path(err.split()[-1])
    assert "Traceback" in log.read_text()
    log.unlink()


def test_the_plan_of_a_dry_run_writes_nothing(hornbook, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = hornbook("compare", table, "--dry-run", "--total", "4m", "--repeats", "2")
    assert code == 0
    assert "2 labels, one label a text" in out and "ensemble" in out and "4m 00s in all" in out
    names = ["--techniques", "majority,lora,ensemble"]
    for option, budgets in (("--budget", [240, 240, 240]), ("--total", [101.3, 101.3, 25.3])):
        found = json.loads(
            hornbook("compare", table, "--dry-run", "--json", option, "4m", *names)[1]
        )
        assert [each["technique"] for each in found["techniques"]] == names[1].split(",")
        assert [each["budget_seconds"] for each in found["techniques"]] == budgets
        assert sum(found["splits"].values()) == 120 and found["n_labels"] == 2
    assert not list(tmp_path.iterdir())


def test_data_and_doctor(hornbook, table, monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path))
    assert "pydocs" in {card["name"] for card in json.loads(hornbook("data", "list", "--json")[1])}
    shown = json.loads(hornbook("data", "show", table, "--json")[1])
    assert shown["n_train"] == 120 and set(shown["labels"]) == set(WORDS)
    audited = json.loads(hornbook("data", "audit", table, "--json")[1])
    assert audited["n_labels"] == 2
    found = json.loads(hornbook("doctor", "--json")[1])
    assert found["device"] and found["precision"] and str(tmp_path) in found["cache"]
    (tmp_path / "data" / "old").mkdir(parents=True)
    assert "data/old" in hornbook("cache", "ls")[1]
    assert hornbook("cache", "rm", "data/old", "--yes")[0] == 0
    assert not (tmp_path / "data" / "old").exists()


def test_ones_own_technique_joins_the_others():
    assert chosen("", []) == []  # all
    assert chosen("lora, majority", ["mine.py:A"]) == ["lora", "majority", "mine.py:A"]
    assert chosen("", ["lora"]) == ["lora"]
    assert chosen("", ["mine.py:A"]) == [*TECHNIQUES, "mine.py:A"]


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to a child on Windows")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_cleanly(table, tmp_path, number):
    command = [sys.executable, "-m", "hornbook.cli.main", "compare", str(table)]
    command += ["--techniques", "majority", "--technique", f"{FAKES}:Sleeper"]
    process = subprocess.Popen(
        [*command, "--out", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and a child inherits that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("sleeper: fitting"):
            time.sleep(1.5)  # until it sleeps
            process.send_signal(number)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, "".join(seen) + err
    assert "hornbook compare run --resume" in err and "Traceback" not in err
    assert "majority" in out and "run/report.html" in out
    assert "- The data has no test split" in out  # what was guessed, dropped or divided
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [row["technique"] for row in summary["leaderboard"]] == ["majority"]
    assert summary["not_finished"][0]["status"] == "interrupted"
