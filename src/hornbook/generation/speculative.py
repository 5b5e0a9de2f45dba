"""Speculative decoding: guess a few tokens cheaply, let the model check them in one pass.

The model reads k guesses at once and says after each what it would have drawn from, p. A guess x
that came from a distribution q is kept with probability min(1, p(x)/q(x)); at the first that isn't,
a token is drawn from what p has more than q, max(0, p - q) over its sum. What comes out is
distributed as p to the last bit of arithmetic, whatever the guesses are worth (Leviathan et al.
2023, "Fast Inference from Transformers via Speculative Decoding", appendix A.1; Chen et al. 2023,
theorem 1). Good guesses only make it faster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

import torch
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.generation.reading import Reader, reader
from hornbook.generation.sampling import Transform, pick


@dataclass(frozen=True)
class Guess:
    """A token and the distribution it was drawn from, (V,); None: it was the only candidate."""

    token: int
    shares: Tensor | None = None


class Guesser(Protocol):
    """Guesses how a text goes on."""

    def guess(self, tokens: Sequence[int], n: int, generator: torch.Generator) -> list[Guess]:
        """At most n guesses, one after the other, of what follows the tokens."""
        ...


class PromptLookup:
    """Guesses that what followed the last few tokens before follows them again: for answers that
    repeat their question, and code (Saxena 2023, "Prompt Lookup Decoding"). Costs no model.

    n_matched: the longest and the shortest run of tokens that is looked for.
    """

    def __init__(self, *, n_matched: tuple[int, int] = (3, 1)) -> None:
        self._sizes = range(n_matched[0], n_matched[1] - 1, -1)
        self._read: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}  # where each run stood last

    def guess(self, tokens: Sequence[int], n: int, generator: torch.Generator) -> list[Guess]:
        if self._read != list(tokens[: len(self._read)]):
            self._read, self._ends = [], {}
        # The run at the very end is looked up before it is noted: it would find itself.
        for end in range(len(self._read), len(tokens)):
            for size in self._sizes:
                if size <= end:
                    self._ends[tuple(tokens[end - size : end])] = end
        self._read = list(tokens)
        for size in self._sizes:
            start = self._ends.get(tuple(tokens[len(tokens) - size :]))
            if size <= len(tokens) and start is not None:
                return [Guess(token) for token in tokens[start : start + n]]
        return []


class DraftModel:
    """Guesses by a smaller model of the same vocabulary, drawing as `choose` says."""

    def __init__(self, model: Any, choose: Transform) -> None:
        self._reader = reader(model)
        self._choose = choose
        self._read: list[int] = []

    def guess(self, tokens: Sequence[int], n: int, generator: torch.Generator) -> list[Guess]:
        n = min(n, self._reader.context_length - len(tokens))
        if n < 1:
            return []
        shared = _n_shared(self._read, tokens[:-1])
        self._reader.cut(0, shared)
        self._read = list(tokens)
        unread, guesses = list(tokens[shared:]), []
        for _ in range(n):
            shares = self._choose(self._reader.read([0], [unread], [1])[0]).softmax(0)
            token = pick(shares.numpy(), generator)
            guesses.append(Guess(token, shares))
            unread = [token]
        self._read += [guess.token for guess in guesses[:-1]]
        return guesses


@dataclass
class Tally:
    """How the guesses fared: passes of the large model, guesses it checked and kept."""

    n_passes: int = 0
    n_guessed: int = 0
    n_kept: int = 0


def speculate(
    model: Any,
    prompt: Sequence[int],
    guesser: Guesser,
    *,
    n_tokens: int,
    choose: Transform,
    generator: torch.Generator,
    n_guesses: int = 4,
    stop_tokens: frozenset[int] = frozenset(),
    tally: Tally | None = None,
) -> Iterator[int]:
    """Yield up to `n_tokens` ids that continue the prompt, distributed as `generate`'s.

    Greedy (temperature 0) they are the same tokens. Raises ConfigError for an empty prompt, for a
    text that would exceed the context, and when a draft has another vocabulary.
    """
    if not len(prompt):
        raise ConfigError("the prompt is empty", hint="Give at least one token to continue.")
    source = reader(model)
    if len(prompt) + n_tokens - 1 > source.context_length:
        raise ConfigError(
            f"{len(prompt)} tokens of prompt and {n_tokens} to come exceed the context "
            f"({source.context_length})",
            hint="Ask for fewer, or shorten the prompt; guessing doesn't slide.",
        )
    tally = Tally() if tally is None else tally
    # The prompt is read as `generate` reads it: in few bits each way of reading rounds otherwise.
    logits = source.read([0], [prompt], [1])
    new = [pick(choose(logits[0]).softmax(0).numpy(), generator)] if n_tokens else []
    tokens, end = list(prompt), len(prompt) + n_tokens
    while new:
        tally.n_passes += 1
        for token in new:
            if token in stop_tokens:
                return
            tokens.append(token)
            yield token
        new = []
        if (left := end - len(tokens)) > 0:
            guesses = guesser.guess(tokens, min(n_guesses, left - 1), generator)
            new = _checked(source, tokens, guesses, choose, generator)
            tally.n_guessed += len(guesses)
            tally.n_kept += len(new) - 1


def _checked(
    source: Reader,
    tokens: Sequence[int],
    guesses: Sequence[Guess],
    choose: Transform,
    generator: torch.Generator,
) -> list[int]:
    """The guesses that are kept and one more token; what was read of the others is forgotten."""
    row = [tokens[-1], *(guess.token for guess in guesses)]
    logits = source.read([0], [row], [len(row)])
    kept: list[int] = []
    for guess, place in zip(guesses, logits, strict=False):
        wanted = choose(place).softmax(0)
        if guess.shares is not None and guess.shares.shape != wanted.shape:
            raise ConfigError(
                f"the draft has {len(guess.shares)} tokens, the model {len(wanted)}",
                hint="A draft has to have the model's vocabulary.",
            )
        token = _accepted(guess, wanted, generator)
        kept.append(token)
        if token != guess.token:
            break
    else:
        kept.append(pick(choose(logits[-1]).softmax(0).numpy(), generator))
    source.cut(0, len(tokens) + len(kept) - 1)
    return kept


def _accepted(guess: Guess, wanted: Tensor, generator: torch.Generator) -> int:
    """The guess, or a token in its stead: together distributed as `wanted`, (V,)."""
    share = 1.0 if guess.shares is None else float(guess.shares[guess.token])
    if float(torch.rand((), generator=generator)) * share < float(wanted[guess.token]):
        return guess.token
    if guess.shares is None:
        rest = wanted.index_fill(0, torch.tensor(guess.token), 0.0)
    else:
        rest = (wanted - guess.shares).clamp(min=0)
    if not rest.any():  # both are alike but for rounding
        rest = wanted
    return pick(rest.numpy(), generator)


def _n_shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
