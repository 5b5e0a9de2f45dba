"""What runs have learnt from, and whether examples are fair to judge or to compare them by.

A seed divides the data: to a run of another seed most of a test part is what it learnt by heart,
and rows that were added since divide the old ones anew. So a run's training part is made again as
it was, held against the hash in its summary.json, and the evaluated examples are looked for in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornbook.errors import ConfigError, HornbookError
from hornbook.evaluation.evaluate import hash_of
from hornbook.recipes.divisions import Division, key_of
from hornbook.tasks.task import Parts

TOLD = 0.01  # the share of learnt examples from which on figures are doubted


@dataclass(frozen=True)
class Learnt:
    """What a run learnt from. keys: what each example says. changed: whether by the hash in its
    summary.json the data are others now. unknown: why it can't be told at all."""

    keys: frozenset[str] = frozenset()
    changed: bool = False
    unknown: str = ""

    def among(self, examples: Sequence[Any]) -> list[bool]:
        """Which of these it learnt from (N,)."""
        return [key_of(example) in self.keys for example in examples]


def learnt_by(
    run: Path, settings: Mapping[str, Any], task: str, known: Mapping[Division, Parts] | None = None
) -> Learnt:
    """What a run learnt from. known: divisions that have been made already."""
    division = Division.of(settings, task)
    if division is None:
        return Learnt(unknown="its config.yaml does not name its data")
    try:
        parts = (known or {}).get(division) or division.parts()
    except HornbookError as error:
        return Learnt(unknown=error.message)
    then = hash_of_training(run)
    changed = then is not None and then != hash_of(parts.train)
    return Learnt(frozenset(map(key_of, parts.train)), changed)


def hash_of_training(run: Path) -> str | None:
    """The hash of the training part, as summary.json has it; None where it has none."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
        return str(summary["hashes"]["training examples"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def doubts(name: str, learnt: Learnt, examples: Sequence[Any], *, own: bool) -> list[str]:
    """Sentences on why a run's figures on these examples may be too good; none where all is well.

    own: whether the examples are of the data that it was trained on.
    """
    if learnt.unknown:
        if own:
            return []
        return [f"Whether {name} learnt from any of these can't be told: {learnt.unknown}."]
    said = []
    if learnt.changed and own:
        said.append(
            f"The data have changed since {name} was trained on them (its summary.json has another "
            "hash of the training part): they are divided anew, and examples that it learnt from "
            "may be among these. The figures are not to be reported."
        )
    n = sum(learnt.among(examples))
    if n > TOLD * len(examples):
        said.append(
            f"{n:,} of these {len(examples):,} examples are, word for word, in the training part "
            f"of {name}: the figures are too good."
        )
    return said


def refuse_unfair(
    names: tuple[str, str], learnt: tuple[Learnt, Learnt], examples: Sequence[Any]
) -> None:
    """Refuse a comparison on examples that one of the two learnt from and the other did not.

    Up to a hundredth is let be: parts that came with the data often share a few.
    Raises ConfigError.
    """
    hint = (
        "Train both with the same --seed on the same data, or compare them on examples that "
        "neither has seen: --data D --on all."
    )
    ours, theirs = (one.among(examples) for one in learnt)
    apart = [sum(a and not b for a, b in zip(*two)) for two in ((ours, theirs), (theirs, ours))]
    for name, n in zip(names, apart, strict=True):
        if n > TOLD * len(examples):
            raise ConfigError(
                f"{n:,} of these {len(examples):,} examples are in the training part of {name} "
                "alone: the comparison would be in its favour",
                hint=hint,
            )


def refuse_changed(name: str, learnt: Learnt) -> None:
    """Refuse a comparison on data of which nobody knows any more what the run learnt from.

    Raises ConfigError.
    """
    if learnt.changed:
        raise ConfigError(
            f"the data have changed since {name} was trained on them (its summary.json has another "
            "hash of the training part): it may have learnt from examples of this comparison",
            hint="Put them back as they were, or compare on examples that neither has seen: "
            "--data D --on all.",
        )
