"""A few steps on a copy of the model, before the first one that counts: memory, time, and whether
one batch can be learnt at all.

Memory is counted before anything large is made: weights, gradients and AdamW's moments by their
numbers, activations by what a small batch keeps for the way back, times the tokens of a step.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.data.item_batches import ItemBatches
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import Precision
from hornbook.nn.rounds import FEWEST_LEARNT
from hornbook.recipes.adaptation import compares
from hornbook.recipes.adaptation_advice import advice
from hornbook.recipes.adaptation_settings import ADAPTERS, AdaptSettings
from hornbook.recipes.rates import make_optimizer, width
from hornbook.records import AdaptPlanRecord, MemoryRecord
from hornbook.tasks.task import Finding, Task
from hornbook.training.adamw_8bit import moments_bytes, state_bytes
from hornbook.training.memory import keep_freed_memory

SMALL, PROBED = 256, 512  # tokens of a batch to memorise, and of one that is timed
USABLE = 0.92  # of the free memory, as `evaluation.plan` has it
FORWARD = 1 / 3  # a forward pass' share of a step
FEWEST = 20  # steps on one batch, before it is said that it is not learnt
SLACK = 1.25  # of activations: what the heap and the backward pass hold besides

_PLAIN = Precision("cpu", "float32", "nobody asked for another")


@dataclass(frozen=True)
class Rehearsal:
    """What is rehearsed. precision: where and in which numbers the run will learn. n_validation:
    tokens of an evaluation; n_looks: how many times it is read over the run. available: bytes of
    memory that are free."""

    model: nn.Module
    task: Task
    items: Sequence[Any]
    settings: AdaptSettings
    precision: Precision = _PLAIN
    n_validation: int = 0
    n_looks: int = 0
    available: int | None = None

    @property
    def device(self) -> str:
        return self.precision.device

    def loss(self, model: nn.Module, batch: Any) -> LossSum:
        """In the numbers that the run learns in."""
        dtype = self.precision.torch_dtype
        with torch.autocast(self.device, dtype, enabled=dtype != torch.float32):
            return self.task.loss(model, batch)


@dataclass(frozen=True)
class Rehearsed:
    """The plan, and what was found on the way to it."""

    plan: AdaptPlanRecord
    findings: tuple[Finding, ...]


def rehearse(run: Rehearsal, *, seconds: float = 20.0) -> Rehearsed:
    """Count the memory; where it suffices, time steps and learn a batch by heart, on a copy.

    seconds: about the most that this may take. The model is as before afterwards, on the device
    that it will learn on.
    """
    keep_freed_memory()  # as the run's own steps do, which are timed here
    available = _available(run.device) if run.available is None else run.available
    budget = round(USABLE * available)
    small = batch_of(run, SMALL)
    kept = Kept(0.0)
    if _weights(run.model) <= budget:
        run.model.to(run.device)
        if begin := getattr(run.task, "begin", None):
            begin(run.model, small, device=run.device, progress=None)
        kept = activation_bytes(run, small)
    settings = run.settings
    memory = _memory(run, kept, settings.micro_batches)
    plan = _plan(run, memory, available)
    if memory.total > budget:
        changes = _changes(run, kept, budget)
        plan = plan.model_copy(update={"fits": False, "changes": changes})
        return Rehearsed(plan, (_too_small(plan, memory, budget),))
    if memory.total + memory.weights > budget:  # no room for a copy beside what is needed
        return Rehearsed(plan, ())
    began = time.monotonic()
    trial = copy.deepcopy(run.model)
    with _same_numbers(trial):
        pace = _pace(run, trial, seconds / 2)
        found = _memorise(run, trial, small, seconds - (time.monotonic() - began))
    return Rehearsed(_timed(run, plan, pace), found)


def batch_of(run: Rehearsal, n_tokens: int) -> list[Any]:
    """The first items, so many tokens of them, two at least; where all are long, short ones."""
    items = list(run.items)
    if sum(run.task.length(item) for item in items[:2]) > n_tokens:
        items = sorted(items, key=run.task.length)
    chosen: list[Any] = []
    for item in items:
        if len(chosen) >= 2 and sum(map(run.task.length, [*chosen, item])) > n_tokens:
            break
        chosen.append(item)
    return chosen


@dataclass(frozen=True)
class Kept:
    """Bytes kept for the way back. token: of each token read, logits aside; logits: of each token
    read, where they are all made at once; most_logits: what they come to at most."""

    token: float
    logits: float = 0.0
    most_logits: float = 0.0


def activation_bytes(run: Rehearsal, items: Sequence[Any]) -> Kept:
    """What a batch keeps for the way back; weights are not counted."""
    held: dict[int, int] = {}
    logits: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in run.model.parameters()}
    shapes = {p.shape for p in run.model.parameters()}  # gradients made on the way forward
    config = getattr(getattr(run.model, "trunk", run.model), "config", None)
    vocab_size = getattr(config, "vocab_size", None)

    def keep(x: Tensor) -> Tensor:
        place = x.untyped_storage().data_ptr()
        if place not in weights and x.shape not in shapes:
            which = logits if x.ndim and x.shape[-1] == vocab_size else held
            which[place] = x.untyped_storage().nbytes()
        return x

    was_training = run.model.training
    run.model.train()
    batch = run.task.collate(items, run.device)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        run.loss(run.model, batch)
    run.model.train(was_training)
    n_tokens = sum(map(run.task.length, items))
    most = 3 * 4 * FEWEST_LEARNT * (vocab_size or 0)  # logits, softmax, gradient of a round
    return Kept(sum(held.values()) / n_tokens, sum(logits.values()) / n_tokens, most)


# Memory


def _memory(
    run: Rehearsal, kept: Kept, micro_batches: int, *, n_trained: int | None = None
) -> MemoryRecord:
    """Bytes when most are held. n_trained: how many numbers an adapter to come will have."""
    weights, in_8_bits = _weights(run.model), run.settings.optimizer == "adamw-8bit"
    moments = moments_bytes(run.model) if n_trained is None else state_bytes(n_trained)
    if n_trained is None:
        n_trained = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    n_tokens = _most_tokens(run, micro_batches)
    parts = {
        "weights": weights,
        "gradients": 4 * n_trained,
        "optimizer": moments if in_8_bits else 8 * n_trained,
        "activations": round(SLACK * kept.token * n_tokens),
        "head": round(min(SLACK * kept.logits * n_tokens, kept.most_logits)),
    }
    return MemoryRecord(**parts, working=0, total=sum(parts.values()))


def _weights(model: nn.Module) -> int:
    held = [*model.parameters(), *model.buffers()]
    return sum(x.numel() * x.element_size() for x in held)


def _most_tokens(run: Rehearsal, micro_batches: int) -> int:
    """Tokens of the largest micro-batch."""
    settings = run.settings
    lengths = [run.task.length(item) for item in run.items]
    longest = max(lengths)
    if settings.examples_per_step:
        return -(-settings.examples_per_step // micro_batches) * longest
    return max(longest, settings.tokens_per_step // micro_batches)


def _changes(run: Rehearsal, kept: Kept, budget: int) -> list[str]:
    """Settings that would fit, those that leave the result as it is first."""
    settings, found = run.settings, []
    per_step = settings.examples_per_step or len(run.items)
    micro = settings.micro_batches * 2
    while micro <= min(64, per_step) and not compares(run.task):
        if (total := _memory(run, kept, micro).total) <= budget:
            found.append(f"--set micro_batches={micro} (the same result): {_mb(total)}")
            break
        micro *= 2
    if not settings.gradient_checkpointing and kept.token:
        n_blocks = max(
            (len(part) for part in run.model.modules() if isinstance(part, nn.ModuleList)),
            default=0,
        )
        if n_blocks > 1:
            fewer = replace(kept, token=kept.token * 2 / n_blocks)
            total = _memory(run, fewer, settings.micro_batches).total
            if total <= budget:
                found.append(f"--set gradient_checkpointing=true (slower by a third): {_mb(total)}")
    if settings.optimizer == "adamw":
        packed = replace(run, settings=settings.model_copy(update={"optimizer": "adamw-8bit"}))
        if (total := _memory(packed, kept, settings.micro_batches).total) <= budget:
            found.append(f"--set optimizer=adamw-8bit (a slower update): {_mb(total)}")
    n_all = sum(p.numel() for p in run.model.parameters())
    if settings.method not in ADAPTERS:
        total = _memory(run, kept, settings.micro_batches, n_trained=n_all // 50).total
        if total <= budget:
            found.append(f"--method lora: {_mb(total)}")
    if settings.method != "qlora":
        total = _memory(run, kept, settings.micro_batches, n_trained=n_all // 50).total
        total -= round(3.4 * n_all)  # 4 bits and their scales instead of 32
        if total <= budget:
            found.append(f"--method qlora: {_mb(total)}")
    return found or ["a smaller model: no setting tried makes this one fit"]


def _too_small(plan: AdaptPlanRecord, memory: MemoryRecord, budget: int) -> Finding:
    return Finding(
        "memory",
        "stop",
        f"it needs {_mb(memory.total)}, {_mb(budget)} can be had (weights {_mb(memory.weights)}, "
        f"gradients and optimiser {_mb(memory.gradients + memory.optimizer)}, activations "
        f"{_mb(memory.activations + memory.head)})",
        "The system would end the run.",
        "What would fit: " + "; ".join(plan.changes) + ".",
    )


def _available(device: str) -> int:
    import psutil

    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


# Time


@dataclass(frozen=True)
class _Pace:
    """Seconds of a token, forward and backward, and of an update of the weights."""

    token: float
    update: float


def _pace(run: Rehearsal, trial: nn.Module, seconds: float) -> _Pace:
    """Two or three steps on the trial model; the first one warms up."""
    items = batch_of(run, PROBED)
    n_tokens = sum(map(run.task.length, items))
    optimizer = make_optimizer(trial, run.settings)
    trial.train()
    tokens, updates = [], []
    began = time.monotonic()
    for i in range(3):
        start = time.perf_counter()
        loss = run.loss(trial, run.task.collate(items, run.device))
        (loss.total / max(1, loss.n_targets)).backward()
        _wait(run.device)
        middle = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad()
        _wait(run.device)
        tokens.append((middle - start) / n_tokens)
        updates.append(time.perf_counter() - middle)
        if i and time.monotonic() - began > seconds / 2:
            break
    return _Pace(min(tokens[1:]), min(updates[1:]))


def _wait(device: str) -> None:
    """A graphics card is handed its work, and does it later."""
    if device == "cuda":
        torch.cuda.synchronize()


def _plan(run: Rehearsal, memory: MemoryRecord, available: int) -> AdaptPlanRecord:
    """The plan as far as it is known without a measurement."""
    parameters = list(run.model.parameters())
    n_trained = sum(p.numel() for p in parameters if p.requires_grad)
    return AdaptPlanRecord(
        model=run.settings.model,
        method=run.settings.method,
        n_parameters=sum(p.numel() for p in parameters),
        n_trained=n_trained,
        n_steps=0,
        n_tokens=0,
        seconds=0.0,
        tokens_per_second=0.0,
        memory=memory,
        memory_available=available,
        fits=True,
        advice=advice(
            run.settings, len({item.source for item in run.items}), d_model=width(run.model)
        ),
    )


def _timed(run: Rehearsal, plan: AdaptPlanRecord, pace: _Pace) -> AdaptPlanRecord:
    settings = run.settings
    lengths = [run.task.length(item) for item in run.items]
    batches = ItemBatches(
        lengths,
        tokens_per_batch=settings.tokens_per_step,
        items_per_batch=settings.examples_per_step,
        seed=settings.seed,
        n_parts=settings.micro_batches,
    )
    per_step = sum(lengths) / batches.n_batches
    a_step = per_step * pace.token + pace.update
    looking = run.n_looks * run.n_validation * FORWARD * pace.token
    if settings.time is not None:
        n_steps = max(1, round((settings.time - min(looking, 0.2 * settings.time)) / a_step))
        seconds = settings.time
    else:
        n_steps = settings.steps or max(1, round((settings.epochs or 1) * batches.n_batches))
        seconds = n_steps * a_step + looking
    return plan.model_copy(
        update={
            "n_steps": n_steps,
            "n_tokens": round(n_steps * per_step),
            "seconds": seconds,
            "tokens_per_second": per_step / a_step,
        }
    )


# One batch by heart


def _memorise(
    run: Rehearsal, trial: nn.Module, items: Sequence[Any], seconds: float
) -> tuple[Finding, ...]:
    """Train the copy on one small batch until its loss is a quarter of what it was."""
    batch = run.task.collate(items, run.device)
    losses: list[float] = []
    began = time.monotonic()
    for factor in (3.0, 30.0):
        trial.load_state_dict(run.model.state_dict())
        optimizer = make_optimizer(trial, run.settings, factor)
        trial.eval()  # without dropout
        losses = []
        while len(losses) < 60:
            loss = run.loss(trial, batch)
            mean = loss.total / max(1, loss.n_targets)
            losses.append(float(mean.detach()))
            if losses[-1] < max(0.05, 0.25 * losses[0]):
                return ()
            if not math.isfinite(losses[-1]) or time.monotonic() - began > seconds:
                break
            mean.backward()
            optimizer.step()
            optimizer.zero_grad()
    on_its_way = losses[-1] < 0.8 * losses[0] or (
        math.isfinite(losses[-1]) and len(losses) < FEWEST
    )
    if on_its_way:  # and the time is up
        return ()
    return (
        Finding(
            "one-batch",
            "warn",
            f"{len(items)} examples are not learnt by heart: their loss went from {losses[0]:.3g} "
            f"to {losses[-1]:.3g} in {len(losses)} steps",
            "What can't learn a few examples won't learn many.",
            "Look at the targets with --show-masks; try --method full, or a higher lr.",
        ),
    )


@contextmanager
def _same_numbers(model: nn.Module) -> Iterator[None]:
    """The random state is as it was afterwards: a run doesn't depend on its rehearsal."""
    state = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(state)


def _mb(n_bytes: float) -> str:
    return f"{n_bytes / 1e6:,.0f} MB" if n_bytes < 1e9 else f"{n_bytes / 1e9:.2f} GB"
