"""Two processes (gloo, on the processor) train as one does, and take each other's checkpoints."""

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
from many_processes import HALF, losses
from torch import nn

SCRIPT = Path(__file__).with_name("many_processes.py")


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
            _, told = process.communicate(timeout=120)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()


def _launched(folder):
    launcher = shutil.which("accelerate", path=Path(sys.executable).parent)
    if launcher is None:
        pytest.skip("accelerate's command is not beside this Python")
    # On a machine without a graphics card --multi_gpu means gloo; with --cpu, accelerate 1.15
    # starts one process whatever --num_processes says, unless there is mpirun.
    how = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    plain = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    command = [launcher, "launch", *how, *plain, str(SCRIPT), str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "start", [_spawned, pytest.param(_launched, marks=pytest.mark.long)], ids=["torchrun", "launch"]
)
def test_two_processes_are_one_and_take_its_checkpoints(tmp_path, start):
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = losses(save=tmp_path / "one")
    start(tmp_path)
    first, second = (json.loads((tmp_path / f"rank-{r}.json").read_text()) for r in range(2))
    assert first == second
    expected = torch.tensor(one)
    assert expected[-1, 0] < expected[0, 0]
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(torch.tensor(first["ddp in rounds"]), expected, **close)
    for way in ("ddp", "fsdp"):
        torch.testing.assert_close(torch.tensor(first[way]), expected, **close)
        resumed = torch.tensor(first[f"{way} resumed"])
        torch.testing.assert_close(resumed, expected[HALF:], **close)
        back = torch.tensor(losses(resume=tmp_path / way))
        torch.testing.assert_close(back, expected[HALF:], **close)
    torch.set_num_threads(n_threads)


def test_the_checkpoints_of_all_ways_hold_the_same_names(tmp_path):
    """What DDP and torch.compile put before names does not reach the file."""
    from hornbook.training.checkpoints import latest_checkpoint, save_checkpoint

    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    model = nn.Linear(2, 3)
    save_checkpoint(tmp_path, 1, Wrapped(model), torch.optim.AdamW(model.parameters()), {})
    other = nn.Linear(2, 3)
    latest_checkpoint(tmp_path).load_into(other)
    assert torch.equal(model.weight, other.weight)
