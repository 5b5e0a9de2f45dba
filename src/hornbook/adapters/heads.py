"""Heads of several adapters on one base: each adapter has its own, even with other labels."""

from __future__ import annotations

from typing import Any

from torch import nn


class SwitchedHead(nn.Module):
    """Stands where a model's head stood. base: the head that goes with no adapter."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        self.heads = nn.ModuleDict()
        self.active: str | None = None

    @property
    def current(self) -> nn.Module:
        return self.base if self.active is None else self.heads[self.active]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.current(*args, **kwargs)
