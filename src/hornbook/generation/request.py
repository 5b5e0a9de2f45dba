"""What is asked of a language model, and what comes back: plain data, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hornbook.generation.constrain import Grammar


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. temperature 0 takes the likeliest; the same seed, the same text.

    Penalties and bias come before temperature, and temperature before top_k, top_p and min_p.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Request:
    """One text to be continued.

    max_tokens: at most so many new tokens. stop_tokens end the text and are not part of it, as
    stop_texts are not. n_logprobs: None for none, 0 for the drawn token's alone, n for the n
    likeliest too. prompt_logprobs: the prompt's tokens come scored, in the first piece. slide: past
    the context's end the oldest tokens are forgotten; otherwise the text ends there, as "length".
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()
    stop_texts: tuple[str, ...] = ()
    n_logprobs: int | None = None
    prompt_logprobs: bool = False
    grammar: Grammar | None = None
    slide: bool = False


@dataclass(frozen=True)
class Scored:
    """A token with its log-probability in nats, and the likeliest tokens in its place with theirs.

    The probability is the model's own, before sampling's transforms. text: what the token spells.
    """

    token: int
    text: str
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """What one step added to a request's text; the last one has a finish.

    finish: "stop" (a stop token or text, or a grammar's end), "length" or "cancelled". n_cached:
    prompt tokens that were read before, in a shared prefix.
    """

    request: int
    text: str
    tokens: tuple[Scored, ...]
    finish: str | None
    n_prompt: int
    n_generated: int
    n_cached: int = 0
