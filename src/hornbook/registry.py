"""Lazy name tables: a name leads to "module:attribute", imported only when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from hornbook.errors import UnknownNameError, nearest


class Registry(Mapping[str, str]):
    """A table of names, e.g. `Registry("technique", {"lora": "hornbook.compare...:LoRA"})`."""

    def __init__(self, kind: str, table: Mapping[str, str]) -> None:
        self.kind = kind
        self._table = dict(table)

    def __getitem__(self, name: str) -> str:
        if name not in self._table:
            raise UnknownNameError(
                f"there is no {self.kind} named '{name}'", hint=nearest(name, self._table)
            )
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def load(self, name: str) -> Any:
        """Import what the name stands for. Raises UnknownNameError with the nearest known name."""
        module, _, attribute = self[name].partition(":")
        return getattr(import_module(module), attribute)
