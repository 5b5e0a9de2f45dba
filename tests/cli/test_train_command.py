"""hornbook train and generate, as a person types them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.errors import ConfigError, DataError, StudyError

TINY = ["--depth", "1", "--context", "16", "--set", "d_model=16", "--set", "batch_size=4"]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "song.txt"
    path.write_text("".join(f"{i} green bottles, hanging on the wall.\n" for i in range(120)))
    return path


@pytest.fixture(scope="module")
def run(text, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    hornbook("train", "gpt", "--data", text, *TINY, "--steps", 20, "--out", folder, "--quiet")
    return folder


def hornbook(*words, **options):
    result = CliRunner().invoke(app, [str(w) for w in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_train_prints_the_loss_beside_counting_and_leaves_a_report(text, tmp_path):
    told = hornbook("train", "gpt", "--data", text, *TINY, "--steps", 20, "--out", tmp_path / "r")
    assert told.exit_code == 0
    for words in ("2-gram, Witten-Bell", "bits per byte", "report.html", "finished after"):
        assert words in told.stdout
    assert "parameters" in told.stderr and "evaluation at step" in told.stderr
    assert "<html" in (tmp_path / "r" / "report.html").read_text()
    assert (tmp_path / "r" / "emissions.csv").is_file()


def test_json_is_json_and_nothing_else(text, tmp_path):
    told = hornbook(
        "train", "gpt", "--data", text, *TINY, "--steps", 5, "--out", tmp_path / "r", "--json"
    )
    assert json.loads(told.stdout)["n_steps"] == 5


def test_a_dry_run_shows_every_decided_value_and_makes_nothing(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = hornbook("train", "gpt", "--data", text, *TINY, "--dry-run")
    for words in ("lr_embedding", "n_heads", "parameters", "peak memory"):
        assert words in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_generate_uses_the_trained_weights(run):
    one, same, other = (
        hornbook("generate", run, "3 green", "-n", 20, "--seed", seed).stdout for seed in (7, 7, 8)
    )
    assert one == same != other and one.startswith("3 green")
    told = hornbook("generate", run, "3 green", "-n", 20, "--temperature", 0, "--json")
    assert json.loads(told.stdout)["prompt"] == "3 green"


def test_an_unknown_character_is_said_and_not_fatal(run):
    told = hornbook("generate", run, "3 groß€", "-n", 5)
    assert told.exit_code == 0 and "ß €" in told.stderr


def test_an_encoder_is_not_asked_to_write(text, tmp_path):
    options = ["--steps", 2, "--vocab-size", 200, "--out", tmp_path / "bert", "--quiet"]
    hornbook("train", "bert", "--data", text, *TINY, *options)
    with pytest.raises(ConfigError, match="doesn't write"):
        hornbook("generate", tmp_path / "bert", "3 green")


@pytest.mark.parametrize(
    "option", [["--sanity"], ["--dry-run"], ["--config", "a.yaml"], ["--resume", "runs/a"]]
)
def test_counting_refuses_options_that_mean_nothing_to_it(text, option):
    with pytest.raises(ConfigError, match=f"takes no {option[0]}"):
        hornbook("train", "ngram", "--data", text, *option)


@pytest.mark.parametrize("order", ["abc", "0", "21", "2.5", "true"])
def test_an_order_is_a_number(text, order):
    with pytest.raises(ConfigError, match="order of n-grams"):
        hornbook("train", "ngram", "--data", text, "--set", f"order={order}")


def test_a_translator_writes_from_a_source(tmp_path):
    table = tmp_path / "pairs.csv"
    table.write_text("en,de\n" + "".join(f"{i} dogs,{i} Hunde\n" for i in range(50)))
    options = ["--source", "en", "--target", "de", "--vocab-size", 280, "--steps", 3]
    told = hornbook("train", "seq2seq", "--data", table, *options, *TINY, "--out", tmp_path / "run")
    assert "targets alone" in told.stdout and "of the places" in told.stderr
    written = hornbook("generate", tmp_path / "run", "3 dogs", "-n", 5, "--json").stdout
    assert json.loads(written)["prompt"] == "3 dogs"
    with pytest.raises(ConfigError, match="Did you mean 'en'"):
        hornbook("train", "seq2seq", "--data", table, "--source", "eng", "--target", "de")


def test_ngram_prints_each_order(text):
    told = hornbook("train", "ngram", "--data", text, "--json", "--set", "order=3")
    rows = json.loads(told.stdout)
    assert [row["order"] for row in rows] == [1, 2, 3]
    assert rows[0]["loss"] > rows[2]["loss"]


@pytest.mark.parametrize(
    ("words", "kind", "says"),
    [
        ([], ConfigError, "what to train on"),
        (["gpt", "--data", "sherlok"], Exception, "sherlock"),
        (["gpz", "--data", "TEXT"], ConfigError, "family"),
        (["gpt", "--data", "TEXT", "--set", "lr"], ConfigError, "name=value"),
        (["gpt", "--data", "TEXT", "--set", "widht=3"], ConfigError, "widht"),
        (["gpt", "--data", "TEXT", "--time", "5 parsecs"], ConfigError, "time"),
        (["gpt", "--data", "TEXT", "--time", "5s", "--steps", "3"], ConfigError, "give one"),
        (["gpt2", "--data", "TEXT", "--counting"], ConfigError, "counting"),
        (["gpt", "--data", "TEXT", "--source", "en"], ConfigError, "seq2seq"),
        (["ngram"], ConfigError, "what to count"),
        (["gpt", "--data", "TEXT", "--preset", "bert-base"], ConfigError, "bert-base"),
        (["gpt", "--data", "TEXT", "--context", "100000"], DataError, "fewer than one window"),
        (["--resume", "RUN"], StudyError, "finished"),
        (["--resume", "RUN", "--dry-run"], ConfigError, "new run"),
    ],
)
def test_mistakes_are_told_in_words(words, kind, says, text, run):
    words = [str({"TEXT": text, "RUN": run}.get(word, word)) for word in words]
    with pytest.raises(kind, match=says):
        hornbook("train", *words)


def test_ctrl_c_keeps_everything_and_resume_goes_on(text, tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "hornbook.cli.main", "train", "gpt", "--data", str(text)]
    command += [*TINY, "--steps", "100000", "--out", str(folder)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 60
        metrics = folder / "metrics.jsonl"
        try:
            while not (metrics.is_file() and metrics.stat().st_size > 500):
                assert time.monotonic() < until and process.poll() is None
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
        finally:
            process.kill()
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told and f"--resume {folder}" in told
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "interrupted" and summary["n_steps"] > 0
    assert hornbook("generate", folder, "3 green", "-n", 5).exit_code == 0


@pytest.mark.long
@pytest.mark.parametrize("sharded", ["false", "true"])
def test_ctrl_c_at_one_process_ends_both_after_the_same_step(text, tmp_path, sharded):
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "hornbook.cli.main", "train", "gpt", "--data", str(text)]
    command += [*TINY, "--steps", "100000", "--set", f"sharded={sharded}", "--out", str(folder)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    with (tmp_path / "log").open("w") as log:
        both = [
            subprocess.Popen(
                command,
                env=os.environ | place | {"RANK": rank, "LOCAL_RANK": rank},
                stdout=log,
                stderr=log,
            )
            for rank in "01"
        ]
        try:
            until = time.monotonic() + 120
            metrics = folder / "metrics.jsonl"
            while not (metrics.is_file() and metrics.stat().st_size > 500):
                assert time.monotonic() < until and all(p.poll() is None for p in both)
                time.sleep(0.1)
            both[1].send_signal(signal.SIGINT)
            assert [process.wait(timeout=100) for process in both] == [130, 0]
        finally:
            for process in both:
                process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()
    summary = json.loads((folder / "summary.json").read_text())
    newest = max((folder / "checkpoints").glob("step-*"))
    assert summary["status"] == "interrupted" and int(newest.name[5:]) == summary["n_steps"]


@pytest.mark.long
@pytest.mark.parametrize("sharded", ["false", "true"])
def test_two_processes_train_the_run_of_one(text, tmp_path, sharded):
    options = [*TINY, "--steps", "12", "--set", f"sharded={sharded}"]
    hornbook("train", "gpt", "--data", text, *options, "--out", tmp_path / "one", "--quiet")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "29611", "-m", "hornbook.cli.main", "train", "gpt"]
    command += ["--data", str(text), *options, "--out", str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    losses = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        steps = [json.loads(line) for line in lines if '"kind":"step"' in line]
        losses.append([step["loss"] for step in steps])
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert hornbook("generate", tmp_path / "two", "3 green", "-n", 5).exit_code == 0
