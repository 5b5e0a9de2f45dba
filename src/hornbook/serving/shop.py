"""What the routes share: the models, the limits, the guards and the counters of one server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hornbook.serving.guards import Guarded, Guards
from hornbook.serving.limits import Limits
from hornbook.serving.refusals import Refusal
from hornbook.serving.served import Served

if TYPE_CHECKING:
    from hornbook.serving.metrics import Metrics

_SHORT = 4_000  # characters that are looked at without another thread


@dataclass(frozen=True)
class Shop:
    """schema: a JSON schema that every answer must follow, if there is one."""

    served: Served
    metrics: Metrics
    limits: Limits = field(default_factory=Limits)
    guards: Guards = field(default_factory=Guards)
    schema: dict[str, Any] | None = None

    def count(self, guard: str, n: int) -> None:
        self.metrics.guard(guard, n)

    async def asked(self, texts: Sequence[str]) -> list[str]:
        """Questions past the guards. Raises Refusal where one holds a refused phrase."""
        if not (self.guards.phrases or self.guards.personal_data):
            return list(texts)

        def look() -> list[str | None]:
            return [self.guards.asked(text, self.count) for text in texts]

        is_short = sum(map(len, texts)) <= _SHORT
        allowed = look() if is_short else await asyncio.to_thread(look)
        if any(text is None for text in allowed):
            raise Refusal(400, "the question is refused by this server", code="content_filter")
        return [text for text in allowed if text is not None]

    def guarded(self) -> Guarded | None:
        return self.guards.answer(self.count) if self.guards.change_answers else None
