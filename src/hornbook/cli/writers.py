"""Opening a model that writes, in the number format that is asked for."""

from __future__ import annotations

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
TRANSLATOR = "marian"  # writes another text from one
BITS = {"int8": 8, "int4": 4}
PRECISIONS = ("auto", "float32", *BITS)
LARGE = 20_000_000  # parameters from which on reading the weights is what takes the time


def open_bundle(name: str, precision: str = "auto") -> Bundle:
    """A model that writes, by name. Raises ConfigError for one that doesn't, such as a decoder with
    a classifier's head, or a format that nobody knows."""
    check_precision(precision)
    from torch import nn

    from hornbook import bundle
    from hornbook.recipes.apply_plain import wrong_model

    opened = bundle.open_model(name)
    if opened.family not in {*WRITERS, TRANSLATOR}:
        raise ConfigError(
            f"{name} is a {opened.family}, which doesn't write text",
            hint="Name a decoder: gpt, gpt2, llama, bigram.",
        )
    if isinstance(opened.model, nn.Module) and not hasattr(opened.model, "logits"):
        raise wrong_model(opened, "generate", "a model that continues a text: gpt, llama, bigram")
    return opened


def check_precision(precision: str) -> None:
    """Raises ConfigError for a number format that nobody knows."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"there is no precision '{precision}'", hint=nearest(precision, PRECISIONS)
        )


def quick(model: Any) -> str:
    """What a large model runs in unless something else is asked for: the fewest bits of which this
    machine multiplies tiles, for reading the weights is what takes the time."""
    from torch import nn

    from hornbook.quantization import tiled

    widths = [part.in_features for part in model.modules() if isinstance(part, nn.Linear)]
    return "int4" if all(map(tiled.fits, widths)) else "int8"


def stop_tokens(opened: Bundle) -> frozenset[int]:
    """What ends the model's texts; the end of a document where it says nothing itself."""
    from hornbook.data.packing import end_token

    end = end_token(opened.tokenizer)
    return opened.stop_tokens or frozenset([] if end is None else [end])


def run_in(model: Any, precision: str) -> str:
    """Put the model into a number format; what it is now, as a line."""
    from torch import nn

    if not isinstance(model, nn.Module):
        return "n-gram counts"
    from hornbook.quantization import weights

    if weights.is_quantized(model):
        said = f"int{weights.description(model)['bits']}"
        if precision not in ("auto", said):
            raise ConfigError(
                f"this model was saved in {said}, it cannot run in {precision}",
                hint="Open the model it was made from.",
            )
        return said
    n = sum(p.numel() for p in model.parameters())
    size = f"{n / 1e6:,.0f}M" if n >= 1e6 else f"{n:,}"
    if precision == "auto":
        precision = quick(model) if n >= LARGE else "float32"
    if precision in BITS:
        weights.attach(model, bits=BITS[precision], keep=False)
    return f"{size} parameters, {precision}"
