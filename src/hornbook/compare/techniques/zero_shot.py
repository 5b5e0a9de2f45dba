"""Zero-shot: compare each text with the labels' names and descriptions; learn from no label.

Training labels are used in one place only, the decision layer's calibration, as for every other
technique; the scores themselves would be the same without any (Yin et al. 2019, "Benchmarking
Zero-shot Text Classification").
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from hornbook.compare.encoding import encode_within, load_encoder, save_encoder
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled, Problem
from hornbook.embeddings.encoder import TextEncoder
from hornbook.interop.huggingface import read_weights, write_weights


class ZeroShot:
    """Cosine of a text's vector with each label's: the label is a text too."""

    name: ClassVar[str] = "zero-shot"
    summary: ClassVar[str] = "MiniLM vectors of texts and of the labels' names; nothing learnt"
    needs_members: ClassVar[bool] = False

    def __init__(
        self, encoder: TextEncoder | None = None, label_vectors: np.ndarray | None = None
    ) -> None:
        self._encoder, self._label_vectors = encoder, label_vectors

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        texts = [d.full for d in validation.documents]
        seconds = 0.9 * context.budget.remaining()
        self._encoder, vectors = encode_within(texts, seconds, context.report)
        self._label_vectors = self._encoder.encode(label_texts(context.problem))
        rows = np.arange(len(train), len(train) + len(validation))
        return HeldOut(rows, vectors @ self._label_vectors.T)

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._encoder is not None, "fit or load before scores"
        assert self._label_vectors is not None
        return self._encoder.encode([d.full for d in documents]) @ self._label_vectors.T

    def save(self, folder: Path) -> None:
        assert self._encoder is not None, "fit before save"
        assert self._label_vectors is not None
        save_encoder(self._encoder, folder)
        labels = {"labels": torch.from_numpy(self._label_vectors)}
        write_weights(folder / "labels.safetensors", labels)

    @classmethod
    def load(cls, folder: Path) -> ZeroShot:
        labels = read_weights(folder / "labels.safetensors")["labels"].numpy()
        return cls(load_encoder(folder), labels)


def label_texts(problem: Problem) -> list[str]:
    """Each label as a text: its name in words, then its description where there is one."""
    return [
        ". ".join(
            part for part in (in_words(name), problem.label_descriptions.get(name, "")) if part
        )
        for name in problem.label_names
    ]


def in_words(name: str) -> str:
    """`money-fx`, `money_fx` and `moneyFx` as "money fx"."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[-_./]+", " ", spaced).strip()
