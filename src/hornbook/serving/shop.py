"""What the routes share: the models, the limits, the guards and the counters of one server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hornbook.serving.guards import Guarded, Guards
from hornbook.serving.limits import Limits
from hornbook.serving.refusals import Refusal
from hornbook.serving.served import Served

if TYPE_CHECKING:
    from hornbook.serving.metrics import Metrics


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

    def asked(self, text: str) -> str:
        """A question past the guards. Raises Refusal where it holds a refused phrase."""
        allowed = self.guards.asked(text, self.count)
        if allowed is None:
            raise Refusal(400, "the question is refused by this server", code="content_filter")
        return allowed

    def guarded(self) -> Guarded | None:
        return self.guards.answer(self.count) if self.guards.change_answers else None
