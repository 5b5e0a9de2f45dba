"""Where things are in a study's folder, and which of them a worker may open.

study.json                     settings, data, machine, command: written first
data/pool.jsonl                train and validation texts with their labels
data/groups.json               which texts of the pool are near-duplicates
data/repeat-K.json             rows of the pool that repeat K trains and validates on
data/test_documents.jsonl      test texts without labels: all that a worker sees of the test
data/test_targets.jsonl        test labels: opened by the parent when it judges
techniques/NAME/repeat-K/      result.json, model/, held_out.safetensors,
                               test_scores.safetensors, log.txt
seconds.json                   what it has taken so far: written after each technique
audit.json  results.jsonl  summary.json  study_record.json  emissions.csv  report.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hornbook.compare.settings import StudyPlan
from hornbook.data.duplicates import find_duplicates, groups
from hornbook.data.examples import Document, Example, Labelled, Problem, targets_of
from hornbook.data.store import read_examples, write_examples
from hornbook.errors import StudyError
from hornbook.files import inside, write_text
from hornbook.records import TechniqueResult
from hornbook.runs import read_record, write_record


@dataclass(frozen=True)
class StudyFolder:
    """Paths and readers of one study's folder."""

    path: Path

    def plan(self) -> StudyPlan:
        if not (self.path / "study.json").is_file():
            raise StudyError(
                f"{self.path} is no study: it has no study.json",
                hint="Give the folder that `hornbook compare` wrote, such as runs/tickets.",
            )
        return read_record(self.path / "study.json", StudyPlan)

    def problem(self) -> Problem:
        plan = self.plan()
        return Problem(
            tuple(plan.dataset.label_names), plan.dataset.multi_label, plan.label_descriptions
        )

    def run(self, technique: str, repeat: int) -> RunPaths:
        return RunPaths(inside(self.path / "techniques", technique) / f"repeat-{repeat}")

    def write_data(
        self,
        pool: list[Example],
        test: list[Example],
        repeats: list[tuple[list[int], list[int]]],
        groups: np.ndarray,
    ) -> None:
        """Write the texts, the test labels apart from the test texts, and the rows per repeat.

        groups: a number for each text of the pool, equal for near-duplicates.
        """
        data = self.path / "data"
        write_examples(data / "pool.jsonl", pool)
        write_examples(
            data / "test_documents.jsonl", (Example(e.document, (), id=e.id) for e in test)
        )
        write_text(
            data / "test_targets.jsonl",
            "".join(json.dumps({"id": e.id, "labels": list(e.labels)}) + "\n" for e in test),
        )
        write_text(data / "groups.json", json.dumps(groups.tolist()) + "\n")
        for k, (train, validation) in enumerate(repeats):
            rows = {"train_rows": train, "validation_rows": validation}
            write_text(data / f"repeat-{k}.json", json.dumps(rows) + "\n")

    def pool(self) -> list[Example]:
        return read_examples(self.path / "data" / "pool.jsonl")

    def rows(self, repeat: int) -> tuple[list[int], list[int]]:
        """Rows of the pool: those to train on and those to validate on."""
        saved = json.loads((self.path / "data" / f"repeat-{repeat}.json").read_text("utf-8"))
        return saved["train_rows"], saved["validation_rows"]

    def labelled(self, repeat: int, problem: Problem) -> tuple[Labelled, Labelled]:
        """What a technique is fitted on: train and validation of this repeat."""
        pool = self.pool()
        targets = targets_of(pool, problem.label_names)
        whole = Labelled([example.document for example in pool], targets, self._groups(pool))
        train, validation = self.rows(repeat)
        return whole.take(train), whole.take(validation)

    def _groups(self, pool: list[Example]) -> np.ndarray:
        """As `write_data` kept them; found again for a study begun before there was such a file."""
        path = self.path / "data" / "groups.json"
        if not path.is_file():
            pairs = find_duplicates([example.document.full for example in pool])
            write_text(path, json.dumps(groups(len(pool), pairs).tolist()) + "\n")
        return np.array(json.loads(path.read_text("utf-8")))

    def test_documents(self) -> list[Document]:
        path = self.path / "data" / "test_documents.jsonl"
        return [example.document for example in read_examples(path)]

    def test_examples(self) -> list[Example]:
        """Test texts with their labels. Only for judging: no worker calls this."""
        examples = read_examples(self.path / "data" / "test_documents.jsonl")
        # Not splitlines(): a label may hold U+2028 and the like as they are.
        lines = (self.path / "data" / "test_targets.jsonl").read_text("utf-8").split("\n")
        labels = [json.loads(line)["labels"] for line in lines if line]
        return [Example(e.document, tuple(given), id=e.id) for e, given in zip(examples, labels)]

    def seconds(self) -> float:
        """Wall-clock seconds that the study has taken so far, in all of its sessions."""
        path = self.path / "seconds.json"
        return float(json.loads(path.read_text("utf-8"))["seconds"]) if path.exists() else 0.0

    def write_seconds(self, seconds: float) -> None:
        write_text(self.path / "seconds.json", json.dumps({"seconds": round(seconds, 3)}) + "\n")

    def results(self, order: Sequence[str]) -> list[TechniqueResult]:
        """The results written so far, by repeat and then in the order of technique names given."""
        found = [
            read_record(path, TechniqueResult)
            for path in self.path.glob("techniques/*/repeat-*/result.json")
        ]
        known = [result for result in found if result.technique in order]
        return sorted(known, key=lambda r: (r.repeat, order.index(r.technique)))


@dataclass(frozen=True)
class RunPaths:
    """Paths of one technique in one repeat."""

    path: Path

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def held_out(self) -> Path:
        return self.path / "held_out.safetensors"

    @property
    def test_scores(self) -> Path:
        return self.path / "test_scores.safetensors"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def result(self) -> TechniqueResult | None:
        """What was found, or None where this run hasn't ended."""
        path = self.path / "result.json"
        return read_record(path, TechniqueResult) if path.exists() else None

    def write_result(self, result: TechniqueResult) -> None:
        write_record(self.path / "result.json", result)


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as safetensors, atomically."""
    from safetensors.numpy import save

    from hornbook.files import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_bytes(save({k: np.ascontiguousarray(v) for k, v in arrays.items()}))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote. Raises CheckpointError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    from hornbook.errors import CheckpointError

    try:
        return load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", hint="Delete its folder and resume the study."
        ) from error
