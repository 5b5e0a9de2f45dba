"""Foreign weight names, one reversible table a family, and nowhere else.

A row says which of our tensors is made of which of theirs: one to one, several of theirs end to end
along the first axis (queries, keys, values), or transposed (GPT-2 stores matrices the other way).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hornbook.errors import CheckpointError


@dataclass(frozen=True)
class Row:
    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False


def to_ours(
    weights: Mapping[str, Tensor], table: list[Row], shapes: Mapping[str, torch.Size]
) -> dict[str, Tensor]:
    """Rename their tensors to ours. Every key accounted for, every shape equal, or one error.

    shapes: our model's. Raises CheckpointError listing what is missing, unexpected or misshapen.
    """
    known = {name for row in table for name in row.theirs}
    problems = [f"missing {name}" for name in sorted(known - weights.keys())]
    problems += [f"unexpected {name}" for name in sorted(weights.keys() - known)]
    ours: dict[str, Tensor] = {}
    for row in table:
        if not all(name in weights for name in row.theirs):
            continue
        parts = [weights[name].T if row.transposed else weights[name] for name in row.theirs]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        if tensor.shape != shapes[row.ours]:
            expected = tuple(shapes[row.ours])
            problems.append(f"{' + '.join(row.theirs)} is {tuple(tensor.shape)}, not {expected}")
        ours[row.ours] = tensor.contiguous()
    if problems:
        raise CheckpointError(
            "the weights do not fit the architecture: " + "; ".join(problems),
            hint="Is this a checkpoint of the family and size that its config.json names?",
        )
    return ours


def to_theirs(weights: Mapping[str, Tensor], table: list[Row]) -> dict[str, Tensor]:
    """The way back: our tensors under their names, as `to_ours` reads them."""
    theirs: dict[str, Tensor] = {}
    for row in table:
        parts = (
            weights[row.ours].chunk(len(row.theirs)) if len(row.theirs) > 1 else [weights[row.ours]]
        )
        for name, part in zip(row.theirs, parts, strict=True):
            theirs[name] = (part.T if row.transposed else part).contiguous()
    return theirs
