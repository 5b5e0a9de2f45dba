"""What is served: models by name, each with what it can do and the thread that does it.

A request names a model by one of these names and nothing else: no path, nothing of the hub.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from hornbook.data.examples import Problem
from hornbook.errors import ConfigError, nearest
from hornbook.serving.engine import Engine, Steps
from hornbook.serving.refusals import Refusal, invalid
from hornbook.serving.turns import Turns
from hornbook.serving.worker import Worker

if TYPE_CHECKING:
    from hornbook.text.chat_template import ChatTemplate
    from hornbook.text.tokenizer import Tokenizer


class Encoder(Protocol):
    """Texts to vectors; `embeddings.encoder.TextEncoder` is one."""

    tokenizer: Tokenizer

    def encode(self, texts: Sequence[str]) -> np.ndarray: ...
    def count_tokens(self, texts: Sequence[str]) -> list[int]: ...


class Classifier(Protocol):
    """Texts to labels; `compare.predictor.Predictor` is one, which this room may not import."""

    problem: Problem

    def scores(self, texts: Sequence[str]) -> np.ndarray: ...
    def decide(self, scores: np.ndarray) -> np.ndarray: ...
    def calibrate(self, scores: np.ndarray) -> np.ndarray: ...


@dataclass(frozen=True)
class Writer:
    """A model that writes texts. lock: the tokenizer's; two threads may not use it at once."""

    name: str
    tokenizer: Tokenizer
    template: ChatTemplate | None
    stop_tokens: frozenset[int]
    context_length: int
    engine: Engine
    created: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def capabilities(self) -> list[str]:
        return ["chat", "completions"] if self.template is not None else ["completions"]

    @property
    def is_up(self) -> bool:
        return self.engine.is_up

    @property
    def n_open(self) -> int:
        return self.engine.n_open

    def close(self, grace: float) -> None:
        self.engine.close(grace)

    def join(self, seconds: float) -> None:
        self.engine.join(seconds)


@dataclass(frozen=True)
class Embedder:
    """A model that turns texts into vectors. sizes: smaller ones that these may be cut to."""

    name: str
    worker: Worker[tuple[np.ndarray, int]]
    created: int
    context_length: int | None = None
    capabilities: tuple[str, ...] = ("embeddings",)
    sizes: tuple[int, ...] = ()

    @property
    def is_up(self) -> bool:
        return self.worker.is_up

    @property
    def n_open(self) -> int:
        return self.worker.n_open

    def close(self, grace: float) -> None:
        self.worker.close()

    def join(self, seconds: float) -> None:
        self.worker.close()


@dataclass(frozen=True)
class Sorter(Embedder):
    """A model that gives texts labels: each text's scores by label, and the labels decided on."""

    worker: Worker[Any]
    capabilities: tuple[str, ...] = ("classify",)


Entry = Writer | Embedder
AnyEntry = TypeVar("AnyEntry", Writer, Embedder, Sorter)


class Served:
    """The models of one server, which take turns at computing."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.turns = Turns()
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self._put(entry)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def add_writer(
        self,
        name: str,
        batch: Steps,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None = None,
        stop_tokens: frozenset[int] = frozenset(),
        context_length: int,
        n_open: int = 72,
    ) -> Writer:
        """Serve a model that writes. Raises ConfigError for a name that is taken or is no name."""
        self._check(name)
        engine = Engine(batch, n_open=n_open, turns=self.turns)
        writer = Writer(
            name, tokenizer, template, stop_tokens, context_length, engine, int(time.time())
        )
        self._put(writer)
        return writer

    def add_encoder(
        self, name: str, encoder: Encoder, *, n_open: int = 72, sizes: tuple[int, ...] = ()
    ) -> Embedder:
        """Serve a model that turns texts into vectors. sizes: as `Embedder`'s."""

        def rows(texts: Sequence[str]) -> list[tuple[np.ndarray, int]]:
            return list(zip(encoder.encode(texts), encoder.count_tokens(texts)))

        self._check(name)
        worker = Worker(rows, n_open=n_open, turns=self.turns)
        limit = getattr(encoder, "max_tokens", None)
        return self._put(Embedder(name, worker, int(time.time()), limit, sizes=sizes))

    def add_classifier(self, name: str, classifier: Classifier, *, n_open: int = 72) -> Sorter:
        """Serve a model that gives texts labels."""
        names = classifier.problem.label_names

        def rows(texts: Sequence[str]) -> list[tuple[list[tuple[str, float]], list[str]]]:
            scores = classifier.scores(texts)
            decided, probable = classifier.decide(scores), classifier.calibrate(scores)
            return [
                (
                    sorted(zip(names, map(float, p)), key=lambda pair: -pair[1]),
                    [label for label, given in zip(names, row) if given],
                )
                for row, p in zip(decided, probable)
            ]

        self._check(name)
        worker = Worker(rows, n_open=n_open, turns=self.turns)
        return self._put(Sorter(name, worker, int(time.time())))

    def find(self, name: str) -> Entry:
        """The model of that name. Raises Refusal 404."""
        if name in self._entries:
            return self._entries[name]
        raise Refusal(
            404,
            f"no model of that name is served. {nearest(name[:100], self._entries)}",
            code="model_not_found",
            param="model",
        )

    def find_as(self, kind: type[AnyEntry], name: str, does: str) -> AnyEntry:
        """The model of that name, if it can do this. Raises Refusal 404, or 400."""
        entry = self.find(name)
        if type(entry) is not kind:
            able = [e.name for e in self if type(e) is kind] or ["none that is served"]
            raise invalid(
                f"'{name}' does not {does}; these do: {', '.join(able)}",
                param="model",
                code="model_not_suited",
            )
        return entry

    def close(self, grace: float = 0.0) -> None:
        """Take nothing more; what is being written has `grace` seconds."""
        for entry in self:
            entry.close(grace)

    def join(self, seconds: float = 10.0) -> None:
        """Wait until all that was asked for has ended, after `close`, and end the thread."""
        for entry in self:
            entry.join(seconds)
        self.turns.close()

    def _check(self, name: str) -> None:
        if not name or len(name) > 200 or not name.isprintable():
            raise ConfigError(f"{name!r} is no name for a model", hint="Take letters and digits.")
        if name in self._entries:
            raise ConfigError(
                f"two models are called '{name}'",
                hint="Give one of them another name: hornbook serve other-name=PATH",
            )

    def _put(self, entry: Any) -> Any:
        self._entries[entry.name] = entry
        return entry
