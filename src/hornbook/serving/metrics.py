"""Counters for Prometheus, of one server. Labels are names that the server knows, no caller's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from hornbook.generation.request import Piece
from hornbook.serving.served import Served, Writer

CONTENT_TYPE = CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
_STEP = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
GUARDS = ("personal_data", "phrases", "longest", "schema")


class Metrics:
    """One registry a server, so that two in a process don't share counts."""

    def __init__(self, served: Served) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self._requests = Counter(
            "hornbook_requests", "Answered requests.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "hornbook_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._first = Histogram(
            "hornbook_first_token_seconds",
            "From a request's admission to its first token, queueing included.",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "hornbook_tokens",
            "Tokens of finished texts: read, taken from a shared prefix, written.",
            ["model", "kind"],
            registry=registry,
        )
        self._steps = Histogram(
            "hornbook_step_seconds",
            "One step of the engine.",
            ["model"],
            buckets=_STEP,
            registry=registry,
        )
        self._guards = Counter(
            "hornbook_guard_cases", "What a guard has caught.", ["guard"], registry=registry
        )
        running = Gauge("hornbook_running", "Texts being written.", ["model"], registry=registry)
        waiting = Gauge(
            "hornbook_waiting", "Texts waiting for a slot.", ["model"], registry=registry
        )
        callers = Gauge("hornbook_open", "Requests open.", ["model"], registry=registry)
        for guard in GUARDS:
            self._guards.labels(guard)
        for entry in served:
            callers.labels(entry.name).set_function(partial(getattr, entry, "n_open"))
            if isinstance(entry, Writer):
                engine = entry.engine
                engine.on_step = self._observer(entry.name)
                running.labels(entry.name).set_function(partial(getattr, engine, "n_running"))
                waiting.labels(entry.name).set_function(partial(getattr, engine, "n_waiting"))

    def _observer(self, model: str) -> Callable[[float, Sequence[Piece]], None]:
        steps = self._steps.labels(model)
        read, cached, written = (
            self._tokens.labels(model, kind) for kind in ("read", "cached", "written")
        )

        def observe(seconds: float, pieces: Sequence[Piece]) -> None:
            steps.observe(seconds)
            for piece in pieces:
                if piece.finish is not None:
                    read.inc(piece.n_prompt - piece.n_cached)
                    cached.inc(piece.n_cached)
                    written.inc(piece.n_generated)

        return observe

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def first_token(self, model: str, seconds: float) -> None:
        self._first.labels(model).observe(seconds)

    def guard(self, name: str, n: int) -> None:
        self._guards.labels(name).inc(n)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
