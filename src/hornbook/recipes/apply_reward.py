"""A reward model at work: answers to a prompt, marked and put in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

from hornbook.nn.precision import choose_precision
from hornbook.recipes.apply_plain import Row, Say
from hornbook.tasks.task import Task

_AT_ONCE = 8  # answers behind one reading of their prompt; each sees the others' places masked


def marking(network: nn.Module, task: Task) -> Say:
    """task: a `preference.reward.Reward`. What is said: the prompt, its answers the best first."""
    made: Any = task
    device = choose_precision().device
    network.to(device).eval()

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        parts = [
            (row["prompt"], row["answers"][start : start + _AT_ONCE])
            for row in rows
            for start in range(0, len(row["answers"]), _AT_ONCE)
        ]
        marks = made.marks(network, made.answered(parts), device=device)
        flat = iter([mark for part in marks for mark in part])
        for row in rows:
            marked = [(answer, next(flat)) for answer in row["answers"]]
            marked.sort(key=lambda pair: -pair[1])
            yield {
                "prompt": row["prompt"],
                "answers": [{"answer": a, "reward": round(mark, 4)} for a, mark in marked],
            }

    return say
