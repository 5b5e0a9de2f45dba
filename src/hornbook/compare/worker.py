"""One technique in a process of its own: fit, decide, save, open again, score the test texts.

    python -m hornbook.compare.worker FOLDER TECHNIQUE REPEAT SECONDS

TECHNIQUE is a registered name or `path.py:Class`. What happens is told as JSON lines on standard
output; all that libraries print goes to standard error, which the parent makes a log file. Test
labels are not read here: of the test, only the texts are opened.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import numpy as np

from hornbook.compare.cost import cpu_seconds, latencies
from hornbook.compare.layout import RunPaths, StudyFolder, read_arrays, write_arrays
from hornbook.compare.predictor import Predictor, checked_scores, save_model
from hornbook.compare.sources import Source, resolve, source_of
from hornbook.compare.technique import Budget, Context, HeldOut, Member
from hornbook.data.examples import Document, Labelled, Problem
from hornbook.errors import BudgetError, HornbookError, TrainingError
from hornbook.files import folder_size
from hornbook.tasks.decision import Decision
from hornbook.training.memory import keep_freed_memory, peak_bytes

SAMPLE = 200  # test texts that a mixture is timed on


class Teller:
    """Writes events for the parent, one JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def tell(self, event: str, **values: object) -> None:
        with self._lock:
            self._stream.write(json.dumps({"event": event, **values}) + "\n")
            self._stream.flush()

    def stage(self, stage: str, validation_score: float | None = None) -> None:
        """What a technique reports while it fits."""
        score = None if validation_score is None else float(validation_score)
        self.tell("stage", stage=str(stage), validation=score)


def work(folder: StudyFolder, source: Source, repeat: int, seconds: float, teller: Teller) -> None:
    """Do all of it, and tell what it cost. Raises what the technique raises."""
    plan = folder.plan()
    problem = folder.problem()
    paths = folder.run(source.name, repeat)
    seed = plan.settings.seed + repeat
    random.seed(seed)
    np.random.seed(seed)  # for libraries that draw from the global one

    teller.stage("loading")
    cls = source.load()
    technique = cls()
    train, validation = folder.labelled(repeat, problem)
    members = _members(folder, repeat, problem) if getattr(cls, "needs_members", False) else {}

    teller.tell("fit")
    start, start_cpu = time.perf_counter(), cpu_seconds()
    context = Context(
        problem,
        Budget(seconds),
        seed=seed,
        report=teller.stage,
        members=members,
        model=source.model,
    )
    held_out = _checked(
        technique.fit(train, validation, context), train, validation, problem, source.name
    )
    whole = train + validation
    teller.stage("deciding")
    decision = Decision.fit(
        held_out.scores,
        whole.targets[held_out.rows],
        multi_label=problem.multi_label,
        seed=seed,
        groups=None if whole.groups is None else whole.groups[held_out.rows],
    )
    validation_score = decision.cross_validated_micro_f1
    fit_seconds, fit_cpu = time.perf_counter() - start, cpu_seconds() - start_cpu
    teller.tell("fitted", validation=validation_score)

    teller.stage("saving")
    write_arrays(paths.held_out, rows=np.asarray(held_out.rows, np.int64), scores=held_out.scores)
    save_model(paths.model, technique, decision, source, problem)
    settings = dict(getattr(technique, "settings", {}))
    del technique
    # What is judged is what was saved, not what happened to be in memory.
    known = {name: read_arrays(folder.run(name, repeat).test_scores) for name in members}
    speed = _score_test(folder.test_documents(), paths, source, teller, known)
    teller.tell(
        "done",
        measured={
            "validation_micro_f1": validation_score,
            "fit_seconds": fit_seconds,
            "cpu_seconds": fit_cpu,
            "peak_bytes": peak_bytes(),
            "size_bytes": folder_size(paths.model),
            "decision": decision.describe(),
            "settings": settings,
            **speed,
        },
    )


def _score_test(
    documents: list[Document],
    paths: RunPaths,
    source: Source,
    teller: Teller,
    known: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """Score the test texts with the saved model and write what it says. Returns its speed.

    known: what the members of a mixture said of these texts. It mixes that, rather than make each
    say it again; its speed is then that of a sample, through all of its members.
    """
    predictor = Predictor.open(paths.model, source=source)
    teller.stage("latency")
    single = latencies(lambda d: predictor.decide(predictor.scores([d])), documents)
    teller.stage("scoring test")
    known = known if predictor.can_mix else {}
    timed = documents[:SAMPLE] if known else documents
    start = time.perf_counter()
    scores = predictor.scores(timed)
    predictions = predictor.decide(scores)
    seconds = time.perf_counter() - start
    if known:
        scores = predictor.mixed({name: arrays["probabilities"] for name, arrays in known.items()})
        predictions = predictor.decide(scores)
    write_arrays(
        paths.test_scores,
        scores=scores,
        probabilities=predictor.calibrate(scores).astype(np.float32),
        predictions=predictions,
    )
    p50, p95 = np.percentile(single, [50, 95])
    return {
        "p50_ms": float(p50),
        "p95_ms": float(p95),
        "texts_per_second": len(timed) / max(seconds, 1e-9),
    }


def _checked(
    held_out: HeldOut, train: Labelled, validation: Labelled, problem: Problem, name: str
) -> HeldOut:
    """The held-out scores, or an error that says how a technique broke its promise."""
    rows = np.asarray(held_out.rows, np.int64)
    n_train, n = len(train), len(train) + len(validation)
    scores = checked_scores(held_out.scores, len(rows), problem, name)
    if len(np.unique(rows)) != len(rows) or not ((rows >= 0) & (rows < n)).all():
        raise TrainingError(
            f"'{name}' gave held-out rows that are repeated or not in 0..{n - 1}",
            hint="Rows index train followed by validation; each at most once.",
        )
    if not np.isin(np.arange(n_train, n), rows).all():
        raise TrainingError(
            f"'{name}' gave no held-out score for some validation texts",
            hint="HeldOut.rows must hold every validation row.",
        )
    return HeldOut(rows, scores)


def _members(folder: StudyFolder, repeat: int, problem: Problem) -> dict[str, Member]:
    """The techniques that have finished this repeat, with calibrated held-out scores."""
    members = {}
    for source in resolve(folder.plan().settings.techniques):
        paths = folder.run(source.name, repeat)
        result = paths.result()
        if result is None or result.status != "ok":
            continue
        saved = read_arrays(paths.held_out)
        decision = Decision.from_json((paths.model / "decision.json").read_text("utf-8"))
        members[source.name] = Member(
            source.name,
            paths.model,
            HeldOut(saved["rows"], saved["scores"]),
            decision.probabilities(saved["scores"]),
        )
    return members


def _end_with_parent() -> None:
    """End when the parent does: it holds the other end of standard input."""

    def wait() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock must be free when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main(arguments: list[str]) -> int:
    folder, technique, repeat, seconds = arguments
    teller = Teller(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)  # whatever libraries print goes to the log
    _end_with_parent()
    keep_freed_memory()
    try:
        work(StudyFolder(Path(folder)), source_of(technique), int(repeat), float(seconds), teller)
    except BudgetError as error:
        teller.tell("skipped", message=str(error))
    except HornbookError as error:
        traceback.print_exc()
        teller.tell("failed", message=str(error))
    except Exception as error:  # anything at all: it becomes a row that says so
        traceback.print_exc()
        last = traceback.format_exception_only(error)[-1].strip()
        teller.tell("failed", message=last)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
