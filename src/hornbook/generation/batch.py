"""Many requests at once: each step reads a piece of a new prompt and writes a token of every text.

    batch = Batch(bundle)
    batch.add(Request(prompt, max_tokens=100))
    while batch.n_running or batch.n_waiting:
        for piece in batch.step(): ...

Requests join when a slot is free and leave when they end (Yu et al. 2022, "Orca", section 4.1).
Prompts are read in chunks, so that the others' texts go on meanwhile (Agrawal et al. 2023, section
4). A slot keeps its tokens after the end: a prompt that begins alike reads only the rest.

The same seed writes the same text whatever else is in the batch. Adding up numbers in another order
changes their last bits, so what a text is computed from must not depend on its neighbours: prompts
are read one at a time in chunks that begin at multiples of `chunk`, single tokens as `reading`
says, and a request with a seed takes only whole chunks from another text, one without every token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Protocol

from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.generation.reading import newest, reader
from hornbook.generation.request import Piece, Request, Scored
from hornbook.generation.writing import Writing, check_ids
from hornbook.text.tokenizer import Tokenizer

SHORT = 64  # tokens of several prompts that a step reads together, at most


class Speaker(Protocol):
    """A model with its tokenizer, as `bundle.Bundle` is."""

    @property
    def model(self) -> Any: ...

    @property
    def tokenizer(self) -> Tokenizer: ...


@dataclass
class _Running:
    """A request in its slot. unread: tokens that the model has yet to read before it writes."""

    id: int
    request: Request
    writing: Writing
    slot: int
    unread: list[int]
    n_cached: int
    prompt_read: bool = False
    scored: list[Scored] = field(default_factory=list)  # of the prompt, until the first piece


@dataclass
class _Slot:
    """tokens: what its cache holds. n_exact: so many of them were read in whole chunks."""

    tokens: list[int] = field(default_factory=list)
    n_exact: int = 0
    last_used: int = 0
    running: _Running | None = None


class Batch:
    """Continues many texts by one model. Synchronous; one thread at a time may use it.

    n_slots: texts that are written at once. chunk: tokens of a prompt that a step reads at most.
    context_length: less than the model's, to bound the memory of the slots.
    """

    def __init__(
        self,
        bundle: Speaker,
        *,
        n_slots: int = 8,
        chunk: int = 256,
        context_length: int | None = None,
    ) -> None:
        if n_slots < 1 or chunk < 1:
            raise ConfigError(f"n_slots is {n_slots} and chunk {chunk}", hint="Use 1 or more.")
        self.n_slots = n_slots
        self.chunk = chunk
        self._tokenizer = bundle.tokenizer
        self._reader = reader(bundle.model, n_slots, context_length=context_length)
        self._slots = [_Slot() for _ in range(n_slots)]
        self._waiting: deque[tuple[int, Request, Writing]] = deque()
        self._cancelled: list[Piece] = []
        self._n_added = 0
        self._n_admitted = 0

    @property
    def context_length(self) -> int:
        """The most tokens that prompt and text may have together."""
        return self._reader.context_length

    @property
    def vocab_size(self) -> int:
        return self._reader.vocab_size

    @property
    def n_running(self) -> int:
        """Requests that have a slot."""
        return len(self._running())

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    def add(self, request: Request) -> int:
        """Put a request into the queue; its number. Raises ConfigError for what cannot be served:
        an empty prompt, one longer than the context (unless it slides and isn't scored), settings
        out of range."""
        prompt = request.prompt
        if not len(prompt):
            raise ConfigError("the prompt is empty", hint="Give at least one token to continue.")
        may_slide = request.slide and not request.prompt_logprobs
        if len(prompt) > self.context_length and not may_slide:
            raise ConfigError(
                f"the prompt has {len(prompt)} tokens; the model reads {self.context_length}",
                hint="Shorten it, or let the window slide.",
            )
        check_ids("the prompt", prompt, self.vocab_size)
        check_ids("logit_bias", list(request.sampling.logit_bias), self.vocab_size)
        writing = Writing(request, self._tokenizer)
        self._n_added += 1
        self._waiting.append((self._n_added, request, writing))
        return self._n_added

    def cancel(self, request: int) -> None:
        """Let go of a request at once; its last piece comes with the next step. An unknown number,
        or one that has ended, is nothing."""
        for waiting in self._waiting:
            if waiting[0] == request:
                self._waiting.remove(waiting)
                n = len(waiting[1].prompt)
                self._cancelled.append(Piece(request, "", (), "cancelled", n, 0))
                return
        for running in self._running():
            if running.id == request:
                self._cancelled.append(_piece(running, running.writing.end(), (), "cancelled"))
                self._release(running)

    def step(self) -> list[Piece]:
        """Read a chunk of one prompt, then write a token of each text that is read so far.

        Of one only, or of several short ones: its first token waits for what is read after it.
        """
        pieces, self._cancelled = self._cancelled, []
        n_read = 0
        while filling := self._next_to_fill():
            n = self._n_of_chunk(filling)
            if n_read and n_read + n > min(SHORT, self.chunk):
                break
            self._fill(filling, n, pieces)
            n_read += n
        ready = [running for running in self._running() if len(running.unread) == 1]
        if ready:
            slots = [running.slot for running in ready]
            logits = self._reader.read(slots, [r.unread for r in ready], [1] * len(ready))
            for running, row in zip(ready, logits, strict=True):
                self._note_read(running, 1)
                self._advance(running, row, pieces)
        return pieces

    def _running(self) -> list[_Running]:
        return [slot.running for slot in self._slots if slot.running is not None]

    def _next_to_fill(self) -> _Running | None:
        """A request with more than a token to read; one that waits, when there is none."""
        while True:
            filling = [running for running in self._running() if len(running.unread) > 1]
            if filling:
                return min(filling, key=lambda running: running.id)
            if not self._waiting or self.n_running == self.n_slots:
                return None
            self._admit(*self._waiting.popleft())

    def _admit(self, number: int, request: Request, writing: Writing) -> None:
        """Give a request a slot, and what another text has read of its prompt already."""
        window = list(request.prompt[-self.context_length :])
        source, n_shared = self._longest_shared(window, request)
        free = [i for i, slot in enumerate(self._slots) if slot.running is None]
        if source in free and 2 * n_shared > self._reader.length(source):
            target = source  # what it had beside that is no loss
        else:
            target = min(free, key=lambda i: (self._slots[i].last_used, i))
        if target == source:
            self._reader.cut(target, n_shared)
        else:
            self._reader.cut(target, 0)
            self._reader.copy(source, target, n_shared)
        slot = self._slots[target]
        slot.n_exact = min(self._slots[source].n_exact, n_shared) // self.chunk * self.chunk
        slot.tokens = window[:n_shared]
        self._n_admitted += 1
        slot.last_used = self._n_admitted
        slot.running = _Running(number, request, writing, target, window[n_shared:], n_shared)

    def _longest_shared(self, window: Sequence[int], request: Request) -> tuple[int, int]:
        """The slot that begins most like this prompt, and how many tokens may be taken from it."""
        if request.prompt_logprobs:  # each of its places must be looked at
            return 0, 0
        best = (0, 0)
        for i, slot in enumerate(self._slots):
            pairs = zip(window[:-1], slot.tokens, strict=False)  # the last is read, for its logits
            n = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            if request.sampling.seed is not None:
                n = min(n, slot.n_exact) // self.chunk * self.chunk
            if n > best[1]:
                best = (i, n)
        return best

    def _n_of_chunk(self, running: _Running) -> int:
        """How many tokens of a prompt are read next."""
        start = len(self._slots[running.slot].tokens)
        return min(len(running.unread), self.chunk - start % self.chunk)

    def _fill(self, running: _Running, n: int, pieces: list[Piece]) -> None:
        """Read the next n tokens of a prompt."""
        slot = self._slots[running.slot]
        start = len(slot.tokens)
        scores = running.request.prompt_logprobs and not running.prompt_read
        is_last = n == len(running.unread)
        n_wanted = n if scores else int(is_last)
        logits = self._reader.read([running.slot], [running.unread[:n]], [n_wanted])
        self._note_read(running, n)
        if slot.n_exact == start and n == self.chunk:
            slot.n_exact += n
        if scores:
            running.scored += running.writing.score_prompt(start + 1, logits[: n - is_last])
        if is_last:
            self._advance(running, logits[-1], pieces)

    def _note_read(self, running: _Running, n: int) -> None:
        self._slots[running.slot].tokens += running.unread[:n]
        running.unread = running.unread[n:]

    def _advance(self, running: _Running, logits: Tensor, pieces: list[Piece]) -> None:
        """Write a token, and see whether the text goes on."""
        first: tuple[Scored, ...] = ()
        if not running.prompt_read:
            running.prompt_read = True
            if running.request.prompt_logprobs:
                first = (running.writing.unpredicted(), *running.scored)
                running.scored = []
            if running.writing.is_full:  # nothing was to be written
                pieces.append(_piece(running, "", first, "length"))
                self._release(running)
                return
        step = running.writing.draw(logits)
        tokens = (*first, step.scored) if step.scored else first
        text, finish = step.text, step.finish
        slot = self._slots[running.slot]
        if finish is None:
            assert step.token is not None
            running.unread = [step.token]
            if len(slot.tokens) == self.context_length:
                if running.request.slide:
                    running.unread = newest([*slot.tokens, step.token], self.context_length)
                    slot.tokens, slot.n_exact = [], 0
                    self._reader.cut(running.slot, 0)
                else:
                    text, finish = text + running.writing.end(), "length"
        if text or tokens or finish:
            pieces.append(_piece(running, text, tokens, finish))
        if finish:
            self._release(running)

    def _release(self, running: _Running) -> None:
        """Free the slot. Its tokens stay, but for a full context's last: idle slots need room."""
        slot = self._slots[running.slot]
        slot.running = None
        if len(slot.tokens) == self.context_length:
            slot.tokens.pop()
            slot.n_exact = min(slot.n_exact, len(slot.tokens))
            self._reader.cut(running.slot, len(slot.tokens))


def _piece(running: _Running, text: str, tokens: tuple[Scored, ...], finish: str | None) -> Piece:
    return Piece(
        running.id,
        text,
        tokens,
        finish,
        n_prompt=len(running.request.prompt),
        n_generated=running.writing.n_written,
        n_cached=running.n_cached,
    )
