"""hornbook launch: several processes, what they say, and how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from typer.testing import CliRunner

from hornbook.cli import launch
from hornbook.cli.main import app
from hornbook.errors import ConfigError, UnknownNameError
from hornbook.runs import n_cpus
from hornbook.training import launcher

TINY = ["--depth", "1", "--context", "16", "--set", "d_model=16", "--set", "batch_size=4"]
# Stands for a command that ends badly; the words behind it are those of the command line.
TELLS = """
import os, sys, time
from hornbook.cli import failures
from hornbook.errors import DataError
time.sleep(0 if os.environ["RANK"] == "1" else 0.3)
print("heard from", os.environ["RANK"], file=sys.stderr, flush=True)
error = DataError("the file is empty", hint="Take another.")
failures.tell(error, error.message, error.hint, 3)
time.sleep(0.6)
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def environment():
    """On the processor; what the launcher sets is gone afterwards."""
    before = dict(os.environ)
    os.environ["HORNBOOK_DEVICE"] = "cpu"
    os.environ["HORNBOOK_PRECISION"] = "float32"
    os.environ.pop("OMP_NUM_THREADS", None)
    yield
    os.environ.clear()
    os.environ.update(before)


def hornbook(*words):
    result = CliRunner().invoke(app, [str(w) for w in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def launched(monkeypatch, capfd, script, *options):
    """`hornbook launch -n 2 train gpt`, of processes that run this script instead; code and words.

    What processes write goes past Python, so that it is read where the system puts it.
    """
    monkeypatch.setattr(launch, "_MODULE", ["-c", script])
    monkeypatch.setattr(sys, "argv", ["hornbook", "launch", "-n", "2", *options, "train", "gpt"])
    with pytest.raises(SystemExit) as ended:
        app()
    return ended.value.code or 0, capfd.readouterr().err


@pytest.mark.parametrize("other", ["serve", "launch", "data"])
def test_a_command_that_processes_do_not_share_is_refused(other):
    with pytest.raises(UnknownNameError, match=f"'{other}' is not") as refused:
        hornbook("launch", "-n", 2, other)
    assert "train, finetune, align" in refused.value.hint


def test_counting_is_refused():
    with pytest.raises(ConfigError, match="one process"):
        hornbook("launch", "-n", 2, "train", "ngram", "--data", "x")


def test_how_many_processes_is_not_guessed_on_a_processor():
    with pytest.raises(ConfigError, match="how many processes"):
        hornbook("launch", "train", "gpt", "--data", "x")


def test_a_wrong_option_is_said_once_before_anything_starts():
    told = hornbook("launch", "-n", 2, "train", "gpt", "--stepz", 3)
    assert told.exit_code == 2 and told.output.count("--stepz") == 1


def test_a_dry_run_shows_each_machine(monkeypatch):
    where = ["--machines", 2, "--main-address", "10.0.0.1", "--main-port", 4000]
    told = hornbook("launch", "-n", 3, *where, "--dry-run", "train", "gpt", "--data", "a b")
    lines = told.stdout.splitlines()
    assert "--machine-rank 1" in told.stdout and "train gpt --data 'a b'" in lines[-1]
    assert "  RANK=5 LOCAL_RANK=2" in lines and "WORLD_SIZE=6" in told.stdout
    assert "MASTER_ADDR=10.0.0.1 MASTER_PORT=4000" in told.stdout


def test_options_are_kept_in_a_file_and_named_ones_win(tmp_path):
    kept = tmp_path / "cluster.yaml"
    kept.write_text("n: 4\nmachines: 2\nmain_address: 10.0.0.1\n")
    told = hornbook("launch", "--config", kept, "-n", 1, "--dry-run", "train", "gpt")
    assert "WORLD_SIZE=2" in told.stdout
    kept.write_text("machine: 2\n")
    with pytest.raises(ConfigError, match="no setting named 'machine'"):
        hornbook("launch", "--config", kept, "-n", 1, "--dry-run", "train", "gpt")


@pytest.mark.parametrize(
    "wrong",
    [["--machines", "2"], ["--machine-rank", "1"], ["--machines", "2", "--main-address", "a"]],
    ids=["no address", "a rank too high", "no rank"],
)
def test_machines_that_could_not_meet_are_refused(wrong):
    with pytest.raises(ConfigError):
        hornbook("launch", "-n", 1, *wrong, "train", "gpt", "--data", "x")


def test_cores_are_divided_unless_threads_are_named(monkeypatch):
    def threads(*options):
        told = hornbook("launch", "-n", 2, *options, "--dry-run", "train", "gpt").stdout
        return told.partition("OMP_NUM_THREADS=")[2].split()[0]

    assert threads() == str(max(1, n_cpus() // 2))
    assert threads("--threads", 7) == "7"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads() == "5" and threads("--threads", 7) == "7"


def test_what_went_wrong_is_said_once_by_the_first_to_fail(monkeypatch, capfd):
    code, told = launched(monkeypatch, capfd, TELLS)
    assert code == 3
    assert told.count("error: the file is empty\n  hint: Take another.\n") == 1
    assert "in process 1 of 2" in told
    assert "heard from 0" in told and "heard from 1" not in told


@pytest.mark.parametrize(
    ("way", "expected"), [("os._exit(9)", 9), ("os.kill(os.getpid(), 9)", 137)]
)
def test_a_process_that_dies_without_a_word_is_named(monkeypatch, capfd, way, expected):
    last = "print('last words', file=sys.stderr, flush=True)"
    script = f"import os, sys, time\nif os.environ['RANK'] == '1': {last}; {way}\ntime.sleep(60)"
    code, told = launched(monkeypatch, capfd, script)
    assert code == expected and "error: process 1 of 2" in told and "last words" in told
    assert "Traceback" not in told and "elastic" not in told


def test_each_process_meets_on_the_loopback_only(monkeypatch, capfd):
    script = """
import os, psutil
ports = [c.laddr.ip for c in psutil.Process(os.getppid()).net_connections() if c.status == "LISTEN"]
assert ports and set(ports) == {"127.0.0.1"}, ports
assert os.environ["GLOO_SOCKET_IFNAME"] and os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "True"
"""
    assert launched(monkeypatch, capfd, script)[0] == 0


def _started(tmp_path, *words):
    command = [sys.executable, "-m", "hornbook.cli.main", "launch", "-n", "2", *map(str, words)]
    log = (tmp_path / "log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=log)


def test_a_second_ctrl_c_kills_what_does_not_end(tmp_path):
    script = f"""
import os, signal, sys, time, pathlib
from hornbook.cli import launch
from hornbook.cli.main import run
launch._MODULE = ["-c", '''
import os, pathlib, signal, time
here = pathlib.Path({str(tmp_path)!r}) / os.environ["RANK"]
signal.signal(signal.SIGINT, lambda *_: here.with_suffix(".heard").open("a").write("x"))
here.with_suffix(".pid").write_text(str(os.getpid()))
while True: time.sleep(0.05)
''']
sys.argv = ["hornbook", "launch", "-n", "2", "train", "gpt"]
run()
"""
    launcher = subprocess.Popen([sys.executable, "-c", script])
    try:
        _until(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
        time.sleep(0.3)
        launcher.send_signal(signal.SIGINT)
        _until(lambda: len(list(tmp_path.glob("*.heard"))) == 2)
        assert launcher.poll() is None  # it waits
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=20) == 130
        assert [path.read_text() for path in tmp_path.glob("*.heard")] == ["x", "x"]
        for path in tmp_path.glob("*.pid"):
            assert not psutil.pid_exists(int(path.read_text()))
    finally:
        launcher.kill()


def test_nohup_is_heeded_and_nothing_else_that_was_ignored():
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        for number in before:  # SIGINT is ignored in what a shell's script starts with `&`
            signal.signal(number, signal.SIG_IGN)
        with launcher._ended_politely():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGINT))
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.slow
def test_two_launched_processes_train_the_run_of_one_and_end_at_ctrl_c(tmp_path):
    text = tmp_path / "song.txt"
    text.write_text("".join(f"{i} green bottles, hanging on the wall.\n" for i in range(120)))
    options = ["gpt", "--data", text, *TINY]
    hornbook("train", *options, "--steps", 12, "--out", tmp_path / "one", "--quiet")
    assert (
        _started(tmp_path, "train", *options, "--steps", 12, "--out", tmp_path / "two").wait(
            timeout=200
        )
        == 0
    )
    losses = []
    for name in ("one", "two"):
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        losses.append([json.loads(line)["loss"] for line in lines if '"kind":"step"' in line])
    assert len(losses[0]) == 12 and losses[1] == pytest.approx(losses[0], rel=1e-5)

    folder = tmp_path / "long"
    launcher = _started(tmp_path, "train", *options, "--steps", 100000, "--out", folder)
    try:
        metrics = folder / "metrics.jsonl"
        _until(lambda: metrics.is_file() and metrics.stat().st_size > 500)
        launcher.send_signal(signal.SIGINT)
        assert launcher.wait(timeout=100) == 130
    finally:
        launcher.kill()
    told = (tmp_path / "log").read_text()
    assert "Traceback" not in told and told.count("ending after this step") == 1
    assert json.loads((folder / "summary.json").read_text())["status"] == "interrupted"


def _until(holds):
    end = time.monotonic() + 100
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)
