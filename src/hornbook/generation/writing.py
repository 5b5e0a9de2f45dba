"""One request on its way: logits in, tokens and certain text out, until something ends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.generation.drawing import Drawer, log_probabilities
from hornbook.generation.request import Request, Scored
from hornbook.generation.stopping import Stops
from hornbook.generation.stream import detokenizer
from hornbook.text.tokenizer import Tokenizer

UNPREDICTED = float("nan")  # the log-probability of a prompt's first token


@dataclass(frozen=True)
class Step:
    """What one draw came to. token: None where the text ended without one."""

    token: int | None
    text: str
    scored: Scored | None
    finish: str | None


class Writing:
    """The text of one request. Raises ConfigError for settings out of range."""

    def __init__(self, request: Request, tokenizer: Tokenizer) -> None:
        if request.max_tokens < 0 or (request.n_logprobs or 0) < 0:
            raise ConfigError(
                f"max_tokens is {request.max_tokens} and n_logprobs {request.n_logprobs}",
                hint="Use 0 or more.",
            )
        self.n_written = 0
        self._request = request
        self._tokenizer = tokenizer
        self._drawer = Drawer(request.sampling, request.prompt)
        self._spelling = detokenizer(tokenizer, request.prompt)
        self._stops: Stops[str] = Stops(request.stop_texts)
        self._parser = None if request.grammar is None else request.grammar.start()

    @property
    def is_full(self) -> bool:
        return self.n_written >= self._request.max_tokens

    def draw(self, logits: Tensor) -> Step:
        """One more token, by the logits (V,) of what comes next."""
        allowed = None
        if self._parser is not None:
            allowed = self._allowed(len(logits))
            if not allowed.any():  # over, or the vocabulary cannot spell what has to follow
                return self._over(None, None, "stop" if self._parser.may_end else "length")
        token = self._drawer.draw(logits, allowed)
        if token in self._request.stop_tokens:
            return self._over(None, None, "stop")
        self._drawer.note(token)
        self.n_written += 1
        scored = None
        if self._request.n_logprobs is not None:
            scored = self._scored(token, logits)
        certain = "".join(self._stops.add(self._spelling.add(token)))
        if self._stops.found:
            return Step(token, certain, scored, "stop")
        if self._parser is not None:
            self._parser.take(token)
            if self._parser.must_end and self._parser.may_end:
                return self._over(token, scored, "stop", certain)
        if self.is_full:
            return self._over(token, scored, "length", certain)
        return Step(token, certain, scored, None)

    def end(self) -> str:
        """The text held back so far, for an end that came from elsewhere."""
        rest = "".join(self._stops.add(self._spelling.end()))
        return rest if self._stops.found else rest + "".join(self._stops.end())

    def score_prompt(self, start: int, logits: Tensor) -> list[Scored]:
        """The prompt's tokens from `start` on, by the logits (n, V) before each."""
        tokens = self._request.prompt[start : start + len(logits)]
        return [self._scored(t, row) for t, row in zip(tokens, logits, strict=True)]

    def unpredicted(self) -> Scored:
        """The prompt's first token, which nothing stands before."""
        token = self._request.prompt[0]
        return Scored(token, spelled(self._tokenizer, token), UNPREDICTED)

    def _scored(self, token: int, logits: Tensor) -> Scored:
        n = self._request.n_logprobs or 0
        logprob, top = log_probabilities(logits, token, n)
        return Scored(token, spelled(self._tokenizer, token), logprob, tuple(top))

    def _allowed(self, vocab_size: int) -> NDArray[np.bool_]:
        assert self._parser is not None
        allowed = self._parser.allowed(vocab_size)
        if self._parser.may_end:
            allowed[[t for t in self._request.stop_tokens if t < vocab_size]] = True
        return allowed

    def _over(
        self, token: int | None, scored: Scored | None, finish: str, certain: str = ""
    ) -> Step:
        text = certain + self.end()
        return Step(token, text, scored, "stop" if self._stops.found else finish)


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """A token as it reads; "" for an id outside the vocabulary, such as a padded table has."""
    return tokenizer.spelled(token) if 0 <= token < len(tokenizer.tokens) else ""


def check_ids(name: str, tokens: Sequence[int], vocab_size: int) -> None:
    """Raise ConfigError for ids that the model doesn't have."""
    if wrong := [token for token in tokens if not 0 <= token < vocab_size]:
        raise ConfigError(
            f"{name}: {wrong[0]} is not a token of this model",
            hint=f"Ids go from 0 to {vocab_size - 1}; were they made by another tokenizer?",
        )
