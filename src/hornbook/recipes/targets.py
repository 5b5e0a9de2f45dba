"""What should be predicted of an example, as a line of validation.jsonl has it."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def targets_of(example: Any) -> dict[str, Any]:
    """What an example says should be predicted, by its own names for that, as plain data."""
    names = ["label", "labels", "tags", "target", "targets", "answers", "answer", "score", "good"]
    names += ["chosen", "rejected", "completion", "messages"]
    found = {n: plain(getattr(example, n)) for n in names if hasattr(example, n)}
    if len(found) == 1:
        return {"target": next(iter(found.values()))}
    return {"target": found}


def plain(value: Any) -> Any:
    """Dataclasses, tuples and arrays as JSON has them."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return value if isinstance(value, str | int | float | bool | None) else str(value)
