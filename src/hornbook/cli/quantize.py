"""`hornbook quantize`: a model in 8 or 4 bits, and what that costs and gains."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.evaluation.generation_speed import GenerationSpeed
    from hornbook.evaluation.perplexity import Perplexity


def command(
    model: Annotated[str, typer.Argument(help="A run, a model's folder, a name: smollm2-...")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The new folder.")],
    bits: Annotated[int, typer.Option("--bits", help="8 or 4.")] = 8,
    group: Annotated[
        int, typer.Option("--group", help="Inputs that share a scale, at 4 bits.")
    ] = 32,
    text: Annotated[
        str, typer.Option("--text", help="Corpus or file whose validation part is read.")
    ] = "pydocs",
    n_tokens: Annotated[
        int, typer.Option("--tokens", min=256, help="Tokens of it to read.")
    ] = 8192,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a model with weights of 8 or 4 bits; print size, perplexity and speed before and after.

    The new folder is used like the old one: hornbook chat, generate, serve.
    """
    from hornbook import bundle
    from hornbook.cli.tables import size
    from hornbook.evaluation.generation_speed import generation_speed
    from hornbook.evaluation.perplexity import change, perplexity
    from hornbook.models.gpt import GPT
    from hornbook.models.llama import Llama
    from hornbook.models.modern_gpt import ModernGPT
    from hornbook.quantization import weights

    if bits not in (8, 4):
        raise ConfigError(f"--bits is {bits}", hint="Take 8 or 4.")
    if out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists", hint="Name another folder, or add --overwrite.")
    opened = bundle.open_model(model)
    network = opened.model
    if not isinstance(network, GPT | Llama | ModernGPT) or weights.is_quantized(network):
        raise ConfigError(
            f"{model} is {'quantised already' if weights.is_quantized(network) else opened.family}",
            hint="Give a decoder in floats: gpt, gpt2, llama.",
        )
    tokens = _tokens(text, opened.tokenizer, n_tokens)

    def look() -> tuple[int, Perplexity, GenerationSpeed]:
        n_bytes = sum(t.nbytes for t in network.state_dict().values())
        return n_bytes, perplexity(network, tokens), generation_speed(network)

    before = look()
    weights.attach(network, bits, group=group, keep=False)
    after = look()
    bundle.save(
        out,
        network,
        opened.tokenizer,
        template=opened.template,
        stop_tokens=opened.stop_tokens,
    )
    share, low, high = change(before[1], after[1])
    if as_json:
        found: dict[str, Any] = {
            "model": model,
            "out": str(out),
            "bits": bits,
            "group": group if bits == 4 else None,
            "text": text,
            "n_tokens": before[1].n_tokens,
            "before": _row(*before),
            "after": _row(*after),
            "perplexity_change": {"share": share, "low": low, "high": high},
        }
        print(json.dumps(found, indent=2))
        return
    rows: list[tuple[str, ...]] = [("", "before", "after")]
    rows += [("size", *(size(look[0]) for look in (before, after)))]
    rows += [
        (
            "perplexity",
            *(f"{p.value:.2f} ({p.low:.2f} to {p.high:.2f})" for _, p, _ in (before, after)),
        )
    ]
    streams = before[2].n_streams
    for name, key in (
        ("tokens/s, one text", "decode"),
        (f"tokens/s, {streams} texts", "streams"),
        (f"tokens/s, reading {before[2].n_prompt}", "prompt"),
    ):
        rows += [(name, *(f"{getattr(look[2], key):,.0f}" for look in (before, after)))]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    print(
        f"perplexity {share:+.2%} ({low:+.2%} to {high:+.2%}), on {before[1].n_tokens:,} tokens of "
        f"{text}'s validation part"
    )
    print(f"written to {out}", file=sys.stderr)


def _row(n_bytes: int, found: Perplexity, speed: GenerationSpeed) -> dict[str, Any]:
    return {
        "bytes": n_bytes,
        "perplexity": {"value": found.value, "low": found.low, "high": found.high},
        "tokens_per_second": {
            "one_text": speed.decode,
            "texts": speed.streams,
            "n_texts": speed.n_streams,
            "prompt": speed.prompt,
            "n_prompt": speed.n_prompt,
        },
    }


def _tokens(text: str, tokenizer: Any, n: int) -> list[int]:
    """The first n + 1 tokens of a corpus' validation part."""
    from hornbook.data.corpus import open_corpus

    tokens: list[int] = []
    for document in open_corpus(text).validation():
        # No tokenizer here makes a token of more than a few bytes on the average.
        tokens += tokenizer.encode([document[: 16 * n]], special=False)[0]
        if len(tokens) > n:
            break
    return tokens[: n + 1]
