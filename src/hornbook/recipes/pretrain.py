"""Pretrain a trunk on texts for a number of seconds: batches, optimiser, schedule, loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hornbook.data.batching import endless_batches
from hornbook.nn.losses import LossSum
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, cosine


@dataclass(frozen=True)
class Settings:
    """What is usual for small models: a high rate, a short warm-up, some decay."""

    lr: float = 1e-3
    weight_decay: float = 0.1
    warm_up: float = 0.05
    tokens_per_step: int = 1024  # small: in a minute the number of steps is what is scarce
    max_epochs: int = 40


def pretrain(
    model: nn.Module,
    loss_of: Callable[[nn.Module, Any], LossSum],
    collate: Callable[[Sequence[Sequence[int]], str], Any],
    documents: Sequence[Sequence[int]],
    *,
    seconds: float,
    settings: Settings,
    seed: int,
    report: Callable[..., None] = lambda *told: None,
) -> float:
    """Train in place until the time is up; returns the loss, averaged over recent steps (nats).

    documents: token ids each. collate: (documents of a batch, device) -> what `loss_of` takes.
    """
    accelerator = make_accelerator(seed=seed)
    device = accelerator.device.type
    model.to(device)
    groups = decay_groups(
        model.named_parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    lengths = [len(d) for d in documents]
    steps_per_epoch = max(1, sum(lengths) // settings.tokens_per_step)
    clock = Clock(n_steps=steps_per_epoch * settings.max_epochs, seconds=max(1.0, seconds))

    def batches():
        for _, indices in endless_batches(lengths, settings.tokens_per_step, seed):
            yield [collate([documents[i] for i in indices], device)]

    average = 0.0
    for step in train_steps(
        model,
        loss_of,
        batches(),
        adamw(groups, betas=(0.9, 0.98)),
        cosine(settings.warm_up, floor=0.05),
        clock,
        accelerator,
    ):
        share = max(0.02, 1 / (step.number + 1))
        if not step.refused:
            average += share * (step.loss - average)
        if step.number % 5 == 0:
            epoch = 1 + step.number // steps_per_epoch
            report(f"pretraining, epoch {epoch}, loss {average:.2f}")
    return average
