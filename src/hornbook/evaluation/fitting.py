"""Which changes make a run smaller; first those that leave its result as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from hornbook.records import ClusterRecord

if TYPE_CHECKING:
    from hornbook.evaluation.plan import Recipe

_SAVING = "gradient_checkpointing=true"
Alternative = tuple[str, "Recipe", ClusterRecord]


def alternatives(recipe: Recipe, cluster: ClusterRecord) -> Iterator[Alternative]:
    """(what to change, the recipe so changed, the cluster so changed)."""
    micro = recipe.micro(cluster.n_devices)
    smaller = [m for m in _halves(micro) if recipe.batch_size % (m * cluster.n_devices) == 0]
    checkpointed = replace(recipe, gradient_checkpointing=True)
    for n in smaller:
        yield f"micro_batch_size={n}", replace(recipe, micro_batch_size=n), cluster
    for n in [micro, *smaller]:
        words = _SAVING if n == micro else f"{_SAVING}, micro_batch_size={n}"
        yield words, replace(checkpointed, micro_batch_size=n), cluster
    least = smaller[-1] if smaller else micro
    leanest = replace(checkpointed, micro_batch_size=least)
    sharded = cluster.n_devices > 1 and cluster.sharding == "fsdp"  # which would cut its blocks
    if recipe.optimizer == "adamw" and not sharded:
        words = "optimizer=adamw-8bit"
        yield words, replace(recipe, optimizer="adamw-8bit"), cluster
        small = replace(leanest, optimizer="adamw-8bit")
        yield f"{words}, {_SAVING}, micro_batch_size={least}", small, cluster
    for length in _halves(recipe.context, least=64):
        words = f"context_length={length}, {_SAVING}, micro_batch_size={least}"
        yield words, replace(leanest, length=length), cluster
    if cluster.n_devices > 1 and not sharded and recipe.optimizer != "adamw-8bit":
        parts = cluster.model_copy(update={"sharding": "fsdp"})
        yield "FSDP", recipe, parts
        yield f"FSDP, {_SAVING}, micro_batch_size={least}", leanest, parts


def _halves(n: int, least: int = 1) -> list[int]:
    found = []
    while n % 2 == 0 and n // 2 >= least:
        n //= 2
        found.append(n)
    return found
