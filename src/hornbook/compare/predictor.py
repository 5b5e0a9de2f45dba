"""A saved model, opened: texts in, labels or probabilities out.

Its folder holds technique.json (which technique, which labels), decision.json, and whatever the
technique's own `save` wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

import hornbook
from hornbook.compare.sources import Source
from hornbook.compare.technique import Technique
from hornbook.data.examples import Document, Problem
from hornbook.errors import CheckpointError, ConfigError, DataError, HornbookError
from hornbook.files import atomic_folder, write_text
from hornbook.records import Record
from hornbook.runs import write_record
from hornbook.tasks.decision import Decision


class SavedTechnique(Record):
    """technique.json: what is needed to open a model folder."""

    technique: str
    spec: str  # the registry's name, NAME=MODEL, or /path.py:Class
    label_names: list[str]
    multi_label: bool
    label_descriptions: dict[str, str]
    hornbook: str


class Predictor:
    """A fitted technique with its decision layer. Make one with `Predictor.open`."""

    def __init__(
        self, name: str, technique: Technique, decision: Decision, problem: Problem
    ) -> None:
        self.name = name
        self.problem = problem
        self._technique = technique
        self._decision = decision

    @classmethod
    def open(cls, folder: Path, *, source: Source | None = None) -> Predictor:
        """Open a model folder.

        source: needed where the technique is a user's own, as opening it runs their file; a file
        that is merely named in the folder is not run. Raises CheckpointError when something in
        the folder is missing or damaged, ConfigError when the source is needed and not given.
        """
        saved = _read_saved(folder / "technique.json")
        if source is None:
            source = Source(saved.technique, saved.spec)
            if source.is_file:
                raise ConfigError(
                    f"'{saved.technique}' was made by {saved.spec}, and opening it runs that file",
                    hint=f"If you trust it, say so: --technique {saved.spec}",
                )
        problem = Problem(tuple(saved.label_names), saved.multi_label, saved.label_descriptions)
        decision = _decision(folder, problem)
        return cls(saved.technique, _load(source, folder), decision, problem)

    def predict(self, texts: Sequence[str | Document]) -> list[str] | list[list[str]]:
        """Each text's label; where the problem is multi-label, each text's list of labels."""
        chosen = self.decide(self.scores(texts))
        names = self.problem.label_names
        labels = [[names[j] for j in np.flatnonzero(row)] for row in chosen]
        return labels if self.problem.multi_label else [row[0] for row in labels]

    def probabilities(self, texts: Sequence[str | Document]) -> list[dict[str, float]]:
        """Each text's calibrated probability of every label."""
        names = self.problem.label_names
        rows = self.calibrate(self.scores(texts))
        return [dict(zip(names, map(float, row))) for row in rows]

    def scores(self, texts: Sequence[str | Document]) -> np.ndarray:
        """The technique's raw scores (N, L). Raises DataError for what is no text, None say."""
        if isinstance(texts, str):
            texts = [texts]  # a lone string is a sequence of letters, never meant as one
        for i, text in enumerate(texts):
            if not isinstance(text, str | Document):
                raise DataError(
                    f"text {i} is no text but {text!r:.60}",
                    hint="Give strings or Documents; leave out rows whose text is missing.",
                )
        documents = [t if isinstance(t, Document) else Document(t) for t in texts]
        if not documents:
            return np.zeros((0, self.problem.n_labels), np.float32)
        return checked_scores(
            self._technique.scores(documents), len(documents), self.problem, self.name
        )

    @property
    def can_mix(self) -> bool:
        """Whether `mixed` works: the technique has a `mix`."""
        return hasattr(self._technique, "mix")

    def mixed(self, probabilities: dict[str, np.ndarray]) -> np.ndarray:
        """The raw scores (N, L) of a mixture, from what its members gave (N, L) by name."""
        scores = self._technique.mix(probabilities, self.problem.multi_label)  # type: ignore[attr-defined]
        return checked_scores(scores, len(scores), self.problem, self.name)

    def decide(self, scores: np.ndarray) -> np.ndarray:
        """The labels (N, L) bool of scores (N, L)."""
        return self._decision.predict(scores)

    def calibrate(self, scores: np.ndarray) -> np.ndarray:
        """The probabilities (N, L) of scores (N, L)."""
        return self._decision.probabilities(scores)


def save_model(
    folder: Path, technique: Technique, decision: Decision, source: Source, problem: Problem
) -> None:
    """Write a fitted technique with its decision; the folder is whole or absent."""
    with atomic_folder(folder) as temporary:
        technique.save(temporary)
        write_text(temporary / "decision.json", decision.to_json())
        saved = SavedTechnique(
            technique=source.name,
            spec=source.spec,
            label_names=list(problem.label_names),
            multi_label=problem.multi_label,
            label_descriptions=problem.label_descriptions,
            hornbook=hornbook.__version__,
        )
        write_record(temporary / "technique.json", saved)


def checked_scores(scores: Any, n_documents: int, problem: Problem, name: str) -> np.ndarray:
    """The scores as float32 (N, L); CheckpointError says what a technique gave instead."""
    scores = np.asarray(scores, dtype=np.float32)
    if scores.shape != (n_documents, problem.n_labels):
        raise CheckpointError(
            f"'{name}' gave scores of shape {scores.shape}, not {(n_documents, problem.n_labels)}",
            hint="One row a document, one column a label. Was the model folder changed?",
        )
    return scores


def _read_saved(path: Path) -> SavedTechnique:
    if not path.is_file():
        raise CheckpointError(
            f"{path.parent} holds no saved model: technique.json is missing",
            hint="Give the folder of a study, such as runs/tickets.",
        )
    try:
        return SavedTechnique.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise CheckpointError(
            f"{path} is damaged: {error.errors()[0]['msg']}",
            hint="Fit the technique again: hornbook compare … --resume after deleting its folder.",
        ) from error


def _decision(folder: Path, problem: Problem) -> Decision:
    path = folder / "decision.json"
    try:
        decision = Decision.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}",
            hint="The model folder is incomplete; fit the technique again.",
        ) from error
    calibration = decision.calibration
    sizes = {v.shape for v in (calibration.slope, calibration.bias, decision.thresholds)}
    if sizes != {(problem.n_labels,)} or decision.multi_label != problem.multi_label:
        raise CheckpointError(
            f"{path} is not for the {problem.n_labels} labels that technique.json names",
            hint="The model folder was changed; fit the technique again.",
        )
    return decision


def _load(source: Source, folder: Path) -> Technique:
    """Open the technique's own files; whatever is wrong with them is a CheckpointError."""
    from safetensors import SafetensorError

    cls = source.load()
    try:
        return cls.load(folder)
    except HornbookError:
        raise
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"the model of '{source.name}' in {folder} is damaged: {type(error).__name__}: {error}",
            hint="Delete its folder and run the study again with --resume.",
        ) from error
