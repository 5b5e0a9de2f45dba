"""Texts to vectors by a sentence encoder (Reimers and Gurevych 2019): mean pooling, length 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hornbook.data.batching import by_length
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert
from hornbook.models.bert import Bert
from hornbook.nn.layout import Ragged
from hornbook.nn.precision import Precision, choose_precision
from hornbook.text.tokenizer import Tokenizer

TOKENS_PER_BATCH = 2048  # fills the matrix units, fits the caches: measured best of 512 to 8192


class TextEncoder:
    """An encoder, its tokenizer, and how many tokens of a text it reads."""

    def __init__(
        self,
        model: Bert,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = 256,
        precision: Precision | None = None,
    ) -> None:
        self.precision = precision or choose_precision()
        self.model = model.to(self.precision.device, self.precision.torch_dtype).eval()
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.folder: Path | None = None  # where it was opened from

    @classmethod
    def open(
        cls, name: str = "minilm", *, max_tokens: int = 256, precision: Precision | None = None
    ) -> TextEncoder:
        """Open an encoder of the catalogue, a folder, or the hub."""
        folder = find_model(name)
        model, _ = load_bert(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        encoder = cls(model, tokenizer, max_tokens=max_tokens, precision=precision)
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
