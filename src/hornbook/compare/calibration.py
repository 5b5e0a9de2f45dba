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
    *,
    strength: float = 3.0,
    start: Calibration | None = None,
) -> Calibration:
    """Fit a logistic curve per label to scores (M, L) and targets (M, L) bool.

    strength: weight of the pull towards the pooled curve, in squared units of standardised logits.
    start: a curve to begin from; it changes the time taken, not the outcome.
    """
    n_labels = scores.shape[1]
    mean, deviation = _location(scores)
    z = (scores - mean) / deviation
    y = targets.astype(np.float64)
    pooled = _newton(z.reshape(-1, 1), y.reshape(-1, 1), np.array([[1.0], [0.0]]), 1e-3, None)
    prior = np.repeat(pooled, n_labels, axis=1)
    first = None
    if start is not None:
        first = np.stack([start.slope * deviation, start.bias + start.slope * mean])
    slope, bias = _newton(z, y, prior, strength, first)
    return Calibration(True, slope / deviation, bias - slope * mean / deviation)


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
    found = minimize(loss, begin, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    slope = max(float(np.exp(np.clip(found[0], -7, 7))), LEAST_SLOPE) / deviation
    bias = found[1:] if with_bias else np.zeros(n_labels)
    return Calibration(False, np.full(n_labels, slope), np.asarray(bias, np.float64))


def _location(scores: np.ndarray) -> tuple[float, float]:
    deviation = float(scores.std())
    return float(scores.mean()), deviation if deviation > 1e-12 else 1.0


def _newton(
    z: np.ndarray, y: np.ndarray, prior: np.ndarray, strength: float, start: np.ndarray | None
) -> np.ndarray:
    """Minimise the logistic loss plus `strength / 2 * |parameters - prior|^2`, a curve a column.

    z, y: (M, L); prior, start, result: (2, L), slopes and biases. The loss is convex; steps are
    bounded, because a full Newton step from far away overshoots where the curve is flat.
    """
    slope, bias = (prior if start is None else start).copy()
    for _ in range(60):
        p = expit(z * slope + bias)
        gap, weight = p - y, p * (1 - p)
        weighted = weight * z
        g_slope = np.einsum("ij,ij->j", gap, z) + strength * (slope - prior[0])
        g_bias = gap.sum(axis=0) + strength * (bias - prior[1])
        h_ss = np.einsum("ij,ij->j", weighted, z) + strength
        h_sb = weighted.sum(axis=0)
        h_bb = weight.sum(axis=0) + strength
        determinant = h_ss * h_bb - h_sb**2
        step_slope = np.clip((h_bb * g_slope - h_sb * g_bias) / determinant, -2, 2)
        step_bias = np.clip((h_ss * g_bias - h_sb * g_slope) / determinant, -2, 2)
        before = slope
        slope = np.maximum(slope - step_slope, LEAST_SLOPE)
        bias = bias - step_bias
        if max(np.abs(slope - before).max(), np.abs(step_bias).max()) < 1e-5:
            break
    return np.stack([slope, bias])
