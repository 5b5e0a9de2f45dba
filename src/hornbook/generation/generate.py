"""Draw tokens one after the other from a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from hornbook.errors import ConfigError
from hornbook.generation.sampling import Transform, draw
from hornbook.nn.layout import Ragged


def seeded(seed: int) -> torch.Generator:
    """What draws the same tokens for the same seed."""
    return torch.Generator().manual_seed(seed)


@torch.inference_mode()
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

    model: a decoder of `models`.
    slide: past the context's end the oldest tokens are forgotten; otherwise ConfigError. Raises
    ConfigError for an empty prompt.
    """
    longest = getattr(model.config, "context_length", 1)  # the bigram reads one token
    tokens = list(prompt)
    if not tokens:
        raise ConfigError("the prompt is empty", hint="Give at least one token to continue.")
    if not slide and len(tokens) + n_tokens > longest:
        raise ConfigError(
            f"{len(tokens)} tokens of prompt and {n_tokens} to come exceed the context ({longest})",
            hint="Ask for fewer, shorten the prompt, or let the window slide.",
        )
    device = next(model.parameters()).device
    model.eval()
    for _ in range(n_tokens):
        window = tokens[-longest:]
        hidden = model(torch.tensor(window, device=device), Ragged([len(window)], device.type))
        token = draw(choose(model.logits(hidden[-1]).cpu()), generator)
        if token == stop:
            return
        tokens.append(token)
        yield token
