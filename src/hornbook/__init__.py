"""Hornbook: language models from scratch, each on one page, and which technique works on my text.

    import hornbook as hb
    study = hb.compare("tickets.csv", text="body", label="topic")
    study.leaderboard
    study.best.predict(["my invoice is wrong"])

Importing this package loads neither torch nor transformers: names are resolved on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hornbook.compare.study import Study, compare, open_study

__version__ = "0.1.0"
__all__ = ["Study", "__version__", "compare", "open_study"]

_LAZY = {
    "compare": "hornbook.compare",
    "open_study": "hornbook.compare.study:open_study",
    "Study": "hornbook.compare.study:Study",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'hornbook' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = import_module(module)
    return getattr(value, attribute) if attribute else value
