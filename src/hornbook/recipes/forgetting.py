"""What a model forgets of one kind of texts while it learns another.

A task may name examples that are measured beside its own (`beside`): before the run, with the
weights it begins with, and with those that are kept at its end. The difference is paired: the same
examples, each against itself. All of validation is measured before the run too, as at its end: on
the way a part of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from hornbook.evaluation.evaluate import SURE, Assessed, assess, compared, with_intervals
from hornbook.records import DifferenceRecord, ForgettingRecord


@dataclass(frozen=True)
class Before:
    """How a model did before it learnt anything: on a task's further examples, if it names any, and
    the values of its metrics on all of validation."""

    name: str
    examples: Sequence[Any]
    assessed: Assessed | None
    validation: dict[str, float]


def before(model: nn.Module, task: Any, validation: Sequence[Any], *, device: str) -> Before | None:
    """None for a task without such examples. Takes the model to the device."""
    if not hasattr(task, "beside"):
        return None
    name, examples = task.beside()
    model.to(device)
    held_out = assess(model, task, validation, device=device)
    return Before(
        name,
        examples,
        assess(model, task, examples, device=device) if examples else None,
        {metric.name: metric.value for metric in held_out.metrics},
    )


def forgotten(
    begun: Before | None, model: nn.Module, task: Any, *, device: str
) -> ForgettingRecord | None:
    """The same examples once more, and what became of each metric."""
    if begun is None or begun.assessed is None:
        return None
    now = assess(model, task, begun.examples, device=device)
    differences = compared(now.metrics, begun.assessed.metrics)
    return ForgettingRecord(
        data=begun.name,
        n_examples=len(begun.examples),
        metrics=with_intervals(now.metrics),
        differences=differences,
        says=_said(differences[0], begun.name),
    )


def _said(found: DifferenceRecord, name: str) -> str:
    """A sentence on the first metric."""
    if found.p_value is None or found.difference is None:
        return f"{found.name} on {name} has no number."
    if found.p_value >= SURE:
        return (
            f"On {name} no change of {found.name} can be told from chance (p = "
            f"{found.p_value:.3f})."
        )
    better = (found.difference > 0) == found.higher_is_better
    bounds = "" if found.low is None else f", 95 % interval {found.low:+.4f} to {found.high:+.4f}"
    return (
        f"{'Also better' if better else 'Forgot'}: {found.name} on {name} went from "
        f"{found.theirs:.4f} to {found.ours:.4f} ({found.difference:+.4f}{bounds})."
    )
