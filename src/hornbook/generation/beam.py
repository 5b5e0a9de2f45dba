"""Beam search: the likeliest text, looked for along several paths at once.

Each path is continued by every token, and of all continuations the best few stay. What ends is put
aside with its score, the log-probability over its length to a power (Wu et al. 2016, "Google's
Neural Machine Translation System", section 7, without the constant 5): 0 asks for the likeliest
text, which tends to be short; 1 for the likeliest per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import ConfigError
from hornbook.generation.reading import Reader, reader


@dataclass(frozen=True)
class Beam:
    """A text found. tokens: without the prompt and the stop. log_probability: in nats, the stop's
    included. ended: by a stop, not by the limit."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float
    ended: bool


def beam_search(
    model: Any,
    prompt: Sequence[int],
    *,
    n_tokens: int,
    n_beams: int = 4,
    stop_tokens: frozenset[int] = frozenset(),
    length_power: float = 1.0,
) -> list[Beam]:
    """Up to `n_beams` texts of at most `n_tokens` tokens, the best first.

    It ends when no path can become better than what is found already. Raises ConfigError for an
    empty prompt, a prompt and text longer than the context, numbers out of range.
    """
    if not len(prompt) or n_tokens < 1 or n_beams < 1:
        raise ConfigError(
            f"{n_beams} beams of {n_tokens} tokens after {len(prompt)} cannot be searched",
            hint="All three have to be 1 or more.",
        )
    source = reader(model, n_beams)
    if len(prompt) + n_tokens - 1 > source.context_length:
        raise ConfigError(
            f"{len(prompt)} tokens of prompt and {n_tokens} to come exceed the context "
            f"({source.context_length})",
            hint="Ask for fewer, or shorten the prompt; beams don't slide.",
        )
    going = [_Path((), 0.0, 0)]
    logits = source.read([0], [prompt], [1])
    found: list[Beam] = []
    for n in range(1, n_tokens + 1):
        going = _best(going, logits.log_softmax(-1), stop_tokens, n_beams, found, n**length_power)
        longest = n_tokens**length_power if length_power > 0 else 1.0
        # Probabilities only shrink: what goes on can at best keep its own over the whole length.
        settled = len(found) == n_beams and all(
            path.total / longest <= found[-1].score for path in going
        )
        if not going or settled or n == n_tokens:
            break
        going = _placed(going, source)
        slots, last = [path.slot for path in going], [path.tokens[-1:] for path in going]
        logits = source.read(slots, last, [1] * len(going))
    found += [Beam(p.tokens, p.total, p.total / n**length_power, False) for p in going]
    return sorted(found, key=lambda beam: -beam.score)[:n_beams]


@dataclass(frozen=True)
class _Path:
    """Tokens so far, their log-probability, and the slot that has read all but the last."""

    tokens: tuple[int, ...]
    total: float
    slot: int


def _best(
    going: list[_Path],
    shares: Tensor,
    stop_tokens: frozenset[int],
    n_beams: int,
    found: list[Beam],
    weight: float,
) -> list[_Path]:
    """The best continuations of all paths; those that stop join the found. shares: (paths, V)."""
    totals = torch.tensor([path.total for path in going])
    scores = (totals[:, None] + shares).flatten()
    # At most one stop a path and kind stands among the best, so these are enough for both.
    values, places = scores.topk(min(n_beams + len(going) * len(stop_tokens), len(scores)))
    on: list[_Path] = []
    for value, place in zip(values.tolist(), places.tolist(), strict=True):
        path, token = going[place // shares.shape[1]], place % shares.shape[1]
        if value == -float("inf") or len(on) == n_beams:
            break
        if token in stop_tokens:
            found.append(Beam(path.tokens, value, value / weight, True))
        else:
            on.append(_Path((*path.tokens, token), value, path.slot))
    found.sort(key=lambda beam: -beam.score)
    del found[n_beams:]
    return on


def _placed(going: list[_Path], source: Reader) -> list[_Path]:
    """A slot for each path: a parent's first child takes its slot, the others copies of it."""
    parents = {path.slot for path in going}
    free = [slot for slot in range(source.n_slots) if slot not in parents]
    placed, taken = [], set()
    for path in going:
        slot = path.slot
        if slot in taken:
            slot = free.pop(0)
            source.cut(slot, 0)
            source.copy(path.slot, slot, source.length(path.slot))
        taken.add(slot)
        placed.append(_Path(path.tokens, path.total, slot))
    return sorted(placed, key=lambda path: path.slot)
