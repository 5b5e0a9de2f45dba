"""Draw tokens one after the other from a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from hornbook.errors import ConfigError
from hornbook.generation.reading import newest, reader
from hornbook.generation.sampling import Transform, draw


def seeded(seed: int) -> torch.Generator:
    """What draws the same tokens for the same seed."""
    return torch.Generator().manual_seed(seed)


def generate(
    model: Any,
    prompt: Sequence[int],
    *,
    n_tokens: int,
    choose: Transform,
    generator: torch.Generator,
    stop: int | None = None,
    slide: bool = True,
) -> Iterator[int]:
    """Yield up to `n_tokens` token ids that continue the prompt; `stop` ends them.

    model: a decoder of `models`; what it has read it keeps (`reading`).
    slide: past the context's end the oldest quarter is forgotten; otherwise ConfigError. Raises
    ConfigError for an empty prompt.
    """
    if not len(prompt):
        raise ConfigError("the prompt is empty", hint="Give at least one token to continue.")
    source = reader(model)
    longest = source.context_length
    if not slide and len(prompt) + n_tokens > longest:
        raise ConfigError(
            f"{len(prompt)} tokens of prompt and {n_tokens} to come exceed the context ({longest})",
            hint="Ask for fewer, shorten the prompt, or let the window slide.",
        )
    window = list(prompt[-longest:])  # what is read, and then what was drawn
    unread = window
    for _ in range(n_tokens):
        token = draw(choose(source.read([0], [unread], [1])[0]), generator)
        if token == stop:
            return
        yield token
        unread = [token]
        if len(window) == longest:
            source.cut(0, 0)
            window = unread = newest([*window, token], longest)
        else:
            window = [*window, token]
