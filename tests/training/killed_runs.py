"""A tiny GPT with dropout in training, killed with SIGKILL again and again, then let finish.

    python killed_runs.py FOLDER N_KILLS SEED

Run as a program, for it forks: a child trains, resuming from what is there, and its parent kills
it at a random moment, every other time while a checkpoint is being written. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hornbook.data.windows import Windows
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.layout import Padded
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import Precision
from hornbook.training.accelerator import make_accelerator
from hornbook.training.checkpoints import latest_checkpoint, save_checkpoint
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import muon_and_adamw
from hornbook.training.schedules import Clock, cosine

N_STEPS, EVERY = 120, 3


def loss_of(model: GPT, batch: tuple[np.ndarray, np.ndarray]) -> LossSum:
    tokens, targets = map(torch.from_numpy, batch)
    logits = model.logits(model(tokens, Padded(torch.ones_like(tokens, dtype=torch.bool))))
    total = cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
    return LossSum(total, targets.numel())


def train(folder: Path) -> None:
    """Train to the end, from the newest checkpoint where there is one."""
    accelerator = make_accelerator(Precision("cpu", "float32", "for exactness"), seed=1)
    model = GPT(GPTConfig(50, 16, n_layers=2, n_heads=2, d_model=32, d_ff=64, dropout=0.1))
    optimizer = muon_and_adamw(model.named_parameters())
    tokens = np.random.default_rng(0).integers(50, size=5000)
    windows = Windows(tokens, context_length=16, batch_size=4, seed=0)
    losses: list[float] = []
    first_step = 0
    if checkpoint := latest_checkpoint(folder):
        checkpoint.load_into(model, optimizer)
        windows.restore(checkpoint.state["data"])
        losses, first_step = checkpoint.state["losses"], checkpoint.step
    for step in train_steps(
        model, loss_of, ([batch] for batch in windows), optimizer, cosine(),
        Clock(n_steps=N_STEPS), accelerator, first_step=first_step,
    ):  # fmt: skip
        losses.append(step.loss + random.random() + np.random.random())
        n_done = step.number + 1
        if n_done % EVERY == 0:
            state = {"data": windows.state(), "losses": losses}
            save_checkpoint(folder, n_done, model, optimizer, state)


def child(folder: Path) -> int:
    """Train in a process of its own; returns its id."""
    if pid := os.fork():
        return pid
    try:
        train(folder)
        os._exit(0)
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(1)


def newest(folder: Path) -> int:
    """The step of the newest checkpoint, whole or not; 0 when there is none."""
    return max((int(p.name.removeprefix("step-")) for p in folder.glob("step-*")), default=0)


def writing(folder: Path) -> bool:
    return any(folder.glob(".step-*.part/*.safetensors"))


def main(folder: Path, n_kills: int, seed: int) -> None:
    torch.set_num_threads(1)
    moments = random.Random(seed)
    start = time.monotonic()
    train(folder / "whole")
    seconds_between = (time.monotonic() - start) * EVERY / N_STEPS
    killed, steps = {"at random": 0, "while writing": 0}, []
    place = folder / "killed"
    for i in range(n_kills):
        goal = newest(place) + EVERY * moments.randrange(N_STEPS // EVERY // n_kills + 1)
        pause = moments.uniform(0, seconds_between)
        pid = child(place)
        if not wait(pid, lambda goal=goal: newest(place) >= goal):
            break
        time.sleep(pause)
        if not wait(pid, lambda i=i: i % 2 == 0 or writing(place)):
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        killed["while writing" if writing(place) else "at random"] += 1
        steps.append(newest(place))
    _, status = os.waitpid(child(place), 0)
    print(json.dumps({"killed": killed, "steps": steps, "exit": status}))


def wait(pid: int, until: Callable[[], bool]) -> bool:
    """Wait for a thing to happen; False when the child has ended before."""
    while not until():
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.0005)
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
