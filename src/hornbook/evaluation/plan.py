"""What a training run will take, before it is started: parameters, FLOPs, memory, time, cost.

The rules, N parameters in matrices, L layers, width d, context T:

    parameters       counted on a model of shapes without numbers: exact
    FLOPs a token    6 N + 12 L d T: two for each multiply-add, once forward and twice backward
                     (Kaplan et al. 2020, section 2.1; Chowdhery et al. 2022, appendix B). The
                     plan's figure is counted operation by operation in a dry run
    weights          4 N bytes, and as many of gradients; AdamW two more numbers each, Muon one,
                     AdamW in 8 bits two bytes and a share of its blocks' scales
    activations      what the dry run keeps for backward, at this batch, context and number format
    time, here       FLOPs at the rate that a shallow copy of the model reaches, measured; on a
                     stated cluster: FLOPs / (speed x utilisation)

`plan` works these out for one processor or for a cluster on paper; `check` puts the actual figures
beside them after the run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from torch import nn

from hornbook.errors import ConfigError
from hornbook.evaluation.dry_run import MAPPED, Cost, dry_run
from hornbook.evaluation.fitting import alternatives
from hornbook.evaluation.optimizing import Optimizer, optimizer_bytes, update_seconds
from hornbook.evaluation.speed import Speed, measure_speed
from hornbook.evaluation.steps import step_of
from hornbook.models.presets import count_parameters, outline
from hornbook.records import ClusterRecord, MemoryRecord, PlanCheck, PlanRecord

# Measured, benchmarks/plan.py: glibc's heap over the activations in it, and what the matrix library
# keeps for itself.
HEAP_SLACK = 0.45
WORKSPACE = {"float32": 4_000_000, "bfloat16": 12_000_000, "float16": 12_000_000}
USABLE = 0.92  # of a device's memory: the rest is the driver's, the allocator's, other programs'


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained and how, as far as it decides what a run takes.

    batch_size: sequences in an optimiser step, over all devices. micro_batch_size: at once on one
    device; None for as many as the batch gives each. length: tokens of a sequence; None for the
    model's context. counts: bytes of n-gram counts that the model stands on; counting: of
    all that is held while they are made, before the first step.
    """

    family: str
    config: Any
    n_tokens: int
    batch_size: int
    micro_batch_size: int | None = None
    length: int | None = None
    precision: str = "float32"
    gradient_checkpointing: bool = False
    optimizer: Optimizer = "adamw"
    counts: int = 0
    counting: int = 0

    @property
    def context(self) -> int:
        context: int = getattr(self.config, "context_length", 1)
        return context if self.length is None else self.length

    def micro(self, n_devices: int) -> int:
        return self.micro_batch_size or max(1, math.ceil(self.batch_size / n_devices))


def rule_of_thumb(n_parameters: float, bits: int = 32, overhead: float = 1.2) -> float:
    """Bytes to hold a model for use: P * 4 * (bits / 32) * 1.2; 13B in 16 bits takes 31.2 GB."""
    return n_parameters * 4 * bits / 32 * overhead


def flops_per_token(n_matrix_parameters: float, n_layers: int, d_model: int, length: int) -> float:
    """6 N + 12 L d T, forward and backward; the masked half of attention is counted."""
    return 6 * n_matrix_parameters + 12 * n_layers * d_model * length


def matrix_parameters(model: nn.Module) -> int:
    """N of the rule: weights of linear layers, and the embedding where it is the head as well."""
    linear = [part for part in model.modules() if isinstance(part, nn.Linear)]
    n = sum(part.weight.numel() for part in linear)
    tokens = [p.numel() for name, p in model.named_parameters() if name.endswith("tokens.weight")]
    vocab_size: Any = getattr(getattr(model, "config", None), "vocab_size", None)
    has_head = any(part.out_features == vocab_size for part in linear)
    return n if has_head else n + sum(tokens)


def this_machine(
    recipe: Recipe, *, device: str = "cpu", available: int | None = None
) -> tuple[ClusterRecord, Speed]:
    """This machine as a cluster of one, and its speed at the recipe's sizes; takes half a second.

    available: bytes a run may use; None for what is free now.
    """
    speed = measure_speed(
        step_of(recipe.family),
        recipe.config,
        batch_size=recipe.micro(1),
        length=recipe.context,
        dtype=recipe.precision,
        device=device,
    )
    if available is None:
        available = _free_bytes(device)
    cluster = ClusterRecord(
        n_devices=1,
        device=device,
        sharding="none",
        device_bytes=available,
        matrix_speed=speed.peak,
        utilisation=speed.reached / speed.peak,
        speed_source="measured",
    )
    return cluster, speed


def plan(recipe: Recipe, cluster: ClusterRecord, speed: Speed | None = None) -> PlanRecord:
    """Work a run out. speed: measured on the one device of the cluster; None to trust the
    cluster's stated utilisation. Raises ConfigError for a batch that can't be divided as asked."""
    micro = recipe.micro(cluster.n_devices)
    if micro * cluster.n_devices > recipe.batch_size:
        raise ConfigError(
            f"a batch of {recipe.batch_size} cannot give {cluster.n_devices} devices {micro} each",
            hint=f"Take a batch of {micro * cluster.n_devices} or more.",
        )
    if recipe.batch_size % (micro * cluster.n_devices):
        raise ConfigError(
            f"a batch of {recipe.batch_size} is not whole micro-batches of {micro} on "
            f"{cluster.n_devices} devices",
            hint=f"Take a multiple of {micro * cluster.n_devices}.",
        )
    if recipe.optimizer == "adamw-8bit" and cluster.sharding == "fsdp" and cluster.n_devices > 1:
        raise ConfigError(
            "adamw-8bit keeps its moments in blocks, which FSDP would cut",
            hint="Take adamw, whose moments FSDP divides by the devices, or DDP.",
        )
    model = outline(recipe.family, recipe.config)
    n = count_parameters(model)
    cost = _cost(recipe, micro, cluster)
    per_pass = micro * recipe.context
    per_step = recipe.batch_size * recipe.context
    n_steps = max(1, math.ceil(recipe.n_tokens / per_step))
    n_tokens = n_steps * per_step
    useful = cost
    if recipe.gradient_checkpointing:
        useful = _cost(_without(recipe), micro, cluster)
    per_token = useful.flops / per_pass
    if speed is None:
        rate = cluster.n_devices * cluster.matrix_speed * cluster.utilisation
        seconds = n_tokens * cost.flops / per_pass / rate
    else:
        n_passes = recipe.batch_size // micro
        a_pass = max(per_pass, cost.flops) / speed.reached
        a_step = n_passes * a_pass + update_seconds(model, recipe.optimizer, speed)
        seconds = n_steps * a_step
        reached = per_token * n_tokens / seconds / cluster.matrix_speed
        cluster = cluster.model_copy(update={"utilisation": min(1.0, reached)})
    memory = memory_of(recipe, cluster, model, cost)
    budget = USABLE * cluster.device_bytes
    fits = memory.total <= budget
    changes = [] if fits else list(_changes(recipe, cluster, model, budget))
    price = cluster.price_per_hour
    return PlanRecord(
        model=recipe.family,
        n_parameters=n,
        vocab_size=recipe.config.vocab_size,
        context_length=recipe.context,
        batch_size=recipe.batch_size,
        micro_batch_size=micro,
        n_steps=n_steps,
        n_tokens=n_tokens,
        flops_per_token=per_token,
        flops=per_token * n_tokens,
        precision=recipe.precision,
        gradient_checkpointing=recipe.gradient_checkpointing,
        memory=memory,
        seconds=seconds,
        tokens_per_second=n_tokens / seconds,
        cost=None if price is None else price * cluster.n_devices * seconds / 3600,
        cluster=cluster,
        fits=fits,
        verdict=_verdict(memory.total, budget, cluster),
        changes=changes,
        notes=_notes(recipe, cluster, model, memory, per_token),
        settings=dataclasses.asdict(recipe.config),
    )


def memory_of(
    recipe: Recipe, cluster: ClusterRecord, model: nn.Module, cost: Cost | None = None
) -> MemoryRecord:
    """Bytes of one device when most are held: at the loss, or when the last gradient is there."""
    n, n_devices, micro = (
        count_parameters(model),
        cluster.n_devices,
        recipe.micro(cluster.n_devices),
    )
    cost = cost or _cost(recipe, micro, cluster)
    weights, gradients, optimizer = 4 * n, 4 * n, optimizer_bytes(model, recipe.optimizer)
    buckets = gathered = casts = 0
    if cluster.sharding == "ddp" and n_devices > 1:
        buckets = gradients  # DDP sends copies of the gradients
    elif cluster.sharding == "fsdp" and n_devices > 1:
        number = 4 if recipe.precision == "float32" else 2
        # Two blocks are whole at a time, one computed on and one fetched; the embedding always.
        outside = n - sum(p.numel() for part in _stacks(model) for p in part.parameters())
        block = max((sum(p.numel() for p in b.parameters()) for b in _blocks(model)), default=0)
        gathered = number * (outside + 2 * block)
        casts = 0 if number == 4 else number * sum(p.numel() for p in _block_matrices(model))
        weights, gradients, optimizer = (
            math.ceil(x / n_devices) for x in (weights, gradients, optimizer)
        )
    held = cost.weights  # the dry run's own share of weights, which is whole
    heap = HEAP_SLACK * cost.trunk_heap if _keeps_heap(recipe, cluster) else 0.0
    trunk = max(0.0, cost.trunk - casts)
    accumulates = recipe.batch_size > micro * n_devices
    at_loss = max(cost.forward_peak, cost.early_peak) - held - cost.trunk
    late = max(0.0, cost.late_peak - held - cost.gradients)
    other = heap + buckets + gathered + WORKSPACE[recipe.precision]
    early = [weights, gradients if accumulates else 0, optimizer, trunk, at_loss, other]
    # A kept heap has not shrunk by then: gradients of 32 MiB and more are mapped beside it.
    kept = cost.trunk_heap if _keeps_heap(recipe, cluster) else 0.0
    mapped = sum(4 * p.numel() for p in model.parameters() if 4 * p.numel() >= MAPPED)
    last = [weights, gradients, optimizer, min(kept, mapped), 0, late + other]
    parts = [round(part) for part in max(early, last, key=sum)]
    return MemoryRecord(
        weights=parts[0],
        gradients=parts[1],
        optimizer=parts[2],
        activations=parts[3],
        head=parts[4],
        working=parts[5],
        counts=recipe.counts,
        total=max(sum(parts) + recipe.counts, recipe.counting),
        activations_per_layer=round(trunk / max(1, len(_blocks(model)))),
    )


def check(
    planned: PlanRecord, *, seconds: float, n_tokens: int, peak_bytes: int | None = None
) -> list[PlanCheck]:
    """The plan beside what happened. seconds: of training steps; peak_bytes: growth of memory."""
    pairs: list[tuple[str, Any, float, float]] = [
        ("tokens", "tokens", planned.n_tokens, n_tokens),
        ("time", "seconds", planned.seconds * n_tokens / planned.n_tokens, seconds),
        ("speed", "tokens/s", planned.tokens_per_second, n_tokens / seconds),
        (
            "share of matrix peak",
            "share",
            planned.cluster.utilisation,
            planned.flops_per_token
            * n_tokens
            / seconds
            / (planned.cluster.matrix_speed * planned.cluster.n_devices),
        ),
    ]
    if peak_bytes is not None:
        pairs.append(("peak memory", "bytes", planned.memory.total, peak_bytes))
    return [
        PlanCheck(
            quantity=name,
            unit=unit,
            predicted=predicted,
            actual=actual,
            error=(predicted - actual) / actual if actual else None,
        )
        for name, unit, predicted, actual in pairs
    ]


def _cost(recipe: Recipe, micro: int, cluster: ClusterRecord) -> Cost:
    sharded = cluster.sharding == "fsdp" and cluster.n_devices > 1
    return dry_run(
        step_of(recipe.family, sharded=sharded),
        recipe.config,
        batch_size=micro,
        length=recipe.context,
        dtype=recipe.precision,
        gradient_checkpointing=recipe.gradient_checkpointing,
    )


def _without(recipe: Recipe) -> Recipe:
    return dataclasses.replace(recipe, gradient_checkpointing=False)


def _stacks(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, nn.ModuleList)]


def _blocks(model: nn.Module) -> list[nn.Module]:
    return [block for stack in _stacks(model) for block in stack.children()]


def _block_matrices(model: nn.Module) -> Iterator[nn.Parameter]:
    return (p for block in _blocks(model) for p in block.parameters() if p.ndim >= 2)


def _keeps_heap(recipe: Recipe, cluster: ClusterRecord) -> bool:
    """Whether freed memory stays with the process: not where checkpointing has it returned."""
    return cluster.device == "cpu" and not recipe.gradient_checkpointing


def _free_bytes(device: str) -> int:
    import psutil
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


def _verdict(total: int, budget: float, cluster: ClusterRecord) -> str:
    where = "this machine" if cluster.n_devices == 1 else f"each of {cluster.n_devices} devices"
    needs = f"{_gb(total)} of the {_gb(budget)} that {where} can give"
    return f"It fits: {needs}." if total <= budget else f"It does not fit: it needs {needs}."


def _changes(
    recipe: Recipe, cluster: ClusterRecord, model: nn.Module, budget: float
) -> Iterator[str]:
    """At most three settings that fit, those that leave the result as it is first."""
    states, found = _state_bytes(model, recipe), 0
    for words, other, machines in alternatives(recipe, cluster):
        n_parts = machines.n_devices if machines.sharding == "fsdp" else 1
        if _state_bytes(model, other) / n_parts > budget:
            continue
        total = memory_of(other, machines, model).total
        if total <= budget:
            yield f"{words}: {_gb(total)}"
            found += 1
        if found == 3:
            return
    if not found and states > budget:
        n_devices = math.ceil(1.25 * states / budget)
        with_fsdp = f", or {n_devices} such devices with FSDP"
        yield (
            f"a smaller model{'' if recipe.optimizer == 'adamw-8bit' else with_fsdp}: weights, "
            f"gradients and optimiser alone take {_gb(states)}"
        )
    elif not found:
        yield "a smaller model: no batch, context or checkpointing tried makes this one fit"


def _state_bytes(model: nn.Module, recipe: Recipe) -> int:
    """Weights, gradients and the optimiser's moments."""
    return 8 * count_parameters(model) + optimizer_bytes(model, recipe.optimizer)


def _notes(
    recipe: Recipe, cluster: ClusterRecord, model: nn.Module, memory: MemoryRecord, counted: float
) -> list[str]:
    config = recipe.config
    notes = []
    if hasattr(config, "n_layers"):
        rule = flops_per_token(
            matrix_parameters(model), config.n_layers, config.d_model, recipe.context
        )
        notes.append(
            f"The rule 6 N + 12 L d T gives {rule:.4g} FLOPs a token, {rule / counted:.1%}"
            " of what was counted."
        )
    if not memory.gradients:
        notes.append(
            f"Gradients take {_gb(4 * count_parameters(model))} once the activations "
            "have gone, which is less than the peak."
        )
    if recipe.gradient_checkpointing and cluster.device == "cpu":
        notes.append(
            "With gradient checkpointing freed memory has to be given back at once "
            "(training.memory.return_freed_memory), or glibc's heap keeps it."
        )
    if cluster.sharding == "ddp" and cluster.n_devices > 1:
        notes.append(
            "DDP keeps a copy of the gradients to send; gradient_as_bucket_view spares it."
        )
    return notes


def _gb(n_bytes: float) -> str:
    if n_bytes < 1e9:
        return f"{n_bytes / 1e6:.0f} MB"
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes < 1e10 else f"{n_bytes / 1e9:.1f} GB"
