"""All that a model can be adapted to: the tasks, and the losses over preferences."""

from __future__ import annotations

from hornbook.registry import Registry
from hornbook.tasks import TASKS

PREFERENCES = Registry(
    "preference loss",
    {
        "dpo": "hornbook.preference.task:Dpo",
        "ipo": "hornbook.preference.task:Ipo",
        "orpo": "hornbook.preference.task:Orpo",
        "kto": "hornbook.preference.task:Kto",
        "reward": "hornbook.preference.reward:Reward",
    },
)
KINDS = Registry("task", {**TASKS, **PREFERENCES})
