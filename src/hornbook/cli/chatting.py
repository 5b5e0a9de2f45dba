"""The terminal's side of a chat: lines typed, answers as they come, commands in between."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from hornbook import files
from hornbook.cli.harmless import harmless
from hornbook.errors import HornbookError, nearest
from hornbook.generation.batch import Batch
from hornbook.generation.conversation import Conversation
from hornbook.generation.request import Piece, Request, Sampling

if TYPE_CHECKING:
    from hornbook.bundle import Bundle

HELP = """/reset          forget the conversation
/system TEXT    tell the model something before everything, and begin anew; alone: nothing
/retry          answer the last message once more
/save FILE      write the conversation, as JSON
/stats          tokens and seconds of the last answer
/help           this
A line that ends in \\ goes on in the next; // at its beginning is a plain /.
Ctrl-C stops an answer, Ctrl-D ends."""


@dataclass(frozen=True)
class Settings:
    """How answers are drawn, and what ends them. n_tokens: of an answer, at most."""

    n_tokens: int
    sampling: Sampling
    stop_tokens: frozenset[int]
    stop_texts: tuple[str, ...] = ()
    context_length: int | None = None


@dataclass(frozen=True)
class Stats:
    """Of one answer: tokens of the prompt, those kept from before, tokens written, seconds until
    the first and for all."""

    n_prompt: int
    n_cached: int
    n_written: int
    until_first: float
    seconds: float

    def __str__(self) -> str:
        rest = self.seconds - self.until_first
        speed = f", {(self.n_written - 1) / rest:,.0f} tokens/s" if self.n_written > 1 else ""
        return (
            f"{self.n_written} tokens in {self.seconds:.1f} s{speed}; the first after "
            f"{self.until_first:.2f} s, {self.n_prompt} tokens read, {self.n_cached} of them "
            "known from before"
        )


def longest_prompt(context_length: int, n_tokens: int) -> int:
    """Tokens that a prompt may have, where an answer is to have so many: half the context at
    least."""
    return context_length - min(n_tokens, max(1, context_length // 2))


class Terminal:
    """A chat by lines of `source`; answers go to standard output, remarks to standard error."""

    def __init__(
        self,
        opened: Bundle,
        settings: Settings,
        system: str | None = None,
        *,
        source: TextIO | None = None,
    ) -> None:
        self._conversation = Conversation(opened, system)
        self._name = opened.name
        self._settings = settings
        self._batch = Batch(opened, n_slots=1, context_length=settings.context_length)
        self._source = sys.stdin if source is None else source
        self._typed = self._source.isatty()
        self._stats: Stats | None = None
        self._saved: set[Path] = set()
        self._commands: dict[str, Callable[[str], None]] = {
            "/reset": self._reset,
            "/system": self._system,
            "/retry": self._retry,
            "/save": self._save,
            "/stats": self._say_stats,
            "/help": lambda _: self._remark(HELP),
        }

    @property
    def context_length(self) -> int:
        return self._batch.context_length

    def run(self) -> None:
        """Read and answer until the input ends."""
        for stream in (self._source, sys.stdout):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="replace")
        if self._typed:
            self._remark("/help lists commands, Ctrl-D ends")
            _edit_lines()
        while (line := self._next()) is not None:
            if not line.strip():
                continue
            try:
                self._take(line)
            except BrokenPipeError:
                raise
            except (HornbookError, OSError) as error:  # one message's, not the conversation's
                self._remark(f"error: {error}")

    def _next(self) -> str | None:
        """What is typed next, lines that go on put together; None at the end."""
        lines: list[str] = []
        while True:
            try:
                line = self._read("… " if lines else "> ")
            except EOFError:
                if self._typed:
                    print()
                return "\n".join(lines) if lines else None
            except KeyboardInterrupt:
                print()
                self._remark("Ctrl-D ends, /help lists commands")
                lines = []
                continue
            if not line.endswith("\\"):
                return "\n".join([*lines, line])
            lines.append(line[:-1])

    def _read(self, prompt: str) -> str:
        if self._typed:
            return input(prompt)
        line = self._source.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def _take(self, line: str) -> None:
        if line.startswith("/") and not line.startswith("//"):
            name, _, rest = line.partition(" ")
            if name not in self._commands:
                self._remark(f"there is no {name}. {nearest(name, self._commands)}")
                return
            self._commands[name](rest.strip())
            return
        self._conversation.say("user", line[1:] if line.startswith("//") else line)
        self._answer()

    def _answer(self, sampling: Sampling | None = None) -> None:
        """Let the model answer the last message, which is taken back if it cannot."""
        before = self._conversation.n_forgotten
        room = self._batch.context_length
        longest = longest_prompt(room, self._settings.n_tokens)
        try:
            prompt = self._conversation.prompt(longest)
        except HornbookError:
            self._conversation.take_back()
            raise
        if (n := self._conversation.n_forgotten) > before:
            self._remark(f"the conversation is too long: the oldest {n} messages are forgotten")
        request = Request(
            prompt,
            room - longest,
            sampling or self._settings.sampling,
            stop_tokens=self._settings.stop_tokens,
            stop_texts=self._settings.stop_texts,
        )
        said, finish, n_written = "", None, 0
        for piece in self._pieces(request):
            said, finish, n_written = said + piece.text, piece.finish, piece.n_generated
            shown = harmless(piece.text) if sys.stdout.isatty() else piece.text
            print(shown, end="", flush=True)
        print("\n" if self._typed else "", flush=True)
        if said or finish != "cancelled":
            self._conversation.say("assistant", said)
        else:
            self._conversation.take_back()
        if finish == "cancelled":
            self._remark("stopped")
        elif finish == "length":
            self._remark(f"cut after {n_written} tokens")

    def _pieces(self, request: Request) -> Iterator[Piece]:
        """The answer as it comes. Ctrl-C lets the step under way finish, and no other."""
        start = time.perf_counter()
        first = 0.0
        number = self._batch.add(request)
        try:
            with _interrupts() as asked:
                while True:
                    for piece in self._batch.step():
                        if piece.request != number:
                            continue
                        first = first or time.perf_counter() - start
                        yield piece
                        if piece.finish:
                            seconds = time.perf_counter() - start
                            self._stats = Stats(
                                piece.n_prompt, piece.n_cached, piece.n_generated, first, seconds
                            )
                            return
                    if asked:
                        self._batch.cancel(number)
        finally:
            self._batch.cancel(number)  # where the reader of the answer has gone away

    def _reset(self, _: str) -> None:
        self._conversation.reset(self._conversation.system)
        self._remark("forgotten")

    def _system(self, text: str) -> None:
        self._conversation.reset(text or None)
        self._remark("a new conversation" + (", with that said before everything" if text else ""))

    def _retry(self, _: str) -> None:
        messages = self._conversation.messages
        if messages and messages[-1]["role"] == "assistant":
            self._conversation.take_back()
        if not messages:
            self._remark("there is nothing to answer yet")
            return
        # Another answer is wanted: the likeliest would be the same again.
        sampling = self._settings.sampling
        sampling = replace(sampling, seed=None, temperature=max(sampling.temperature, 0.7))
        self._answer(sampling)

    def _save(self, name: str) -> None:
        if not name:
            self._remark("give a file: /save FILE")
            return
        path = Path(name).expanduser()
        if path.exists() and path.resolve() not in self._saved:
            self._remark(f"{path} is there already; take another name")
            return
        whole = {"model": self._name, "messages": self._conversation.whole()}
        files.write_text(path, json.dumps(whole, ensure_ascii=False, indent=1) + "\n")
        self._saved.add(path.resolve())
        self._remark(f"{len(self._conversation.messages)} messages are in {path}")

    def _say_stats(self, _: str) -> None:
        self._remark(str(self._stats) if self._stats else "there was no answer yet")

    def _remark(self, text: str) -> None:
        dim, plain = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
        print(f"{dim}{text}{plain}", file=sys.stderr, flush=True)


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Ctrl-C puts True into the list, instead of breaking off whatever is being computed."""
    asked: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _edit_lines() -> None:
    """Arrow keys and earlier lines, where the system has them."""
    with suppress(ImportError):
        import readline  # noqa: F401
