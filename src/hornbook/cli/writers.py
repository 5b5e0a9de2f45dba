"""Opening a model that writes, in the number format that is asked for."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from hornbook.errors import ConfigError, nearest

if TYPE_CHECKING:
    from hornbook.bundle import Bundle

# What config.json calls the families that continue a text.
WRITERS = {
    "hornbook-bigram",
    "hornbook-counting-gpt",
    "hornbook-ngram",
    "gpt2",
    "nanochat",
    "llama",
}
BITS = {"int8": 8, "int4": 4}
PRECISIONS = ("auto", "float32", *BITS)
LARGE = 20_000_000  # parameters from which on reading the weights is what takes the time


def open_writer(name: str, precision: str) -> tuple[Bundle, str]:
    """A model by name and a line that says what it is and in which format it will run.

    Raises ConfigError for a model that doesn't write, or a format that nobody knows.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"there is no precision '{precision}'", hint=nearest(precision, PRECISIONS)
        )
    from hornbook import bundle

    opened = bundle.open_model(name)
    if opened.family not in WRITERS:
        raise ConfigError(
            f"{name} is a {opened.family}, which doesn't write text",
            hint="Name a decoder: gpt, gpt2, llama, bigram.",
        )
    return opened, f"{opened.name}: {_run_in(opened.model, precision)}"


def stop_tokens(opened: Bundle) -> frozenset[int]:
    """What ends the model's texts; the end of a document where it says nothing itself."""
    from hornbook.data.packing import end_token

    end = end_token(opened.tokenizer)
    return opened.stop_tokens or frozenset([] if end is None else [end])


def _run_in(model: Any, precision: str) -> str:
    parameters = getattr(model, "parameters", None)
    if parameters is None:
        return "n-gram counts"
    n = sum(p.numel() for p in parameters())
    size = f"{n / 1e6:,.0f}M" if n >= 1e6 else f"{n:,}"
    if precision == "auto":
        quick = n >= LARGE and find_spec("hornbook.quantization.weights") is not None
        precision = "int4" if quick else "float32"
    if precision in BITS:
        from hornbook.quantization import weights

        weights.attach(model, bits=BITS[precision])
    return f"{size} parameters, {precision}"
