"""Which columns of a table a person may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hornbook.errors import ConfigError, nearest


def named_columns(columns: Mapping[str, str], known: Sequence[str]) -> dict[str, Any]:
    """Raises ConfigError for a name that this task has no column for."""
    for name in columns:
        if name not in known:
            raise ConfigError(f"there is no column '{name}' to name", hint=nearest(name, known))
    return dict(columns)
