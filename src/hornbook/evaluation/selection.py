"""Which texts to label next: those that would teach a classifier most, unlike one another.

Were the model's own guess a text's label, the gradient at its last layer would be error ⊗ features:
long where the model is unsure, and pointing where the text's features do (Ash et al. 2020,
"BADGE"). Texts are taken farthest first (Gonzalez 1985; Sener and Savarese 2018): each is the one
whose gradient lies farthest from all that are taken, and from 0, near which the texts lie that the
model is certain of. Copies of a text that is taken are at no distance from it.

Letters in shapes: N texts, L labels, E features.
"""

from __future__ import annotations

import numpy as np


def select(errors: np.ndarray, features: np.ndarray, n: int) -> list[int]:
    """The rows of n texts, in the order in which they are best labelled; all where N is less.

    errors: (N, L) probabilities less what was guessed. features: (N, E), what the last layer reads.
    What all texts have in common is taken off, as it would leave nothing else to be seen (Mu and
    Viswanath 2018); then only the direction counts.
    """
    apart = features - features.mean(0)
    directions = apart / np.maximum(np.linalg.norm(apart, axis=1, keepdims=True), 1e-12)
    squares = (errors**2).sum(1)
    far = squares.copy()  # squared distance from 0, then from the nearest that is taken
    taken: list[int] = []
    for _ in range(min(n, len(errors))):
        best = int(far.argmax())
        taken.append(best)
        # <a ⊗ h, b ⊗ g> = <a, b> <h, g>: the gradients, of L * E numbers, are never written out.
        inner = (errors @ errors[best]) * (directions @ directions[best])
        far = np.minimum(far, squares + squares[best] - 2 * inner)
        far[taken] = -1.0
    return taken


def margins(probabilities: np.ndarray, *, several: bool) -> np.ndarray:
    """How sure a classifier is of each text, (N,): 0 is not at all, 1 is certain.

    Of one label how far the likeliest is ahead of the second, of `several` how far the least sure
    of them is from a half. probabilities: (N, L).
    """
    if several:
        return np.abs(2 * probabilities - 1).min(1)
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    ordered = np.sort(probabilities, axis=1)
    return ordered[:, -1] - ordered[:, -2]
