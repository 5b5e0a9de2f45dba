"""What a label gets whatever the text says, and scores without it (Zhao et al. 2021, "Calibrate
Before Use", section 4: contextual calibration).

A model that is asked which of some labels fits prefers some before it has read anything. How much,
it says of texts without content; that is divided out of its shares:

    shares of "N/A"              p     .8   .2        the model likes the first label
    shares of a text             q     .6   .4
    q / p, adding up to 1              .27  .73       but this text spoke for the second

Of the paper's W = diag(p)^-1 nothing differs but that the shares add up to 1 again, which changes
no order. Letters in shapes: N texts, K texts without content, L labels.
"""

from __future__ import annotations

import numpy as np
from scipy.special import log_softmax, logsumexp

CONTENT_FREE = ("N/A", "", "[MASK]")  # the paper's three; their shares are averaged


def log_preferences(free: np.ndarray) -> np.ndarray:
    """The logarithm of the mean share (L,) that each label gets of texts without content.

    free: their scores (K, L), of which a softmax makes shares. To be subtracted from a text's
    scores: the softmax of the difference are its calibrated shares.
    """
    shares = log_softmax(np.asarray(free, np.float64), axis=1)
    return logsumexp(shares, axis=0) - np.log(len(shares))


def log_odds_apart(free: np.ndarray) -> np.ndarray:
    """By how much each label's log-odds (L,) of texts without content lie above the labels' mean.

    free: log-odds (K, L) of labels that don't exclude one another. What all labels share stays:
    that a text about nothing has no label is right, that it has one sooner than another is not.
    """
    odds = np.asarray(free, np.float64).mean(axis=0)
    return odds - odds.mean()
