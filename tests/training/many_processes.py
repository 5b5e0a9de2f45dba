"""Train a tiny GPT by as many processes as there are, in every way there is; resume what one left.

    torchrun --nproc-per-node 2 many_processes.py FOLDER      (or accelerate launch)

FOLDER/one holds a checkpoint that one process wrote. Each process writes rank-R.json: for each way
the losses of a whole run, and those of a run resumed from FOLDER/one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from hornbook.data.windows import Windows
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn import rounds
from hornbook.nn.precision import Precision
from hornbook.tasks.language_modeling import LanguageModel, NextTokenBatch, loss_of, windows
from hornbook.training.accelerator import WithLoss, make_accelerator, own_loss, spread
from hornbook.training.checkpoints import latest_checkpoint, save_checkpoint
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import muon_and_adamw
from hornbook.training.schedules import Clock, cosine

N_STEPS, HALF = 8, 4


def losses(
    *,
    sharded: bool = False,
    in_rounds: bool = False,
    save: Path | None = None,
    resume: Path | None = None,
):
    """Losses and gradient norms of each step, of a run that saves, or goes on from, the middle."""
    accelerator = make_accelerator(Precision("cpu", "float32", "for exactness"), seed=1)
    config = GPTConfig(50, 16, n_layers=2, n_heads=2, d_model=32, d_ff=64)
    model, loss = LanguageModel(GPT(config)), loss_of
    if in_rounds:  # of nine rows
        rounds.MOST, rounds.FEWEST_LEARNT, rounds.FEWEST_FROZEN = 1, 9, 9
        model, loss = WithLoss(model, loss_of), own_loss
    model = spread(model, accelerator, sharded=sharded)
    optimizer = muon_and_adamw(model.named_parameters(), lr=0.003, weight_decay=0.1)
    reader = Windows(
        np.random.default_rng(0).integers(50, size=999),
        context_length=16,
        batch_size=12,
        seed=0,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
    )
    first_step = 0
    if resume:
        checkpoint = latest_checkpoint(resume)
        assert checkpoint
        checkpoint.load_into(model, optimizer)
        reader.restore(checkpoint.state)
        first_step = checkpoint.step
    found = []
    for step in train_steps(
        model, loss, micro_batches(reader), optimizer, cosine(), Clock(n_steps=N_STEPS),
        accelerator, first_step=first_step,
    ):  # fmt: skip
        found.append((step.loss, step.gradient_norm))
        if save and step.number + 1 == HALF:
            save_checkpoint(save, HALF, model, optimizer, reader.state())
    return found


def micro_batches(reader: Windows) -> Iterator[list[NextTokenBatch]]:
    """Three a step, and in each, on each process, another number of targets."""
    for tokens, targets in reader:
        some = np.where(tokens % 3 == 0, -100, targets)
        pieces = [torch.from_numpy(x).chunk(3) for x in (tokens, some)]
        yield [windows(*piece) for piece in zip(*pieces, strict=True)]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found = {}
    for way, sharded in (("ddp", False), ("fsdp", True)):
        found[way] = losses(sharded=sharded, save=folder / way)
        found[f"{way} resumed"] = losses(sharded=sharded, resume=folder / "one")
    found["ddp in rounds"] = losses(in_rounds=True)
    rank = torch.distributed.get_rank()
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
