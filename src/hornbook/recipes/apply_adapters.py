"""Several adapters at work on one base, which is in memory once.

for name, say in each_ready("classify", "minilm", {"spam": a, "tone": b}).items():
    for found in say([{"text": "See you at eight"}]): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from hornbook import bundle as bundles
from hornbook.adapters import lora
from hornbook.errors import CheckpointError
from hornbook.interop.adapter_folder import holds_adapter
from hornbook.recipes.apply import use_of
from hornbook.recipes.apply_plain import Asked, Row, Say


def each_ready(
    task: str, model: str, adapters: Mapping[str, str], asked: Asked | None = None
) -> dict[str, Say]:
    """What answers rows by each adapter's name. adapters: a folder each, of a run or of an adapter.

    Raises CheckpointError for a folder without an adapter and for one of another base, both named;
    ConfigError, as `apply.ready`, for an adapter of another task.
    """
    use, folders = use_of(task), [_adapter_at(place) for place in adapters.values()]
    base = bundles.open_model(model)
    found: dict[str, Say] = {}
    for (name, place), folder in zip(adapters.items(), folders, strict=True):
        inner = f"adapter {len(found)}"  # the user's name may be none that a module can have
        opened = replace(bundles.with_adapter(base, folder, model, adapter=inner), name=place)
        found[name] = _Using(opened.model, inner, use.by(opened, asked or Asked()))
    return found


def _adapter_at(place: str) -> Path:
    """The adapter in a folder, or in a run's, also of a run by its name in `runs/`."""
    for folder in (Path(place).expanduser(), Path("runs") / place):
        for inside in (folder, folder / "adapter"):
            if holds_adapter(inside):
                return inside
    raise CheckpointError(
        f"{place} holds no adapter",
        hint="Name a run of --method lora, dora or qlora, or a folder with adapter_config.json.",
    )


@dataclass(frozen=True)
class _Using:
    """What says something, with an adapter switched on. notes: those of `say`, for the reader."""

    model: nn.Module
    adapter: str
    say: Say

    @property
    def notes(self) -> tuple[str, ...]:
        return getattr(self.say, "notes", ())

    def __call__(self, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        with lora.using(self.model, self.adapter):
            found = list(self.say(rows))  # all of it: the next may be another adapter's turn
        yield from found
