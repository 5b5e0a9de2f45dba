"""`hornbook generate`: continue a text with a model that was trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.text.tokenizer import Tokenizer


# What config.json calls the families that continue a text.
WRITERS = {"hornbook-bigram", "hornbook-counting-gpt", "gpt2", "nanochat", "llama"}
TRANSLATOR = "marian"  # writes another text from one


def command(
    model: Annotated[Path, typer.Argument(help="A training run's folder, or a model's.")],
    prompt: Annotated[
        str,
        typer.Argument(help="The text to continue, or to translate; - reads standard input."),
    ],
    n_tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Tokens to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above 1 is wilder.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only among the k likeliest.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only among those that together have this share.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only those this many times as likely as the likeliest.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed draws the same text.")] = 0,
    no_slide: Annotated[
        bool, typer.Option("--no-slide", help="Refuse what exceeds the model's context.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object at the end, no streaming.")
    ] = False,
) -> None:
    """Continue a text. What is drawn appears as it is written."""
    from hornbook import bundle
    from hornbook.data.packing import end_token
    from hornbook.generation import sampling
    from hornbook.generation.generate import generate, seeded
    from hornbook.generation.stream import text_pieces

    transforms = [sampling.temperature(temperature)]
    transforms += [sampling.top_k(top_k)] if top_k is not None else []
    transforms += [sampling.top_p(top_p)] if top_p is not None else []
    transforms += [sampling.min_p(min_p)] if min_p is not None else []
    opened = bundle.load(model)
    if opened.family == TRANSLATOR:
        from hornbook.generation.translate import translate

        source = sys.stdin.read() if prompt == "-" else prompt
        (written,) = translate(opened.model, opened.tokenizer, [source], max_tokens=n_tokens)
        found = {"prompt": source, "text": written}
        print(json.dumps(found, ensure_ascii=False) if as_json else written)
        return
    if opened.family not in WRITERS:
        raise ConfigError(
            f"{model} is a {opened.family}, which doesn't write text",
            hint="Name a decoder: gpt, gpt2, llama, bigram.",
        )
    text = sys.stdin.read() if prompt == "-" else prompt
    tokens = opened.tokenizer.encode([text], special=False)[0]
    say_unknown(text, tokens, opened.tokenizer)
    pieces = text_pieces(
        generate(
            opened.model,
            tokens,
            n_tokens=n_tokens,
            choose=sampling.chain(*transforms),
            generator=seeded(seed),
            stop=end_token(opened.tokenizer),
            slide=not no_slide,
        ),
        opened.tokenizer,
        before=tokens,
    )
    if as_json:
        written = "".join(pieces)
        print(json.dumps({"prompt": text, "text": written, "seed": seed}, ensure_ascii=False))
        return
    print(text, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()


def say_unknown(text: str, tokens: Sequence[int], tokenizer: Tokenizer) -> None:
    """Say which characters of a prompt the vocabulary doesn't have; they are read as unknown."""
    missing = sorted(tokenizer.unknown(text))
    if not missing:
        return
    print(f"not in the vocabulary, read as unknown: {' '.join(missing)}", file=sys.stderr)
