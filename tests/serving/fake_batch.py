"""A batch without a model: each text is its own prompt, told again and again, a token a step."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from tokenizers import AddedToken, models
from tokenizers import Tokenizer as RustTokenizer

from hornbook.errors import ConfigError
from hornbook.generation.request import Piece, Request, Scored
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.tokenizer import Tokenizer

CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def byte_tokenizer() -> Tokenizer:
    """A token a byte, and three control tokens."""
    rust = RustTokenizer(models.BPE(vocab={c: i for i, c in enumerate(ALPHABET)}, merges=[]))
    rust = byte_level(rust)
    rust.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    return Tokenizer(rust)


class PlainTemplate:
    """A template that lays out roles and contents, and tools when there are any."""

    source = "{{ messages }} {{ tools }}"
    with_tools = None

    def encode(self, messages, tokenizer, *, tools=None):
        if any(m["content"] == "fail" for m in messages):
            raise ConfigError("the template refuses these messages")
        parts = [f"{m['role']}: {m['content']}\n" for m in messages]
        text = (str(tools) if tools else "") + "".join(parts)
        return tokenizer.encode([text], special=False, read_special=False)[0]


@dataclass
class _Text:
    request: Request
    n: int = 0


@dataclass
class FakeBatch:
    """script: what every text says, instead of its prompt. delay: seconds a step takes."""

    tokenizer: Tokenizer = field(default_factory=byte_tokenizer)
    n_slots: int = 4
    delay: float = 0.0
    context_length: int = 512
    script: str | None = None
    error: Exception | None = None
    texts: dict[int, _Text] = field(default_factory=dict)
    waiting: list[int] = field(default_factory=list)
    n_added: int = 0
    n_steps: int = 0
    threads: set[int] = field(default_factory=set)
    most_running: int = 0
    cancelled: dict[int, int] = field(default_factory=dict)  # tokens written till then

    @property
    def n_running(self) -> int:
        return len(self.texts) - len(self.waiting)

    @property
    def n_waiting(self) -> int:
        return len(self.waiting)

    def add(self, request: Request) -> int:
        self.threads.add(threading.get_ident())
        if not request.prompt or len(request.prompt) > self.context_length:
            raise ConfigError(f"a prompt of {len(request.prompt)} tokens")
        self.n_added += 1
        self.texts[self.n_added] = _Text(request)
        self.waiting.append(self.n_added)
        return self.n_added

    def cancel(self, request: int) -> None:
        self.threads.add(threading.get_ident())
        self.cancelled[request] = self.texts.pop(request).n
        if request in self.waiting:
            self.waiting.remove(request)

    def step(self) -> list[Piece]:
        self.threads.add(threading.get_ident())
        self.n_steps += 1
        if self.error is not None:
            raise self.error
        if self.delay:
            time.sleep(self.delay)
        while self.waiting and self.n_running < self.n_slots:
            self.waiting.pop(0)
        self.most_running = max(self.most_running, self.n_running)
        return [self._next(i) for i in list(self.texts) if i not in self.waiting]

    def _next(self, number: int) -> Piece:
        text, scored = self.texts[number], []
        request = text.request
        says = list(request.prompt)
        if self.script is not None:
            says = self.tokenizer.encode([self.script], special=False)[0]
        if request.prompt_logprobs and not text.n:
            scored = [self._scored(t, request) for t in request.prompt]
            scored[0] = Scored(request.prompt[0], scored[0].text, float("nan"))
        said, finish = "", "length"
        if text.n < request.max_tokens:
            token = says[text.n % len(says)]
            text.n += 1
            said = self.tokenizer.spelled(token)
            scored += [self._scored(token, request)] if request.n_logprobs is not None else []
            over = text.n == request.max_tokens
            finish = "length" if over else None
            if self.script is not None and text.n == len(says):
                finish = "stop"
        if finish:
            del self.texts[number]
        return Piece(number, said, tuple(scored), finish, len(request.prompt), text.n)

    def _scored(self, token: int, request: Request) -> Scored:
        others = tuple((t, -0.5 - t) for t in range(request.n_logprobs or 0))
        return Scored(token, self.tokenizer.spelled(token), -0.5, others)
