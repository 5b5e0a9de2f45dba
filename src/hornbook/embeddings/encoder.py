"""Texts to vectors by a sentence encoder (Reimers and Gurevych 2019): mean pooling, length 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hornbook.data.batching import by_length
from hornbook.embeddings.calibration import TEXTS, with_long_ones
from hornbook.errors import ConfigError
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert
from hornbook.models.bert import Bert
from hornbook.models.modern_bert import ModernBert
from hornbook.nn.layout import Ragged
from hornbook.nn.precision import Precision, choose_precision
from hornbook.quantization import int8
from hornbook.quantization.kernels import Kernel, choose_kernel
from hornbook.text.tokenizer import Tokenizer

TOKENS_PER_BATCH = 2048  # fills the matrix units, fits the caches: measured best of 512 to 8192
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


class TextEncoder:
    """An encoder, its tokenizer, and how many tokens of a text it reads.

    precision: "auto" (float32 or bfloat16, whichever is faster here), one of these, "int8" (the
    blocks' linear layers in bytes, for processors), or a Precision. `precision.reason` and, in
    int8, `kernel.reason` say what is in use and why. In int8 the texts of `calibration` show how
    large the layers' inputs get; texts like those to be encoded are best. Raises ConfigError for
    another name.
    """

    def __init__(
        self,
        model: Bert | ModernBert,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = 256,
        precision: Precision | str | None = "auto",
        calibration: Sequence[str] = TEXTS,
    ) -> None:
        self.precision = _resolve(precision)
        self.model = model.to(self.precision.device, self.precision.torch_dtype).eval()
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.folder: Path | None = None  # where it was opened from
        self.kernel: Kernel | None = None  # what multiplies bytes, in int8
        if precision == "int8":
            self.kernel = choose_kernel()
            int8.attach(
                self.model, lambda: self.encode(with_long_ones(calibration)), kernel=self.kernel
            )

    @classmethod
    def open(
        cls,
        name: str = "minilm",
        *,
        max_tokens: int = 256,
        precision: Precision | str | None = "auto",
        calibration: Sequence[str] = TEXTS,
    ) -> TextEncoder:
        """Open an encoder of the catalogue, a folder, or the hub."""
        folder = find_model(name)
        model, _ = load_bert(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        encoder = cls(
            model, tokenizer, max_tokens=max_tokens, precision=precision, calibration=calibration
        )
        encoder.folder = folder
        return encoder

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens of each text would be read."""
        return [len(t) for t in self.tokenizer.encode(texts, max_tokens=self.max_tokens)]

    @torch.inference_mode()
    def encode(
        self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None
    ) -> np.ndarray:
        """Vectors of length 1, (N, E) float32, in the order of the texts.

        progress is called with (texts done, texts in all) after each batch.
        """
        tokens = self.tokenizer.encode(texts, max_tokens=self.max_tokens)
        vectors = np.empty((len(tokens), self.model.config.d_model), dtype=np.float32)
        done = 0
        for batch in by_length([len(t) for t in tokens], TOKENS_PER_BATCH):
            layout = Ragged([len(tokens[i]) for i in batch], self.precision.device)
            flat = torch.tensor([t for i in batch for t in tokens[i]], device=self.precision.device)
            hidden = self.model(flat, layout)  # (T, E)
            vectors[batch] = F.normalize(layout.mean(hidden).float(), dim=-1).cpu().numpy()
            done += len(batch)
            if progress:
                progress(done, len(tokens))
        return vectors


def _resolve(precision: Precision | str | None) -> Precision:
    """The device and the float format; int8 keeps float32 for all but the products."""
    if isinstance(precision, Precision):
        return precision
    if precision not in (None, *PRECISIONS):
        raise ConfigError(
            f"precision is '{precision}'", hint=f"Allowed: {', '.join(PRECISIONS)}, or a Precision."
        )
    if precision in (None, "auto"):
        return choose_precision()
    if precision == "int8":
        return Precision("cpu", "float32", "int8 was asked for: bytes are multiplied on processors")
    return Precision(choose_precision().device, str(precision), f"{precision} was asked for")
