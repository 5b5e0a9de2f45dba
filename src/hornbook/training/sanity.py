"""Can the model learn one batch by heart? If not, something is broken, and this says what.

A model that cannot memorise a single batch will learn nothing from a corpus (Karpathy 2019, "A
Recipe for Training Neural Networks", step 2). Seconds here save hours there.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hornbook.errors import TrainingError
from hornbook.nn.losses import IGNORE, LossSum
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import AnyOptimizer
from hornbook.training.schedules import Clock

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Trial:
    """What is to be memorised, and how.

    make_optimizer(model, factor): the run's own, with all learning rates times the factor. goal: in
    nats per target.
    """

    model: nn.Module
    loss_of: Callable[[nn.Module, Any], LossSum]
    batch: Any
    make_optimizer: Callable[[nn.Module, float], AnyOptimizer]
    accelerator: Accelerator
    n_steps: int = 300
    goal: float = 0.05


@dataclass(frozen=True)
class Memorised:
    """What came of it. Losses in nats per target; infinite where it was not a number."""

    n_steps: int
    first_loss: float
    loss: float
    idle: tuple[str, ...] = ()  # trained weights that got no gradient in the end


def memorise(trial: Trial) -> Memorised:
    """Learn the batch, without dropout, until its loss is below the goal; the model stays as it is.

    Raises TrainingError with the likely cause when the steps don't get there. What can be tried is
    tried: a tenth and ten times of the learning rate, and all weights free.
    """
    _check_targets(trial)
    found = _attempt(trial)
    if found.loss < trial.goal:
        return found
    cause, hint = _cause(trial, found)
    raise TrainingError(
        f"one batch is not learnt by heart: its loss is {found.loss:.3g} after {found.n_steps} "
        f"steps, was {found.first_loss:.3g}, should be below {trial.goal}. {cause}",
        hint=hint,
    )


def check_next_tokens(tokens: Tensor, targets: Tensor) -> None:
    """Raise TrainingError unless each row's targets are its tokens, one place on. Both (B, T).

    Targets shifted by another number of places are learnt without complaint, and the model that
    comes of it is of no use.
    """
    if _agreement(tokens, targets, 1) == 1:
        return
    for shift in (0, -1, 2, -2):
        if _agreement(tokens, targets, shift) > 0.9:
            place = "the tokens themselves" if shift == 0 else f"the tokens {shift:+d} places on"
            raise TrainingError(
                f"the targets are {place}, not the next ones",
                hint="targets[:, i] must be tokens[:, i + 1]: check where they are cut.",
            )
    raise TrainingError(
        f"{1 - _agreement(tokens, targets, 1):.0%} of the targets are not the next token",
        hint="targets[:, i] must be tokens[:, i + 1], or IGNORE where a document ends.",
    )


def _agreement(tokens: Tensor, targets: Tensor, shift: int) -> float:
    """The share of targets that are the token `shift` places on."""
    n = tokens.shape[1]
    first, last = max(0, -shift), min(n, n - shift)
    mine, theirs = targets[:, first:last], tokens[:, first + shift : last + shift]
    counted = mine != IGNORE
    return float((mine == theirs)[counted].float().mean()) if counted.any() else 1.0


@torch.no_grad()
def _check_targets(trial: Trial) -> None:
    try:
        loss = trial.loss_of(trial.model, trial.batch)
    except IndexError as error:
        raise TrainingError(
            f"a token or target lies outside the model's vocabulary ({error})",
            hint="Was the model made for this tokenizer? Compare vocab_size with the largest id.",
        ) from error
    if loss.n_targets == 0:
        raise TrainingError(
            "the batch has no targets: all are to be ignored",
            hint="Look at it with `hornbook data peek`; documents of one token have no next one.",
        )


def _cause(trial: Trial, found: Memorised) -> tuple[str, str]:
    """The likely cause, and what to do about it."""
    parameters = list(trial.model.parameters())
    n_frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    share = n_frozen / sum(p.numel() for p in parameters)
    if share == 1:
        return "All weights are frozen", "Set requires_grad on those that are to be trained."
    if found.idle:
        names = ", ".join(found.idle[:5])
        return (
            f"No gradient reaches {len(found.idle)} of the trained weights ({names})",
            "Is a part left out of the forward pass, or cut off by detach or no_grad?",
        )
    for factor, wrong in ((0.1, "high"), (10.0, "low")):
        if _attempt(trial, factor=factor).loss < trial.goal:
            return (
                f"The learning rate is too {wrong}: at {factor:g} times of it, it is learnt",
                f"Multiply the learning rate by {factor:g}.",
            )
    if share and _attempt(trial, free=True).loss < trial.goal:
        return (
            f"{share:.0%} of the weights are frozen; with all of them free it is learnt",
            "Train more of them.",
        )
    return (
        "Other learning rates don't help: either the same input has several targets (shifted, "
        "shuffled or hidden ones), or the model is too small",
        "Look at the batch with `hornbook data peek`; try a wider model.",
    )


def _attempt(trial: Trial, *, factor: float = 1.0, free: bool = False) -> Memorised:
    """Train a copy on the batch alone."""
    model = _without_dropout(copy.deepcopy(trial.model))
    if free:
        model.requires_grad_(True)
    if not any(p.requires_grad for p in model.parameters()):
        with torch.no_grad():
            sums = trial.loss_of(model, trial.batch)
        mean = float(sums.total) / sums.n_targets
        return Memorised(0, mean, mean)
    optimizer = trial.make_optimizer(model, factor)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = Memorised(0, math.inf, math.inf)
    steps = train_steps(
        model,
        trial.loss_of,
        repeat([trial.batch]),
        optimizer,
        lambda progress: 1.0,
        Clock(n_steps=trial.n_steps),
        trial.accelerator,
    )
    try:
        for step in steps:
            loss = step.loss if math.isfinite(step.loss) else math.inf
            first = found.first_loss if found.n_steps else loss
            found = Memorised(step.number + 1, first, loss)
            if loss < trial.goal:
                return found
    except TrainingError:
        return replace(found, loss=math.inf)
    idle = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and torch.equal(p, before[name])
    ]
    return replace(found, idle=tuple(idle))


def _without_dropout(model: nn.Module) -> nn.Module:
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(getattr(part, "dropout", None), float):
            setattr(part, "dropout", 0.0)  # noqa: B010 (what the type checker knows of a module)
    return model
