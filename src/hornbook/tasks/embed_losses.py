"""What makes vectors of texts alike or not: losses as functions of vectors, one value an example.

Vectors need not have length 1: what counts is the angle between them. N examples, E wide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def in_batch_negatives(
    anchors: Tensor, candidates: Tensor, *, scale: float = 20.0, excluded: Tensor | None = None
) -> Tensor:
    """Which of all candidates belongs to each anchor? Cross-entropy in nats, (N,).

    anchors: (N, E). candidates: (M, E), the first N of which belong to the anchors, in order; the
    others, such as hard negatives, to none. scale: of the cosines, one over the temperature.
    excluded: (N, M), True at candidates that are no wrong answer either. Henderson et al. 2017,
    section 4.4; with hard negatives Karpukhin et al. 2020, equation 2. Equals
    sentence-transformers' MultipleNegativesRankingLoss.
    """
    cosines = F.normalize(anchors.float(), dim=-1) @ F.normalize(candidates.float(), dim=-1).T
    scores = scale * cosines
    if excluded is not None:
        scores = scores.masked_fill(excluded, -torch.inf)
    return F.cross_entropy(
        scores, torch.arange(len(anchors), device=scores.device), reduction="none"
    )


def cosine_regression(first: Tensor, second: Tensor, scores: Tensor) -> Tensor:
    """The squared difference of a pair's cosine and its score (N,): (N, E) twice -> (N,).

    Reimers and Gurevych 2019, section 3; equals sentence-transformers' CosineSimilarityLoss.
    """
    return (F.cosine_similarity(first.float(), second.float()) - scores.float()) ** 2


def triplet(anchors: Tensor, alike: Tensor, others: Tensor, *, margin: float = 0.3) -> Tensor:
    """How much the other's cosine comes nearer than `margin` to the alike's: (N, E) each -> (N,).

    Schroff et al. 2015, equation 1, of cosines instead of squared distances.
    """
    near = F.cosine_similarity(anchors.float(), alike.float())
    far = F.cosine_similarity(anchors.float(), others.float())
    return F.relu(far - near + margin)


def at_sizes(
    loss: Callable[..., Tensor], vectors: Sequence[Tensor], sizes: Sequence[int]
) -> Tensor:
    """The sum of a loss over the first `sizes` numbers of all vectors, so that vectors may be cut
    there later (Kusupati et al. 2022, equation 1 with weights of 1); all of them without sizes."""
    if not sizes:
        return loss(*vectors)
    return torch.stack([loss(*(x[:, :size] for x in vectors)) for size in sizes]).sum(0)
