"""A batch that training could not go on with, kept for a look."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from hornbook import files
from hornbook.tasks.task import Task


def keep_batch(place: Path, task: Task, items: Sequence[Any]) -> None:
    """Write a batch for a look: examples.json, and its tensors as safetensors."""
    shown = [
        {
            "source": getattr(item, "source", None),
            "n_tokens": task.length(item),
            "text": "".join(part.text for part in task.show(item)),
        }
        for item in items
    ]
    tensors = {n: x.detach().cpu().contiguous() for n, x in tensors_of(task.collate(items))}
    with files.atomic_folder(place) as inside:
        text = json.dumps(shown, indent=2, ensure_ascii=False) + "\n"
        files.write_text(inside / "examples.json", text)
        save_file(tensors, inside / "batch.safetensors")


def tensors_of(batch: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a batch, of dataclasses, mappings and sequences in it too, by their names."""
    if isinstance(batch, Tensor):
        yield name or "batch", batch
    elif is_dataclass(batch) and not isinstance(batch, type):
        for f in fields(batch):
            yield from tensors_of(getattr(batch, f.name), f"{name}.{f.name}".lstrip("."))
    elif isinstance(batch, dict):
        for key, part in batch.items():
            yield from tensors_of(part, f"{name}.{key}".lstrip("."))
    elif isinstance(batch, list | tuple):
        for i, part in enumerate(batch):
            yield from tensors_of(part, f"{name}.{i}".lstrip("."))
