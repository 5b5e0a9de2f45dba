"""Evaluate a fine-tuned run on a part of data, beside another run where one is named.

RUN/evaluations/test-<data>-<hash>.json    the record: metrics with intervals, comparison, notes
                               ....jsonl   a line an example: number, prediction
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hornbook import bundle as bundles
from hornbook import files, runs
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.evaluation import looks
from hornbook.evaluation.evaluate import Assessed, assess, comparison, hash_of, with_intervals
from hornbook.evaluation.label_doubts import label_doubts
from hornbook.nn.precision import choose_precision
from hornbook.recipes.adapted import Opened, open_task
from hornbook.recipes.kinds import KINDS
from hornbook.records import AssessmentRecord, Part
from hornbook.tasks.task import Parts

Progress = Callable[[int, int], None]
# Tasks that a model can be judged at as it came: nothing new stands on it.
WITHOUT_HEAD = ("choose", "chat", "fill", "embed", "translate", "summarize")


@dataclass(frozen=True)
class Subject:
    """What is evaluated. folder: where the record goes. settings: what it was trained with."""

    folder: Path
    opened: Opened
    settings: Mapping[str, Any]


def evaluate_run(
    run: str,
    *,
    part: Part,
    data: str | None = None,
    columns: Mapping[str, str] | None = None,
    against: str | None = None,
    task: str | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> tuple[AssessmentRecord, Path]:
    """Evaluate, write the record and the predictions; the record, and the folder they lie in.

    run, against: folders, or names in `runs/`. data: that of training when None. task: for a model
    that was never fine-tuned, what to judge it at; `out` is then where the record goes. Raises
    ConfigError for a choice by the test part, for runs of different tasks, and for a task named
    beside a fine-tuned model; DataError where the data have no such part.
    """
    if against is not None and part == "test" and task is None:
        looks.refuse_selection(folder_of(run), folder_of(against))
    subject = _untrained(run, task, data, columns, out) if task else _subject(run)
    other = None
    if against is not None:
        other = _untrained(against, task, data, columns, out) if task else _subject(against)
        _check_alike(subject, other)
    settings = subject.settings
    source = data or settings.get("data")
    if source is None:
        raise ConfigError(
            f"{run} does not say which data it was trained on", hint="Name some: --data D"
        )
    own = source == settings.get("data")
    parts = _parts(subject, str(source), columns, own)
    examples = _examples(parts, part, str(source))
    digest = hash_of(examples)
    notes = list(parts.notes)
    number = 0
    if part == "test":  # counted before anything is seen
        found = looks.look(subject.folder, data=str(source), examples_hash=digest)
        number = found.number
        notes.append(looks.said(found))
    elif part == "validation" and own and task is None:
        notes.append(
            "The checkpoint was chosen by this part: its figures are a little too good. For one "
            "to report: --on test, once."
        )
    device = choose_precision().device
    stem = _stem(part, str(source), digest)
    started = time.perf_counter()
    for one in (subject, other):
        if one is not None:
            one.opened.model.to(device)
    ours = assess(
        subject.opened.model, subject.opened.task, examples, device=device, progress=progress
    )
    seconds = time.perf_counter() - started
    if part != "train":  # what was learnt by heart is doubted no more
        notes += _doubted(subject, examples, ours.predictions, stem)
    compared = None
    if other is not None:
        if part == "test":
            looks.look(other.folder, data=str(source), examples_hash=digest)
        theirs = assess(
            other.opened.model, other.opened.task, examples, device=device, progress=progress
        )
        metrics = theirs.metrics
        if _labels(subject) and _labels(subject) == _labels(other):  # in one order, to be exchanged
            metrics = subject.opened.task.metrics(examples, theirs.predictions)
        compared = comparison(other.folder.name, ours.metrics, metrics)
        if part == "test":
            notes.append("A comparison on test is to report a result, not to choose by it.")
    record = AssessmentRecord(
        run=subject.folder.name,
        task=subject.opened.task.name,
        data=str(source),
        part=part,
        n_examples=len(examples),
        examples_hash=digest,
        metrics=with_intervals(ours.metrics),
        look=number,
        seconds=seconds,
        device=device,
        at=runs.now(),
        predictions=f"{stem}.jsonl",
        against=compared,
        notes=notes,
    )
    _write(subject.folder, record, ours)
    return record, subject.folder / "evaluations"


def folder_of(run: str) -> Path:
    """A run by its folder or by its name in `runs/`. Raises CheckpointError where there is none."""
    for path in (Path(run).expanduser(), Path("runs") / run):
        if path.is_dir():
            return path
    raise CheckpointError(
        f"there is no run {run}", hint="Name a run's folder; `hornbook models` lists those here."
    )


def settings_of(run: Path) -> dict[str, Any]:
    """config.yaml of a run; {} where there is none. Raises CheckpointError when it is damaged."""
    path = run / "config.yaml"
    if not path.is_file():
        return {}
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise CheckpointError(
            f"{path} is damaged: {error}", hint="Name the data: --data D"
        ) from error
    return found if isinstance(found, dict) else {}


def _subject(run: str) -> Subject:
    folder = folder_of(run)
    settings = settings_of(folder)
    return Subject(folder, open_task(folder), settings)


def _untrained(
    model: str,
    task: str,
    data: str | None,
    columns: Mapping[str, str] | None,
    out: Path | None,
) -> Subject:
    """A model as it came, at a task that needs no head of its own."""
    if task not in WITHOUT_HEAD:
        raise ConfigError(
            f"a model that was not fine-tuned can't be judged at '{task}': its head would be noise",
            hint=f"hornbook finetune {task} --model {model} …; as they came models can be judged "
            f"at: {', '.join(WITHOUT_HEAD)}.",
        )
    if data is None:
        raise ConfigError("--task needs data to judge by", hint="Add --data D.")
    opened = bundles.open_model(model)
    if opened.path is not None:
        _refuse_fine_tuned(model, opened.path.resolve())
    kind = KINDS.load(task)
    parts = kind.open_data(data, dict(columns or {}), seed=0)
    made = kind.make(opened, parts)
    folder = out or runs.default_folder(f"evaluate-{Path(model).name}")
    folder.mkdir(parents=True, exist_ok=True)
    return Subject(folder, Opened(opened, made.build(opened).eval(), made), {})


def _refuse_fine_tuned(model: str, path: Path) -> None:
    """Such a run has its own division of the data and its own count of looks at the test part.

    Raises ConfigError.
    """
    runs_of = (p for p in (path, path.parent) if "method" in settings_of(p))
    run = next(runs_of, path if (path / "task.json").is_file() else None)
    if run is not None:
        raise ConfigError(
            f"{model} was fine-tuned, and --task is for models as they came",
            hint=f"Evaluate it without --task: hornbook evaluate {run} --on validation",
        )


def _check_alike(subject: Subject, other: Subject) -> None:
    ours, theirs = subject.opened.task.name, other.opened.task.name
    if ours != theirs:
        raise ConfigError(
            f"{subject.folder} was made for '{ours}', {other.folder} for '{theirs}'",
            hint="Compare two runs of the same task.",
        )


def _labels(subject: Subject) -> frozenset[str]:
    return frozenset(getattr(subject.opened.task, "label_names", ()))


def _parts(subject: Subject, data: str, columns: Mapping[str, str] | None, own: bool) -> Parts:
    """The data, divided as for training where they are those of training."""
    named = dict(columns or (subject.settings.get("columns") or {} if own else {}))
    seed = int(subject.settings.get("seed", 0))
    kind = KINDS.load(subject.opened.task.name)
    parts: Parts = kind.open_data(data, named, seed=seed)
    return parts


def _examples(parts: Parts, part: Part, data: str) -> Sequence[Any]:
    examples = getattr(parts, part)
    if not examples:
        raise DataError(
            f"{data} has no {part} part",
            hint="Take --on validation, or data that have one."
            if part == "test"
            else "Give data that have one.",
        )
    return list(examples)


def _stem(part: str, data: str, digest: str) -> str:
    name = re.sub(r"[^\w.-]+", "-", Path(data).stem or "data").strip("-.") or "data"
    return f"{part}-{name}-{digest[:8]}"


def _doubted(
    subject: Subject, examples: Sequence[Any], predictions: Sequence[Any], stem: str
) -> list[str]:
    """Labels of these examples that look wrong: written beside, and a sentence on them."""
    labels_of = getattr(subject.opened.task, "labels_of", None)
    if labels_of is None:
        return []
    given = [labels_of(example) for example in examples]
    doubts = label_doubts(given, predictions)
    if not doubts:
        return []
    lines = [
        {
            "example": doubt.row,
            "id": getattr(examples[doubt.row], "id", ""),
            "text": _text_of(examples[doubt.row]),
            "given": list(given[doubt.row]),
            "suggested": doubt.suggested,
            "probability": round(doubt.probability, 4),
        }
        for doubt in doubts
    ]
    path = subject.folder / "evaluations" / f"{stem}-doubts.jsonl"
    files.write_text(path, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    first = lines[0]
    shown = " ".join(str(first["text"]).split())[:80]
    return [
        f"{len(doubts):,} label(s) look wrong to the model, in {path.name}; first: {shown!r} is "
        f"labelled {', '.join(given[doubts[0].row])}, likelier is "
        f"{', '.join(doubts[0].suggested)}. Look at them before trusting the last decimals."
    ]


def _text_of(example: Any) -> str:
    document = getattr(example, "document", None)
    return document.full if document is not None else str(getattr(example, "text", ""))


def _write(folder: Path, record: AssessmentRecord, assessed: Assessed) -> None:
    path = (folder / "evaluations" / record.predictions).with_suffix(".json")
    runs.write_record(path, record)
    lines = (
        json.dumps({"example": i, "prediction": prediction}, ensure_ascii=False, default=str)
        for i, prediction in enumerate(assessed.predictions)
    )
    files.write_text(path.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))
