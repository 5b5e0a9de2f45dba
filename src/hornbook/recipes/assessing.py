"""Evaluate a fine-tuned run on a part of data, beside another run where one is named.

RUN/evaluations/test-<data>-<hash>.json    the record: metrics with intervals, comparison, notes
                               ....jsonl   a line an example: number, place in the data, prediction
               ....-against-<other>.json   of a comparison
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hornbook import files, runs
from hornbook.errors import ConfigError
from hornbook.evaluation import looks
from hornbook.evaluation.evaluate import Assessed, assess, comparison, hash_of, with_intervals
from hornbook.evaluation.label_doubts import list_doubts
from hornbook.nn.precision import choose_precision
from hornbook.recipes.divisions import Division, examples_of, same_place
from hornbook.recipes.learnt import Learnt, doubts, learnt_by, refuse_changed, refuse_unfair
from hornbook.recipes.subjects import Subject, folder_of, is_tuned, tuned, untrained
from hornbook.records import AssessmentRecord, ComparisonRecord, Part
from hornbook.tasks.task import Parts

Progress = Callable[[int, int], None]
DRAWN_BY = 0  # the seed of which examples are taken where there is a limit


def evaluate_run(
    run: str,
    *,
    part: Part,
    data: str | None = None,
    columns: Mapping[str, str] | None = None,
    against: str | None = None,
    task: str | None = None,
    limit: int | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[AssessmentRecord, Path]:
    """Evaluate, write the record and the predictions; the record, and the folder they lie in.

    run, against: folders, or names in `runs/`. data: that of training when None. task: for a model
    that was never fine-tuned, what to judge it at; `out` is then where the record goes. limit: at
    most so many examples, the same ones for any model; a look at some of a test part counts as one
    at all of it. Raises ConfigError for a choice by the test part, for runs of different tasks, for
    a comparison on what one of them learnt from, and for a task named beside a fine-tuned model;
    DataError where the data have no such part.
    """
    tests = part in ("test", "all")  # all of other data are a test
    if against is not None and tests and task is None:
        looks.refuse_selection(folder_of(run), folder_of(against))
    other = None if against is None else _opened(against, task, data, columns, out)
    if task is not None and other is not None:
        data = data or other.settings.get("data")
    subject = untrained(run, task, data, columns, out) if task else tuned(run)
    if other is not None:
        _check_alike(subject, other)
    trained = subject if subject.tuned or other is None else other
    named = data or trained.settings.get("data")
    if named is None:
        raise ConfigError(
            f"{run} does not say which data it was trained on", hint="Name some: --data D"
        )
    source = str(named)
    own = same_place(source, trained.settings.get("data"))
    division = _division(trained, source, columns, own)
    parts = division.parts()
    every, notes = examples_of(parts, part, source, own=own)
    places = drawn(len(every), limit)
    examples = [every[i] for i in places]
    if len(examples) < len(every):
        notes.append(
            f"{len(examples):,} of {len(every):,} examples, drawn at random (seed {DRAWN_BY}), the "
            "same for every model: the intervals are of so few."
        )
    warnings = _fairness(subject, other, source, examples, part, {division: parts})
    digest, whole = hash_of(examples), hash_of(every)
    number = 0
    if tests:  # counted before anything is seen
        found = looks.look(subject.folder, data=source, examples_hash=whole)
        number = found.number
        notes.append(looks.said(found))
        if other is not None and other.folder != subject.folder:
            looks.look(other.folder, data=source, examples_hash=whole)
    elif part == "validation" and own:
        notes.append(
            "The checkpoint was chosen by this part: its figures are a little too good. For one "
            "to report: --on test, once."
        )
    device = choose_precision().device
    stem = _stem(subject, other, part, source, digest)
    started = time.perf_counter()
    for one in (subject, other):
        if one is not None:
            one.opened.model.to(device)
    ours = assess(
        subject.opened.model, subject.opened.task, examples, device=device, progress=progress
    )
    seconds = time.perf_counter() - started
    if part != "train":  # what was learnt by heart is doubted no more
        path = subject.folder / "evaluations" / f"{stem}-doubts.jsonl"
        notes += list_doubts(subject.opened.task, examples, ours.predictions, path, numbers=places)
    compared = None
    if other is not None:
        compared = _compared(subject, other, examples, ours, device, progress)
        if tests:
            notes.append("A comparison on test is to report a result, not to choose by it.")
    record = AssessmentRecord(
        run=subject.name,
        task=subject.opened.task.name,
        data=source,
        columns=dict(division.columns),
        part=part,
        n_examples=len(examples),
        examples_hash=digest,
        part_hash=whole,
        n_part=len(every),
        metrics=with_intervals(ours.metrics),
        look=number,
        seconds=seconds,
        device=device,
        at=runs.now(),
        predictions=f"{stem}.jsonl",
        against=compared,
        warnings=warnings,
        notes=notes,
    )
    lines = zip(places, examples, ours.predictions, strict=True)
    _write(subject.folder, record, lines)
    return record, subject.folder / "evaluations"


def _opened(
    model: str,
    task: str | None,
    data: str | None,
    columns: Mapping[str, str] | None,
    out: Path | None,
) -> Subject:
    """The one it is compared with: a run, or, where a task is named, perhaps a model as it came."""
    if task is None or is_tuned(model):
        return tuned(model)
    return untrained(model, task, data, columns, out)


def _fairness(
    subject: Subject,
    other: Subject | None,
    source: str,
    examples: Sequence[Any],
    part: Part,
    known: Mapping[Division, Parts],
) -> list[str]:
    """Sentences on what these examples can't show; raises ConfigError for an unfair comparison."""
    learnt, warnings = [], []
    for one in (subject, other):
        if one is None:
            continue
        found = Learnt()  # of a model as it came nobody knows more
        if one.tuned:
            found = learnt_by(one.folder, one.settings, one.opened.task.name, known)
            own = same_place(source, one.settings.get("data"))
            if own and other is not None:
                refuse_changed(one.name, found)
            if part != "train":
                warnings += doubts(one.name, found, examples, own=own)
        learnt.append(found)
    if other is not None:
        refuse_unfair((subject.name, other.name), (learnt[0], learnt[1]), examples)
    return warnings


def _compared(
    subject: Subject,
    other: Subject,
    examples: Sequence[Any],
    ours: Assessed,
    device: str,
    progress: Progress | None,
) -> ComparisonRecord:
    theirs = assess(
        other.opened.model, other.opened.task, examples, device=device, progress=progress
    )
    metrics = theirs.metrics
    if _labels(subject) and _labels(subject) == _labels(other):  # in one order, to be exchanged
        metrics = subject.opened.task.metrics(examples, theirs.predictions)
    return comparison(other.name, ours.metrics, metrics)


def _check_alike(subject: Subject, other: Subject) -> None:
    ours, theirs = subject.opened.task.name, other.opened.task.name
    if ours != theirs:
        raise ConfigError(
            f"{subject.folder} was made for '{ours}', {other.folder} for '{theirs}'",
            hint="Compare two runs of the same task.",
        )


def _labels(subject: Subject) -> frozenset[str]:
    return frozenset(getattr(subject.opened.task, "label_names", ()))


def _division(
    trained: Subject, data: str, columns: Mapping[str, str] | None, own: bool
) -> Division:
    """The data, divided as for training where they are those of training."""
    named = dict(columns or (trained.settings.get("columns") or {} if own else {}))
    seed = int(trained.settings.get("seed", 0))
    if own:
        data = str(trained.settings["data"])
    return Division(trained.opened.task.name, data, tuple(sorted(named.items())), seed)


def _stem(subject: Subject, other: Subject | None, part: Part, data: str, digest: str) -> str:
    """The record's name: what was evaluated on which examples, beside whom.

    The model stands first where the folder is not its own.
    """
    words = [part, Path(data).stem or "data", digest[:8]]
    if not subject.tuned:
        words.insert(0, subject.name)
    if other is not None:
        words += ["against", other.name]
    return "-".join(re.sub(r"[^\w.-]+", "-", word).strip("-.") or "data" for word in words)


def drawn(n: int, limit: int | None) -> list[int]:
    """The places of at most `limit` of n examples, in order; the same ones every time.

    Raises ConfigError for a limit below one.
    """
    if limit is None:
        return list(range(n))
    if limit < 1:
        raise ConfigError(f"a limit of {limit} examples leaves none", hint="Give --limit 200.")
    places: list[int] = np.random.default_rng(DRAWN_BY).permutation(n)[:limit].tolist()
    return sorted(places)


def _write(folder: Path, record: AssessmentRecord, found: Iterable[tuple[int, Any, Any]]) -> None:
    """found: the number of each example, itself, and what was predicted of it."""
    path = (folder / "evaluations" / record.predictions).with_suffix(".json")
    runs.write_record(path, record)
    lines = (
        json.dumps(
            {"example": number, **_where(example), "prediction": prediction},
            ensure_ascii=False,
            default=str,
        )
        for number, example, prediction in found
    )
    files.write_text(path.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))


def _where(example: Any) -> dict[str, str]:
    """Where an example stood in the data, where it says so."""
    return {name: str(v) for name in ("id", "place") if (v := getattr(example, name, ""))}
