"""The sentence encoder as techniques use it: sized to the budget, saved beside the model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hornbook import files
from hornbook.compare.parts import link_model, read_settings
from hornbook.embeddings.encoder import TextEncoder
from hornbook.errors import BudgetError

CUTS = (256, 192, 128, 96, 64, 48, 32)  # tokens read of a text, most first


def encode_within(
    texts: Sequence[str], seconds: float, report: Callable[..., None], name: str = "minilm"
) -> tuple[TextEncoder, np.ndarray]:
    """Open an encoder and encode the texts in at most that many seconds.

    Reads as many tokens of each text as the measured speed allows. Returns the encoder, set to
    that many, and the vectors (N, E). Raises BudgetError when even 32 tokens a text take longer.
    """
    start = time.monotonic()
    report("loading the encoder")
    encoder = TextEncoder.open(name, max_tokens=CUTS[0])
    lengths = np.array(encoder.count_tokens(texts))
    speed = _tokens_per_second(encoder, texts)
    left = seconds - (time.monotonic() - start)
    needed = {cut: float(np.minimum(lengths, cut).sum()) / speed for cut in CUTS}
    fitting = [cut for cut in CUTS if needed[cut] <= left]
    if not fitting:
        raise BudgetError(
            f"encoding {len(texts)} texts takes about {needed[CUTS[-1]]:.0f} s here even at "
            f"{CUTS[-1]} tokens a text, and {max(0.0, left):.0f} s of the budget are left for it",
            hint=f"Give a budget of at least {needed[CUTS[-1]] * 1.5 + 10:.0f} s.",
        )
    encoder.max_tokens = fitting[0]
    vectors = encoder.encode(
        texts, progress=lambda done, n: report(f"encoding {100 * done // n} %")
    )
    return encoder, vectors


def _tokens_per_second(encoder: TextEncoder, texts: Sequence[str]) -> float:
    sample = list(texts[:: max(1, len(texts) // 24)][:24])
    encoder.encode(sample[:2])  # the first call builds kernels
    n_tokens = sum(encoder.count_tokens(sample))
    start = time.perf_counter()
    encoder.encode(sample)
    return n_tokens / (time.perf_counter() - start)


def save_encoder(encoder: TextEncoder, folder: Path) -> None:
    """Put the encoder's files into `folder/encoder`, so that the saved model stands alone."""
    assert encoder.folder is not None, "only an encoder opened from a folder can be saved"
    link_model(encoder.folder, folder / "encoder")
    files.write_text(folder / "encoder.json", json.dumps({"max_tokens": encoder.max_tokens}) + "\n")


def load_encoder(folder: Path) -> TextEncoder:
    """Open what `save_encoder` wrote. Raises CheckpointError when it is incomplete."""
    settings = read_settings(folder / "encoder.json", "max_tokens")
    return TextEncoder.open(str(folder / "encoder"), max_tokens=int(settings["max_tokens"]))
