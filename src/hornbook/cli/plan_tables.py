"""A plan in words: what is printed before a run starts, and by `hornbook plan`."""

from __future__ import annotations

from collections.abc import Iterator

from hornbook.config import format_duration
from hornbook.records import PlanRecord

_SHARDING = {"none": "", "ddp": ", DDP", "fsdp": ", FSDP"}


def plan_lines(plan: PlanRecord) -> Iterator[str]:
    """One quantity a line, aligned; the verdict and what to change at the end."""
    memory, cluster = plan.memory, plan.cluster
    yield _row("model", f"{plan.model}, {plan.n_parameters:,} parameters")
    batch = f"{plan.batch_size:,} x {plan.context_length:,} tokens a step"
    n_passes = plan.batch_size // (plan.micro_batch_size * cluster.n_devices)
    if n_passes > 1:
        batch += f", in {n_passes} micro-batches of {plan.micro_batch_size}"
    yield _row("tokens", f"{plan.n_tokens:,} in {plan.n_steps:,} steps ({batch})")
    yield _row("computing", f"{plan.flops:.3g} FLOPs, {plan.flops_per_token:.4g} a token")
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "activations": memory.activations,
        "loss": memory.head,
        "counts": memory.counts,
        "other": memory.working,
    }
    listed = ", ".join(f"{name} {bytes_in_words(n)}" for name, n in parts.items() if n)
    where = " a device" if cluster.n_devices > 1 else ""
    yield _row("peak memory", f"{bytes_in_words(memory.total)}{where} ({listed})")
    yield _row(
        "time",
        f"{format_duration(plan.seconds)}, {plan.tokens_per_second:,.0f} tokens/s",
    )
    devices = f"{cluster.n_devices} x {cluster.device}" if cluster.n_devices > 1 else cluster.device
    speed = cluster.matrix_speed
    in_words = f"{speed / 1e12:,.3g} TFLOP/s" if speed >= 1e12 else f"{speed / 1e9:,.0f} GFLOP/s"
    yield _row(
        "on",
        f"{devices}{_SHARDING[cluster.sharding]}, {plan.precision}, {in_words} "
        f"{cluster.speed_source}, {cluster.utilisation:.0%} of it used",
    )
    if plan.cost is not None:
        yield _row(
            "cost",
            f"{plan.cost:,.2f} {cluster.currency} "
            f"({cluster.n_devices * plan.seconds / 3600:,.1f} device hours at "
            f"{cluster.price_per_hour:g})",
        )
    for note in plan.notes:
        yield _row("note", note)
    yield _row("verdict", plan.verdict)
    for change in plan.changes:
        yield _row("try", change)


def bytes_in_words(n_bytes: float) -> str:
    """Bytes as a person reads them: 950 kB, 12 MB, 1.31 GB, 33.5 GB."""
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 999.5:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.2f} GB" if amount < 10 else f"{amount:,.1f} GB"


def _row(name: str, text: str) -> str:
    return f"{name:<12} {text}"
