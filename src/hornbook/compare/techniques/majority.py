"""The floor: every text gets the most frequent labels, whatever it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.errors import CheckpointError


class Majority:
    """Scores each label by its share of the training texts."""

    name: ClassVar[str] = "majority"
    summary: ClassVar[str] = "the most frequent label for every text: what any technique must beat"
    needs_members: ClassVar[bool] = False

    def __init__(self, shares: np.ndarray | None = None) -> None:
        self._shares = shares

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        """Held out is validation, scored by train's shares; the model then counts both."""
        context.report("counting labels")
        held_out = HeldOut(
            np.arange(len(train), len(train) + len(validation)),
            np.tile(_shares(train.targets), (len(validation), 1)),
        )
        self._shares = _shares((train + validation).targets)
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._shares is not None, "fit or load before scores"
        return np.tile(self._shares, (len(documents), 1))

    def save(self, folder: Path) -> None:
        assert self._shares is not None, "fit before save"
        text = json.dumps({"shares": self._shares.astype(float).tolist()})
        (folder / "shares.json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Majority:
        path = folder / "shares.json"
        try:
            return cls(np.array(json.loads(path.read_text("utf-8"))["shares"], np.float32))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error!r}", hint="Fit the technique again."
            ) from error


def _shares(targets: np.ndarray) -> np.ndarray:
    return targets.mean(axis=0).astype(np.float32)
