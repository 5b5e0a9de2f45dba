"""Text from text: an encoder-decoder writes what its source calls for, the likeliest tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hornbook.data.batching import by_length
from hornbook.errors import ConfigError
from hornbook.generation.source_beams import beams_of_sources
from hornbook.tasks.seq2seq import bounds, greedy
from hornbook.text.tokenizer import Tokenizer

AT_ONCE = 2048  # tokens of sources that are written from together, over the beams


def translate(
    model: Any,
    tokenizer: Tokenizer,
    sources: Sequence[str],
    *,
    max_tokens: int,
    n_beams: int = 1,
    length_power: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """What is written from each source, of at most `max_tokens` tokens and the context.

    model: an `EncoderDecoder`. n_beams: paths that the likeliest text is looked for along; 1 takes
    the likeliest token each time. length_power: of a text's length, which its log-probability is
    divided by; above 1 texts get longer. progress: called with sources done, and their number.
    Raises ConfigError for a source longer than the model's context.
    """
    rows = [
        [*ids, bounds(tokenizer)[1]]
        for ids in tokenizer.encode(sources, special=False, read_special=False)
    ]
    context = model.config.context_length
    longest = max(map(len, rows), default=0)
    if longest > context:
        raise ConfigError(
            f"a source has {longest:,} tokens with its end; the model reads {context:,}",
            hint="Give it in parts, a sentence or a paragraph each.",
        )
    written = write_from(
        model,
        rows,
        tokenizer,
        max_tokens=max_tokens,
        n_beams=n_beams,
        length_power=length_power,
        progress=progress,
    )
    return [tokenizer.decode(tokens) for tokens in written]


def write_from(
    model: Any,
    rows: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    *,
    max_tokens: int,
    n_beams: int = 1,
    length_power: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """The same of token ids, each source with its end: sources of like length at once."""
    start, end = bounds(tokenizer)
    most = min(max_tokens, model.config.context_length)
    written: list[list[int]] = [[] for _ in rows]
    n_done = 0
    was_training = model.training
    model.eval()
    try:
        for batch in by_length([len(row) for row in rows], max(1, AT_ONCE // n_beams)):
            some = [rows[i] for i in batch]
            if n_beams == 1:
                texts = greedy(model, some, start=start, end=end, max_tokens=most)
            else:
                found = beams_of_sources(
                    model,
                    some,
                    start=start,
                    end=end,
                    max_tokens=most,
                    n_beams=n_beams,
                    length_power=length_power,
                )
                texts = [list(beams[0].tokens) for beams in found]
            for i, text in zip(batch, texts, strict=True):
                written[i] = text
            n_done += len(batch)
            if progress:
                progress(n_done, len(rows))
    finally:
        model.train(was_training)
    return written
