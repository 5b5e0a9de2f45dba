"""One change as peft keeps it, of one matrix; ours of a fused layer made of several, and back.

peft's scale is alpha / r, or alpha / sqrt(r), either its own for a module by a pattern of names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hornbook.adapters.dora import Dora
from hornbook.adapters.fused import Part
from hornbook.adapters.low_rank import LowRank, LowRankConfig
from hornbook.errors import CheckpointError

PREFIX = "base_model.model."


@dataclass(frozen=True)
class Piece:
    """The change of one of their matrices: scale * b a."""

    a: Tensor
    b: Tensor
    scale: float
    magnitude: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        both = {"lora_A.weight": self.a, "lora_B.weight": self.b}
        return both if self.magnitude is None else both | {"lora_magnitude_vector": self.magnitude}


def piece_of(change: LowRank, base: Any, begin: int, end: int) -> Piece | None:
    """What a change does to rows begin ... end, as one change: the A's of the parts that lie there
    over one another, their B's along a diagonal."""
    inside = [
        (part, a, b)
        for part, a, b in zip(change.parts, *change.by_part(), strict=True)
        if part.begin < end and part.end > begin
    ]
    if not inside:
        return None
    rank = change.config.rank
    b_all = change.b.new_zeros(end - begin, rank * len(inside))
    for i, (part, _, b) in enumerate(inside):
        low, high = max(begin, part.begin), min(end, part.end)
        own = slice(i * rank, (i + 1) * rank)
        b_all[low - begin : high - begin, own] = b[low - part.begin : high - part.begin].detach()
    magnitude = None
    if isinstance(change, Dora):
        lengths = base.weight.detach().float().norm(dim=1)
        at = torch.cat([torch.arange(p.begin, p.end) for p in change.parts])
        lengths[at] = change.magnitude.detach()
        magnitude = lengths[begin:end]
    a_all = torch.cat([a for _, a, _ in inside]).detach()
    return Piece(a_all, b_all, change.config.scale, magnitude)


def pieces_and_others(
    weights: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, Piece], dict[str, Tensor]]:
    """The changes by their modules, and what else there is: modules that were saved whole."""
    found: dict[str, dict[str, Tensor]] = {}
    others: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        name = key.removeprefix(PREFIX)
        match = re.fullmatch(r"(.+)\.lora_(A|B|magnitude_vector)(\.weight)?", name)
        if match:
            found.setdefault(match[1], {})[match[2]] = tensor
        else:
            others[name] = tensor
    pieces = {}
    for module, t in found.items():
        if not {"A", "B"} <= t.keys() or (
            bool(config.get("use_dora")) != ("magnitude_vector" in t)
        ):
            raise CheckpointError(
                f"the adapter's tensors for {module} are not whole: {sorted(t)}",
                hint="Copy or save it again.",
            )
        rank = len(t["A"])
        alpha = _by_pattern(config, "alpha_pattern", "lora_alpha", module)
        if rank != _by_pattern(config, "rank_pattern", "r", module):
            raise CheckpointError(
                f"{module} has a change of rank {rank}, and adapter_config.json says another",
                hint="The two files are not of the same adapter.",
            )
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        pieces[module] = Piece(t["A"], t["B"], scale, t.get("magnitude_vector"))
    return pieces, others


def _by_pattern(config: Mapping[str, Any], patterns: str, usual: str, module: str) -> float:
    for pattern, value in (config.get(patterns) or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return float(value)
    return float(config[usual])


def change_of(
    name: str, base: Any, found: list[tuple[Part, Piece]], config: Mapping[str, Any]
) -> LowRank:
    """One change of our layer from theirs of its parts. Smaller ranks are filled up with zeros, and
    other scales go into B: the numbers stay."""
    rank, scale = max(len(p.a) for _, p in found), found[0][1].scale
    stabilized = bool(config.get("use_rslora"))
    shape = LowRankConfig(
        rank,
        scale * (math.sqrt(rank) if stabilized else rank),
        float(config.get("lora_dropout") or 0.0),
        stabilized,
    )
    for part, piece in found:
        wanted = (part.end - part.begin, base.in_features)
        if (len(piece.b), piece.a.shape[1]) != wanted:
            raise CheckpointError(
                f"the change of {name} is of a layer {(len(piece.b), piece.a.shape[1])}, this one "
                f"is {wanted}",
                hint=f"It is for '{config.get('base_model_name_or_path')}'.",
            )
    kind = Dora if config.get("use_dora") else LowRank
    change = kind(base, shape, [part for part, _ in found])
    missing = [rank - len(p.a) for _, p in found]
    with torch.no_grad():
        change.a.copy_(
            torch.cat([_padded(p.a, m, 0) for (_, p), m in zip(found, missing, strict=True)])
        )
        scaled = [p.b * (p.scale / scale) for _, p in found]
        change.b.copy_(torch.cat([_padded(b, m, 1) for b, m in zip(scaled, missing, strict=True)]))
        if isinstance(change, Dora):
            change.magnitude.copy_(torch.cat([p.magnitude for _, p in found]))  # type: ignore
    return change


def _padded(tensor: Tensor, n: int, dim: int) -> Tensor:
    shape = [n if i == dim else size for i, size in enumerate(tensor.shape)]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim)
