"""Logistic regression over sentence vectors: the frozen encoder's answer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from hornbook.compare.encoding import encode_within, load_encoder, save_encoder
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.embeddings.encoder import TextEncoder
from hornbook.interop.huggingface import read_weights, write_weights
from hornbook.tasks.classification import class_targets
from hornbook.tasks.decision import Decision
from hornbook.tasks.folds import deal_folds
from hornbook.tasks.probe import fit_probe, folded, standardize

STRENGTHS = (0.01, 0.03, 0.1, 0.3)
N_FOLDS = 4


class EmbedLogreg:
    """Logistic regression on MiniLM's vectors; its strength by cross-validation."""

    name: ClassVar[str] = "embed-logreg"
    summary: ClassVar[str] = "MiniLM vectors, logistic regression, C by cross-validation"
    needs_members: ClassVar[bool] = False

    def __init__(self, encoder: TextEncoder | None = None, layer: nn.Linear | None = None) -> None:
        self._encoder, self._layer = encoder, layer

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        everything = train + validation
        texts = [d.full for d in everything.documents]
        budget = context.budget
        self._encoder, vectors = encode_within(texts, 0.8 * budget.remaining(), context.report)
        features, mean, std = standardize(torch.from_numpy(vectors))
        problem = context.problem
        targets = class_targets(everything.targets, problem.multi_label)
        n_folds = min(N_FOLDS, len(everything))
        folds = deal_folds(everything.targets, n_folds, context.seed, everything.groups)
        best: tuple[float, float, np.ndarray] | None = None
        for c in STRENGTHS:
            if best and budget.remaining() < 0.1 * budget.seconds:
                break
            scores = out_of_fold(features, targets, problem.n_labels, folds, c)
            decision = Decision.fit(
                scores,
                everything.targets,
                multi_label=problem.multi_label,
                seed=context.seed,
                groups=everything.groups,
            )
            score = decision.cross_validated_micro_f1
            if best is None or score > best[0]:
                best = (score, c, scores)
            context.report(f"C={c:g} done", best[0])
        assert best is not None
        self.settings = {"c": best[1], "max_tokens": self._encoder.max_tokens}
        layer = fit_probe(features, targets, problem.n_labels, c=best[1])
        self._layer = folded(layer, mean, std)
        return HeldOut(np.arange(len(everything)), best[2])

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._encoder is not None and self._layer is not None, "fit or load before scores"
        vectors = torch.from_numpy(self._encoder.encode([d.full for d in documents]))
        with torch.inference_mode():
            return self._layer(vectors).numpy()

    def save(self, folder: Path) -> None:
        assert self._encoder is not None and self._layer is not None, "fit before save"
        save_encoder(self._encoder, folder)
        write_weights(folder / "head.safetensors", self._layer.state_dict())

    @classmethod
    def load(cls, folder: Path) -> EmbedLogreg:
        weights = read_weights(folder / "head.safetensors")
        n_labels, d_model = weights["weight"].shape
        layer = nn.Linear(d_model, n_labels)
        layer.load_state_dict(weights)
        return cls(load_encoder(folder), layer)


def out_of_fold(
    features: Tensor, targets: Tensor, n_labels: int, folds: np.ndarray, c: float
) -> np.ndarray:
    """Scores (N, L) of each row by a probe that was fitted to the other folds."""
    scores = np.zeros((len(features), n_labels), np.float32)
    for fold in range(folds.max() + 1):
        inside, outside = folds != fold, folds == fold
        layer = fit_probe(features[inside], targets[inside], n_labels, c=c, max_iterations=100)
        with torch.inference_mode():
            scores[outside] = layer(features[outside]).numpy()
    return scores
