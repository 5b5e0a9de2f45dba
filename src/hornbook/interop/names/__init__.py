"""Foreign weight names, one reversible table a family, and nowhere else.

A row says which of our tensors is made of which of theirs: one to one, several of theirs end to end
along the first axis (queries, keys, values), or transposed (GPT-2 stores matrices the other way).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hornbook.errors import CheckpointError


@dataclass(frozen=True)
class Row:
    """shares: how the rows of our tensor divide among theirs, in proportion; equally when None."""

    ours: str
    theirs: tuple[str, ...]
    transposed: bool = False
    shares: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Family:
    """Everything that is needed to read and write one kind of model folder.

    architecture: what config.json calls it; further names for the same are in `also`. make: our
    config -> an empty model. table: our config -> rows for the model's whole state. tidy: their
    weights -> those that the table names, without copies, buffers and parts of other heads.
    copies: our config -> tensors of theirs that repeat another in a model of this config.
    """

    model_type: str
    architecture: str
    make: Callable[[Any], nn.Module]
    table: Callable[[Any], list[Row]]
    config_to_ours: Callable[[dict[str, Any]], Any]
    config_to_theirs: Callable[[Any], dict[str, Any]]
    tidy: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict
    also: tuple[str, ...] = ()
    copies: Callable[[Any], Mapping[str, str]] = lambda config: {}


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
        shares = row.shares or (1,) * len(row.theirs)
        unit = len(weights[row.ours]) // sum(shares)
        parts = weights[row.ours].split([unit * share for share in shares])
        for name, part in zip(row.theirs, parts, strict=True):
            theirs[name] = (part.T if row.transposed else part).contiguous()
    return theirs


def without_copies(weights: dict[str, Tensor], copies: Mapping[str, str]) -> dict[str, Tensor]:
    """Drop tensors that repeat another (copy -> original). Raises CheckpointError when one differs.

    A head that is not its embedding's copy would otherwise be lost without a word.
    """
    for copy, original in copies.items():
        if copy not in weights or original not in weights:
            continue
        if not torch.equal(weights[copy], weights[original]):
            raise CheckpointError(
                f"{copy} should be {original} once more, and is not",
                hint="The model has a head of its own, which this family does not.",
            )
    return {name: tensor for name, tensor in weights.items() if name not in copies}


def under(prefix: str, rows: list[Row], theirs: str = "") -> list[Row]:
    """The same rows for a model that is a part of another, here and there."""
    return [
        Row(prefix + r.ours, tuple(theirs + n for n in r.theirs), r.transposed, r.shares)
        for r in rows
    ]


def refuse_unless(config: Mapping[str, Any], **wanted: object) -> None:
    """Raise CheckpointError naming each setting of a config.json that a family cannot follow.

    A setting that is absent has the value wanted: it is then the format's default.
    """
    wrong = [
        f"{name} is {config[name]!r}, not {value!r}"
        for name, value in wanted.items()
        if config.get(name, value) != value
    ]
    if wrong:
        raise CheckpointError(
            "config.json asks for what this family does not do: " + "; ".join(wrong),
            hint="Its weights would load and give other logits. Use the library that made it.",
        )


def rotary_base(config: Mapping[str, Any], default: float = 10000.0) -> float:
    """The base of a config.json's rotary angles. Raises CheckpointError for scaled angles.

    Old files have `rope_theta` (and `rope_scaling`), newer ones `rope_parameters`.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    refuse_unless(rope, rope_type="default", type="default")
    return float(rope.get("rope_theta") or config.get("rope_theta") or default)
