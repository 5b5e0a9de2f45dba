"""The comparison: every technique on the same splits, with the same budget, judged the same way.

`hornbook.compare` is this package and, called, the function: `hb.compare("tickets.csv", ...)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """Once imported, a package hides a function of its own name; so this one is both."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from hornbook.compare.study import compare

        return compare(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
