"""Normalisation without a mean (Zhang and Sennrich 2019, "Root Mean Square Normalization")."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, epsilon: float) -> Tensor:
    """Scale the last dimension to a root mean square of 1 (equation 4, without its gain)."""
    return F.rms_norm(x, (x.shape[-1],), eps=epsilon)
