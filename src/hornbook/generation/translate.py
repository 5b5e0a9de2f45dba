"""Text from text: an encoder-decoder writes what its source calls for, the likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hornbook.errors import ConfigError
from hornbook.tasks.seq2seq import bounds, greedy
from hornbook.text.tokenizer import Tokenizer


def translate(
    model: Any, tokenizer: Tokenizer, sources: Sequence[str], *, max_tokens: int
) -> list[str]:
    """What is written from each source, by greedy decoding, at most `max_tokens` and the context.

    model: an `EncoderDecoder`. Raises ConfigError for a source longer than the model's context.
    """
    start, end = bounds(tokenizer)
    context = model.config.context_length
    rows = [[*ids, end] for ids in tokenizer.encode(sources, special=False, read_special=False)]
    longest = max(map(len, rows))
    if longest > context:
        raise ConfigError(
            f"a source has {longest:,} tokens with its end; the model reads {context:,}",
            hint="Give it in parts, a sentence or a paragraph each.",
        )
    was_training = model.training
    model.eval()
    try:
        written = greedy(model, rows, start=start, end=end, max_tokens=min(max_tokens, context))
    finally:
        model.train(was_training)
    return [tokenizer.decode(row) for row in written]
