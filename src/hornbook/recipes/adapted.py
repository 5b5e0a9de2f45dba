"""An adapted model as it was saved, opened again with its task.

opened = open_task(run)        # bundle, model, task
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from hornbook import bundle as bundles
from hornbook.errors import CheckpointError
from hornbook.recipes.kinds import KINDS
from hornbook.tasks.task import Task


@dataclass(frozen=True)
class Opened:
    """A fine-tuned model as it was saved. model: with its head, ready to predict."""

    bundle: Any
    model: nn.Module
    task: Task


def open_task(path: Path | str) -> Opened:
    """Open a run of `hornbook finetune` or its model folder.

    Raises CheckpointError where there is no task.json beside the weights, or it is damaged.
    """
    path = Path(path)
    inside = path / "model" if (path / "model" / "config.json").is_file() else path
    card = read_card(inside / "task.json")
    opened = bundles.load(inside)
    task: Task = KINDS.load(card["task"]).reopen(card, opened)
    return Opened(opened, task.build(opened).eval(), task)


def read_card(path: Path) -> dict[str, Any]:
    """A saved task.json. Raises CheckpointError when it is missing or names no task."""
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} was not fine-tuned for a task: it has no {path.name}",
            hint="Name a run of `hornbook finetune`, or its folder 'model'.",
        )
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["task"] = str(card["task"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not say what the task was: {error}", hint="Copy or train it again."
        ) from error
    return card
