"""A linear probe: logistic regression on frozen features, all labels at once, by L-BFGS.

The objective is scikit-learn's: C * sum of losses + |W|^2 / 2, biases free (LogisticRegression; for
several labels a document, one binary regression per label). Fitting the labels together, as
one matrix, takes seconds where one after the other takes minutes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def fit_probe(
    features: Tensor, targets: Tensor, n_labels: int, *, c: float, max_iterations: int = 200
) -> nn.Linear:
    """Fit a linear layer E -> L. features: (N, E); targets: (N,) ids or (N, L) of 0 and 1."""
    layer = nn.Linear(features.shape[1], n_labels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    optimizer = torch.optim.LBFGS(
        layer.parameters(),
        max_iter=max_iterations,
        history_size=20,
        tolerance_grad=1e-6,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )
    n = len(features)

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = layer(features)
        if targets.ndim == 1:
            loss = F.cross_entropy(logits, targets, reduction="sum")
        else:
            loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        # Divided by C * N: the same minimum, at a scale that suits the tolerances.
        total = (loss + layer.weight.square().sum() / (2 * c)) / n
        total.backward()
        return total

    with torch.enable_grad():
        optimizer.step(closure)
    return layer.requires_grad_(False)


def standardize(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features with mean 0 and deviation 1, and the mean and deviation (E,) that made them so."""
    mean, std = features.mean(0), features.std(0).clamp(min=1e-6)
    return (features - mean) / std, mean, std


def folded(layer: nn.Linear, mean: Tensor, std: Tensor) -> nn.Linear:
    """The layer that does on raw features what `layer` does on standardized ones."""
    out = nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        out.weight.copy_(layer.weight / std)
        out.bias.copy_(layer.bias - layer.weight @ (mean / std))
    return out
