"""From scores on any scale to probabilities, learnt on held-out scores.

Single-label: softmax of `slope * score + bias`, one slope (a temperature; Guo et al. 2017) and
small biases. Multi-label: a logistic curve per label (Platt 1999), drawn towards one curve fitted
to all labels together, so that a label with few positives borrows the shape from the others.
Letters in shapes: M held-out rows, N rows, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from hornbook.tasks.folds import deal_folds

LEAST_SLOPE = 1e-3  # keeps probabilities increasing in the score, also where scores mislead


@dataclass(frozen=True, eq=False)
class Calibration:
    """Logits are `slope * score + bias`, label by label: slope (L,) > 0, bias (L,)."""

    multi_label: bool
    slope: np.ndarray
    bias: np.ndarray

    def logits(self, scores: np.ndarray) -> np.ndarray:
        """Scores (N, L) to logits (N, L) float64, increasing in the score of each label."""
        return np.asarray(scores, np.float64) * self.slope + self.bias

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """Scores (N, L) to probabilities (N, L) float64; rows sum to 1 in the single-label case."""
        logits = self.logits(scores)
        return expit(logits) if self.multi_label else softmax(logits, axis=1)


def fit_logistic(
    scores: np.ndarray,
    targets: np.ndarray,
    pulls: tuple[float, ...],
    start: tuple[Calibration, ...] | None = None,
) -> tuple[Calibration, ...]:
    """Logistic curves for scores (M, L) and targets (M, L) bool, once for each pull.

    pull: how strongly each label's curve is drawn to the common one (the precision of a normal
    prior around it, on standardised scores); infinite for the common curve itself.
    start: what the same pulls gave on similar rows; saves time and changes nothing.
    """
    n_labels = scores.shape[1]
    mean, deviation = float(scores.mean()), float(scores.std())
    deviation = deviation if deviation > 1e-12 else 1.0
    z, y = (scores - mean) / deviation, targets.astype(np.float64)
    begin = np.array([[1.0], [0.0]])
    common = _newton(z.reshape(-1, 1), y.reshape(-1, 1), begin, 1e-3, begin)
    prior = np.repeat(common, n_labels, axis=1)
    fitted = []
    for i, pull in enumerate(pulls):
        curve = prior
        if np.isfinite(pull):
            if start is not None:
                near = start[i]
                curve = np.stack([near.slope * deviation, near.bias + near.slope * mean])
            curve = _newton(z, y, prior, pull, curve)
        slope, bias = curve
        fitted.append(Calibration(True, slope / deviation, bias - slope * mean / deviation))
    return tuple(fitted)


def fit_softmax(scores: np.ndarray, targets: np.ndarray, *, with_bias: bool) -> Calibration:
    """Fit one temperature, and biases where asked, to scores (M, L) and targets (M, L) one-hot.

    Rows without a label are left out. Minimises the log-loss in nats; biases have a unit normal
    prior, so that a label that is never seen keeps a bias near 0.
    """
    rows = targets.any(axis=1)
    n_labels = scores.shape[1]
    centred = scores[rows] - scores[rows].mean(axis=1, keepdims=True)
    deviation = float(centred.std()) if centred.size else 0.0
    deviation = deviation if deviation > 1e-12 else 1.0
    z, y = centred / deviation, targets[rows].astype(np.float64)
    y /= y.sum(axis=1, keepdims=True)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        slope = np.exp(parameters[0])
        bias = parameters[1:] if with_bias else np.zeros(n_labels)
        log_p = log_softmax(slope * z + bias, axis=1)
        gap = np.exp(log_p) - y
        value = -(y * log_p).sum() + 0.5 * (bias @ bias) + 0.05 * parameters[0] ** 2
        by_slope = (gap * z).sum() * slope + 0.1 * parameters[0]
        return value, np.concatenate([[by_slope], gap.sum(axis=0) + bias if with_bias else []])

    begin = np.zeros(1 + (n_labels if with_bias else 0))
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x
    slope = max(float(np.exp(np.clip(found[0], -7, 7))), LEAST_SLOPE) / deviation
    bias = found[1:] if with_bias else np.zeros(n_labels)
    return Calibration(False, np.full(n_labels, slope), np.asarray(bias, np.float64))


def cross_fitted(scores: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Probabilities (M, L) by one temperature, each row's fitted to other rows.

    scores (M, L) and targets (M, L) one-hot; in five folds, or as many as there are rows.
    """
    folds = deal_folds(targets, min(5, len(scores)), seed=0)
    found = np.empty(scores.shape, np.float64)
    for fold in range(int(folds.max()) + 1):
        own = folds == fold
        fitted = fit_softmax(scores[~own], targets[~own], with_bias=False)
        found[own] = fitted.probabilities(scores[own])
    return found


def calibration_error(probabilities: np.ndarray, right: np.ndarray, n_bins: int = 10) -> float:
    """Expected calibration error of single labels (Naeini et al. 2015; Guo et al. 2017).

    probabilities (N, L), right: (N,) numbers of labels. Rows are put into bins of equal width by
    the probability of the likeliest label; the mean over rows of how far their bin's accuracy is
    from its mean probability. 0 is calibrated; chance alone gives more where rows are few.
    """
    confidence = probabilities.max(axis=1)
    hits = probabilities.argmax(axis=1) == right
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=hits - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(right))


def _newton(
    z: np.ndarray, y: np.ndarray, prior: np.ndarray, pull: float, start: np.ndarray
) -> np.ndarray:
    """Minimise the logistic loss plus `pull / 2 * |parameters - prior|^2`, a curve a column.

    z, y: (M, L); prior, start, result: (2, L), slopes and biases. The loss is convex, but a full
    step from where the curve is flat overshoots: steps are bounded, the more so once they turn.
    """
    result = start.copy()
    open_ = np.arange(z.shape[1])  # columns that still move
    bound, before = np.full(start.shape, 2.0), np.zeros(start.shape)
    for _ in range(50):
        slope, bias = result[:, open_]
        p = expit(z * slope + bias)
        gap, weight = p - y, p * (1 - p)
        weighted = weight * z
        g_slope = np.einsum("ij,ij->j", gap, z) + pull * (slope - prior[0, open_])
        g_bias = gap.sum(axis=0) + pull * (bias - prior[1, open_])
        h_ss = np.einsum("ij,ij->j", weighted, z) + pull
        h_sb = weighted.sum(axis=0)
        h_bb = weight.sum(axis=0) + pull
        full = np.stack([h_bb * g_slope - h_sb * g_bias, h_ss * g_bias - h_sb * g_slope])
        full /= h_ss * h_bb - h_sb**2
        bound = np.where(full * before < 0, bound / 2, bound)
        moved = np.clip(full, -bound, bound)
        result[:, open_] -= moved
        result[0] = np.maximum(result[0], LEAST_SLOPE)
        moves = np.abs(moved).max(axis=0) > 1e-3
        if not moves.any():
            break
        if moves.sum() < 0.7 * len(moves):  # copying columns costs too, so not for a few
            open_, bound, moved = open_[moves], bound[:, moves], moved[:, moves]
            z, y = z[:, moves], y[:, moves]
        before = moved
    return result
