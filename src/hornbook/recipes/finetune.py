"""Fine-tune a text classifier inside a number of seconds: measure, plan, probe, train.

1. Measure the speed of a forward and of a training pass on this machine, on these texts.
2. Plan: how many tokens of a text to read, and how many lower blocks to freeze, so that the time
   suffices for the passes wanted over the data. What is frozen is computed once and kept.
3. Probe: set the head by logistic regression on the frozen vectors, so that training starts from
   a good classifier and not from noise (Kumar et al. 2022, "Fine-Tuning can Distort Pretrained
   Features", LP-FT).
4. Train, with the learning rate at its bottom when the time is up; keep the best by validation.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hornbook.data.batching import endless_batches
from hornbook.models.bert import Bert
from hornbook.models.gpt import GPT
from hornbook.nn.layout import Ragged
from hornbook.tasks.classification import (
    Batch,
    Pool,
    TextClassifier,
    collate,
    loss_of,
    rows_over,
    run_over,
)
from hornbook.tasks.probe import fit_probe, folded, standardize
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.rows import by_rows
from hornbook.training.schedules import Clock, linear

Trunk = Bert | GPT

CUTS = (256, 192, 128, 96, 64, 48, 32)  # tokens read of a text
LAST_CUTS = (24, 16)  # for a time that is too short for anything else
CACHE_BYTES = 2**31  # the frozen part's outputs may take 2 GiB


@dataclass(frozen=True)
class Settings:
    """Learning rate: of the trunk; the head's is `head_lr_scale` times that."""

    lr: float = 3e-4
    head_lr_scale: float = 10.0
    weight_decay: float = 0.01
    warm_up: float = 0.1
    tokens_per_step: int = 2048
    max_epochs: int = 8
    probe_c: float = 0.003  # strong: a head that knows the training texts by heart teaches nothing
    passes_wanted: float = 1.5  # over the training texts; the plan reads less of each to get there
    passes_needed: float = 0.15  # less than that teaches nothing
    may_freeze: bool = True  # whether half of the blocks may stay as they are, to save time
    n_checks: int = 4  # validations on the way, the last one at the end


@dataclass(frozen=True)
class Plan:
    """What fits: tokens read of each text, blocks frozen below, passes over the data expected."""

    max_tokens: int
    n_frozen: int
    n_passes: float


@dataclass(frozen=True)
class Speed:
    """Tokens per second through all blocks: forward alone, and forward, backward and step."""

    forward: float
    training: float


class _Upper(nn.Module):
    """The blocks above a frozen lower part, as a trunk: hidden states in, hidden states out."""

    def __init__(self, whole: Trunk, n_frozen: int) -> None:
        super().__init__()
        self.whole = whole
        self.n_frozen = n_frozen

    def forward(self, hidden: Tensor, layout: Ragged) -> Tensor:
        return self.whole.upper(hidden.float(), layout, self.n_frozen)


def measure_speed(model: TextClassifier, documents: Sequence[Sequence[int]]) -> Speed:
    """Time one batch of about 1,024 tokens each way, after a warm-up. Gradients are thrown away."""
    batch_indices = next(endless_batches([len(d) for d in documents], 1024, seed=0))[1]
    batch = collate([documents[i] for i in batch_indices])
    n_tokens = len(batch.inputs)

    def forward() -> None:
        with torch.inference_mode():
            model(batch)

    def training() -> None:
        model(batch).sum().backward()
        model.zero_grad(set_to_none=True)

    return Speed(*(n_tokens / _seconds(run) for run in (forward, training)))


def _seconds(run: Callable[[], None]) -> float:
    """The lesser of two runs: a moment in which another program had the cores must not decide."""
    run()  # the first call builds kernels
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def make_plan(
    lengths: Sequence[int],
    speed: Speed,
    seconds: float,
    n_blocks: int,
    d_model: int,
    longest: int = CUTS[0],
    *,
    passes_wanted: float = Settings.passes_wanted,
    passes_needed: float = Settings.passes_needed,
    may_freeze: bool = True,
) -> Plan:
    """Read as much of each text, and freeze as little, as leaves time for the passes wanted.

    Freezing half of the blocks comes first, reading less second. Only a few words of each are read
    where even the passes needed would not fit otherwise. lengths: tokens of each text; longest:
    what the model can read.
    """
    best = Plan(CUTS[-1], 0, 0.0)
    for max_tokens in [longest, *(cut for cut in CUTS + LAST_CUTS if cut < longest)]:
        if max_tokens in LAST_CUTS and best.n_passes >= passes_needed:
            break
        n_tokens = sum(min(n, max_tokens) for n in lengths)
        for n_frozen in (0, n_blocks // 2) if may_freeze else (0,):
            if n_frozen and 2 * n_tokens * d_model > CACHE_BYTES:
                continue
            encoding = n_tokens / speed.forward
            a_pass = n_tokens / speed.training * (1 - n_frozen / n_blocks)
            n_passes = (0.95 * seconds - encoding) / a_pass
            if n_passes >= passes_wanted:
                return Plan(max_tokens, n_frozen, n_passes)
            if n_passes > best.n_passes:
                best = Plan(max_tokens, n_frozen, n_passes)
    return best


def finetune(
    trunk: Trunk,
    pool: Pool,
    documents: Sequence[Sequence[int]],
    targets: Tensor,
    n_labels: int,
    validation: Sequence[Sequence[int]],
    score: Callable[[Tensor], float],
    *,
    n_frozen: int,
    seconds: float,
    settings: Settings,
    seed: int,
    report: Callable[..., None] = lambda *told: None,
    prepare: Callable[[Trunk, int], None] = lambda trunk, n_frozen: None,
) -> TextClassifier:
    """Probe, then train; returns the classifier with its best weights.

    trunk: has `lower`, `upper`, `blocks`. documents, validation: token ids, already cut. targets:
    (N,) class ids or (N, L) floats. score: validation logits (M, L) -> higher is better. prepare:
    what to do to the trunk before training, e.g. attach adapters above the frozen blocks.
    """
    start = time.monotonic()
    accelerator = make_accelerator(seed=seed)
    device = accelerator.device.type
    d_model = trunk.config.d_model
    classifier = TextClassifier(trunk, pool=pool, d_model=d_model, n_labels=n_labels).to(device)
    classifier.eval()
    upper = classifier
    rows: Sequence[Sequence[int] | Tensor] = documents
    held_out: Sequence[Sequence[int] | Tensor] = validation
    if n_frozen:
        rows = _lower_outputs(trunk, documents, n_frozen, device, report)
        held_out = _lower_outputs(trunk, validation, n_frozen, device, report)
        upper = TextClassifier(
            _Upper(trunk, n_frozen), pool=pool, d_model=d_model, n_labels=n_labels
        )
        freeze_lower(trunk, n_frozen)

    def scores(of: Sequence[Sequence[int] | Tensor]) -> Tensor:
        upper.eval()
        with accelerator.autocast():
            return run_over(upper, of, device=device)

    report("probe")
    with accelerator.autocast():
        features = run_over(upper.features, rows, device=device)
    standard, mean, std = standardize(features)
    probe = fit_probe(standard, targets, n_labels, c=settings.probe_c)
    upper.head = folded(probe, mean, std).to(device)
    classifier.head = upper.head
    prepare(trunk, n_frozen)
    best, best_score = _copy_of(upper), score(scores(held_out))
    report("probe", best_score)

    optimizer = adamw(
        decay_groups(
            upper.named_parameters(),
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            lr_scale=lambda name: settings.head_lr_scale if name.startswith("head") else 1.0,
        )
    )
    lengths = [len(row) for row in rows]
    steps_per_epoch = max(1, sum(lengths) // settings.tokens_per_step)
    clock = Clock(
        n_steps=steps_per_epoch * settings.max_epochs,
        seconds=max(1.0, seconds - (time.monotonic() - start)),
    )

    def batches():
        for _, indices in endless_batches(lengths, settings.tokens_per_step, seed):
            yield [collate([rows[i] for i in indices], targets[indices], device)]

    check = 1
    with by_rows(upper):
        for step in train_steps(
            upper, loss_of, batches(), optimizer, linear(settings.warm_up), clock, accelerator
        ):
            if step.number % 5 == 0:
                report(f"epoch {1 + step.number // steps_per_epoch}, loss {step.loss:.3f}")
            if step.progress >= check / settings.n_checks:
                check = int(step.progress * settings.n_checks) + 1
                best, best_score = _better(upper, score(scores(held_out)), best, best_score)
                report("validated", best_score)
    best, best_score = _better(upper, score(scores(held_out)), best, best_score)
    report("validated", best_score)
    upper.load_state_dict(best)
    trunk.requires_grad_(True)
    return classifier.eval()


def freeze_lower(trunk: Trunk, n_frozen: int) -> None:
    """Only the blocks from `n_frozen` on, and a norm after them, stay trainable."""
    for name, parameter in trunk.named_parameters():
        part, _, rest = name.partition(".")
        in_upper = part == "blocks" and int(rest.partition(".")[0]) >= n_frozen
        parameter.requires_grad_(in_upper or part == "norm")


def _lower_outputs(
    trunk: Trunk,
    documents: Sequence[Sequence[int]],
    n_frozen: int,
    device: str,
    report: Callable[..., None],
) -> list[Tensor]:
    """Each document's hidden states (T, E) after the frozen blocks, kept in bfloat16."""

    def split(batch: Batch) -> list[Tensor]:
        hidden = trunk.lower(batch.inputs, batch.layout, n_frozen)
        return list(hidden.to(torch.bfloat16).cpu().split(batch.layout.lengths))

    return rows_over(
        split,
        documents,
        device=device,
        progress=lambda done, n: report(f"lower blocks {100 * done // n} %"),
    )


def _copy_of(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: t.detach() for name, t in model.state_dict().items()})


def _better(
    model: nn.Module, score: float, best: dict[str, Tensor], best_score: float
) -> tuple[dict[str, Tensor], float]:
    return (_copy_of(model), score) if score > best_score else (best, best_score)
