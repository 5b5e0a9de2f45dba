"""Nearest neighbours: labels voted by the most similar training texts (Cover and Hart 1967)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from hornbook import files
from hornbook.compare.encoding import encode_within, load_encoder, save_encoder
from hornbook.compare.parts import read_settings
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.embeddings.encoder import TextEncoder
from hornbook.errors import CheckpointError
from hornbook.interop.huggingface import read_weights, write_weights
from hornbook.tasks.decision import Decision

NEIGHBOURS = (5, 10, 20, 40)
TEMPERATURE = 0.05  # a neighbour .05 less similar has 1/e of the vote
ROWS_AT_ONCE = 1024


class EmbedKnn:
    """The labels of the k nearest training texts by MiniLM's vectors, weighted by similarity."""

    name: ClassVar[str] = "embed-knn"
    summary: ClassVar[str] = "MiniLM vectors, labels voted by the nearest training texts"
    needs_members: ClassVar[bool] = False

    def __init__(
        self,
        encoder: TextEncoder | None = None,
        vectors: np.ndarray | None = None,
        targets: np.ndarray | None = None,
        k: int = NEIGHBOURS[0],
    ) -> None:
        self._encoder, self._vectors, self._targets, self._k = encoder, vectors, targets, k

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        everything = train + validation
        texts = [d.full for d in everything.documents]
        seconds = 0.85 * context.budget.remaining()
        self._encoder, self._vectors = encode_within(texts, seconds, context.report)
        self._targets = everything.targets
        apart = np.arange(len(texts)) if everything.groups is None else everything.groups
        best: tuple[float, int, np.ndarray] | None = None
        for k in NEIGHBOURS:
            if best and k >= len(texts):
                break
            # Each row is scored by the others: a text is no neighbour of its own, nor is a copy.
            scores = vote(self._vectors, self._vectors, self._targets, k, apart=apart)
            decision = Decision.fit(
                scores,
                everything.targets,
                multi_label=context.problem.multi_label,
                seed=context.seed,
                groups=apart,
            )
            score = decision.cross_validated_micro_f1
            if best is None or score > best[0]:
                best = (score, k, scores)
            context.report(f"k={k}", best[0])
        assert best is not None
        self._k = best[1]
        self.settings = {"k": self._k, "max_tokens": self._encoder.max_tokens}
        return HeldOut(np.arange(len(everything)), best[2])

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._encoder is not None, "fit or load before scores"
        assert self._vectors is not None and self._targets is not None
        queries = self._encoder.encode([d.full for d in documents])
        return vote(queries, self._vectors, self._targets, self._k)

    def save(self, folder: Path) -> None:
        assert self._encoder is not None, "fit before save"
        assert self._vectors is not None and self._targets is not None
        save_encoder(self._encoder, folder)
        arrays = {
            "vectors": torch.from_numpy(self._vectors),
            "targets": torch.from_numpy(self._targets),
        }
        write_weights(folder / "neighbours.safetensors", arrays)
        files.write_text(folder / "neighbours.json", json.dumps({"k": self._k}) + "\n")

    @classmethod
    def load(cls, folder: Path) -> EmbedKnn:
        arrays = read_weights(folder / "neighbours.safetensors")
        k = int(read_settings(folder / "neighbours.json", "k")["k"])
        vectors, targets = arrays["vectors"].numpy(), arrays["targets"].numpy()
        if vectors.ndim != 2 or targets.ndim != 2 or len(vectors) != len(targets):
            raise CheckpointError(
                f"{folder / 'neighbours.safetensors'} holds vectors {vectors.shape} and targets "
                f"{targets.shape}, which do not fit each other",
                hint="The saved model was changed; fit the technique again.",
            )
        return cls(load_encoder(folder), vectors, targets, k)


def vote(
    queries: np.ndarray,
    vectors: np.ndarray,
    targets: np.ndarray,
    k: int,
    *,
    apart: np.ndarray | None = None,
) -> np.ndarray:
    """The share (N, L) of the k nearest neighbours' votes that each label gets.

    queries: (N, E), vectors: (M, E), both of length 1; targets: (M, L) bool. apart: (N,), where
    query i is vector i; it gets no vote from vectors of its own number: itself, near-duplicates.
    """
    shares = np.empty((len(queries), targets.shape[1]), np.float32)
    k = max(1, min(k, len(vectors) - (apart is not None)))
    for start in range(0, len(queries), ROWS_AT_ONCE):
        similarity = queries[start : start + ROWS_AT_ONCE] @ vectors.T  # (n, M)
        rows = np.arange(len(similarity))
        if apart is not None:
            similarity[apart[start + rows][:, None] == apart] = -np.inf
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]  # (n, k)
        close = similarity[rows[:, None], nearest]
        weights = np.exp((close - close.max(axis=1, keepdims=True)) / TEMPERATURE)
        weights /= weights.sum(axis=1, keepdims=True)
        shares[start + rows] = np.einsum("nk,nkl->nl", weights, targets[nearest])
    return shares
