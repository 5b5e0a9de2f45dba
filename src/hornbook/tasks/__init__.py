"""Tasks: the places that know what a target looks like. Items, batches, head, loss, metrics; one
file a task. `task` says what a task is; those in `TASKS` can be fine-tuned for, by these names."""

from __future__ import annotations

from hornbook.registry import Registry

TASKS = Registry(
    "task",
    {
        "classify": "hornbook.tasks.classify:Classify",
        "pairs": "hornbook.tasks.classify_pairs:ClassifyPairs",
        "fill": "hornbook.tasks.fill:Fill",
        "continue": "hornbook.tasks.continuing:Continue",
        "tag": "hornbook.tasks.tag:Tag",
        "answer": "hornbook.tasks.answer:Answer",
        "translate": "hornbook.tasks.write:Translate",
        "summarize": "hornbook.tasks.write:Summarize",
        "chat": "hornbook.tasks.chat:Chat",
        "embed": "hornbook.tasks.embed:Embed",
        "choose": "hornbook.tasks.choose:Choose",
    },
)
