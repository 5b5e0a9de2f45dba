"""Every recipe of adaptation by two processes (gloo, on the processor) is what it is by one."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapting_processes import AT_ONCE, CASES, N_STEPS, all_losses, losses

from hornbook.errors import ConfigError
from hornbook.recipes.kinds import KINDS

SCRIPT = Path(__file__).with_name("adapting_processes.py")


def _spawned(folder):
    """Two processes as torchrun would start them, without what it loads itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env=os.environ | place | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, told = process.communicate(timeout=200)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()


def _launched(folder):
    launcher = shutil.which("accelerate", path=Path(sys.executable).parent)
    if launcher is None:
        pytest.skip("accelerate's command is not beside this Python")
    how = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]  # gloo without a card
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [launcher, "launch", *how, *plain, str(SCRIPT), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr


def test_no_task_is_forgotten():
    assert CASES.keys() == set(KINDS)


@pytest.mark.parametrize("name", ["embed", "kto"])
def test_parts_of_a_step_are_refused_where_they_would_learn_something_else(name, tmp_path):
    with pytest.raises(ConfigError, match=rf"'{name}' compares"):
        losses(name, tmp_path, parts_of_a_step=2)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(_spawned, marks=pytest.mark.slow),
        pytest.param(_launched, marks=pytest.mark.long),
    ],
    ids=["torchrun", "launch"],
)
def test_two_processes_are_one_in_every_task(tmp_path, start):
    n_threads = torch.get_num_threads()
    expected = all_losses(tmp_path / "one")
    torch.set_num_threads(n_threads)
    start(tmp_path)
    first, second = (json.loads((tmp_path / f"rank-{r}.json").read_text()) for r in range(2))
    assert first == second
    wrong = {}
    for name, steps in expected.items():
        assert len(steps) == N_STEPS
        if not torch.allclose(torch.tensor(first[name]), torch.tensor(steps), rtol=1e-4, atol=1e-5):
            wrong[name] = (first[name], steps)
    assert not wrong
    refused = tmp_path / "spoilt" / "classify" / "refused" / "step-00000001"
    kept = [json.loads((refused / f"process-{r}/examples.json").read_text()) for r in range(2)]
    sources = [row["source"] for part in kept for row in part]
    assert len(set(sources)) == len(sources) == AT_ONCE  # each keeps its share of a lost batch
