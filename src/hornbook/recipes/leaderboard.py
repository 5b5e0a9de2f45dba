"""The user's own runs, best first, on each set of examples that they were measured on.

Figures stand in one table where they are of the same examples, by their hash. What spoils such
tables is said beside them: a test part looked at more than once, data that changed, and examples
that are in the training part of another run of the same data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hornbook.errors import CheckpointError, HornbookError
from hornbook.evaluation import looks
from hornbook.evaluation.evaluate import hash_of
from hornbook.recipes.assessing import drawn
from hornbook.recipes.divisions import Division, examples_of, same_place
from hornbook.recipes.learnt import TOLD, Learnt, hash_of_training, learnt_by
from hornbook.recipes.subjects import settings_of
from hornbook.records import AdaptSummary, AssessmentRecord, MetricRecord, Part
from hornbook.tasks.task import Parts

_FIRST: dict[str, int] = {"test": 0, "all": 1, "validation": 2}


@dataclass(frozen=True)
class Row:
    """A run's figure. n_looks: at this test part. warnings: why it is not to be trusted."""

    run: str
    model: str
    method: str
    metric: MetricRecord
    at: str
    n_looks: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Board:
    """Runs on the same examples, n_examples of a part of n_part, best first.

    warnings: on the examples.
    """

    task: str
    data: str
    part: Part
    n_examples: int
    n_part: int
    examples_hash: str
    rows: list[Row]
    warnings: list[str]


@dataclass(frozen=True)
class _Run:
    folder: Path
    name: str
    summary: AdaptSummary
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Figure:
    """own: whether the examples are of the data that the run was trained on. columns: what of them
    was read as what; None where nobody wrote it down."""

    run: _Run
    data: str
    own: bool
    columns: Mapping[str, str] | None
    part: Part
    n_examples: int
    n_part: int
    examples_hash: str
    row: Row


def boards_of(folder: Path) -> list[Board]:
    """The tables of all fine-tuning runs in a folder, trials of searches too.

    Raises CheckpointError where there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"there is no folder {folder}", hint="Name the one that your runs lie in."
        )
    found = list(_runs(folder))
    boards: dict[tuple[str, str, str], list[_Figure]] = {}
    for run in found:
        for figure in _figures(run):
            key = run.summary.task, figure.examples_hash, figure.row.metric.name
            boards.setdefault(key, []).append(figure)
    divided: dict[Division, Parts] = {}
    made = [_board(figures, found, divided) for figures in boards.values()]
    return sorted(made, key=lambda b: (b.task, b.data, _FIRST.get(b.part, 3), -b.n_examples))


def _runs(folder: Path) -> Iterator[_Run]:
    for path in sorted(folder.rglob("summary.json")):
        if _of_curve(path.parent):
            continue
        try:
            summary = AdaptSummary.model_validate_json(path.read_bytes())
            settings = settings_of(path.parent)
        except (ValidationError, HornbookError):  # of another kind of run, or damaged
            continue
        name = path.parent.relative_to(folder).as_posix()
        yield _Run(path.parent, path.parent.name if name == "." else name, summary, settings)


def _of_curve(folder: Path) -> bool:
    """Whether it is a fit of `--curve`: RUN/curve/93, on some of what RUN learnt from."""
    return folder.parent.name == "curve" and (folder.parents[1] / "config.yaml").is_file()


def _figures(run: _Run) -> Iterator[_Figure]:
    """A run's figure on each set of examples, the newest of each."""
    s = run.summary
    newest: dict[str, _Figure] = {}
    if s.metrics and (digest := s.hashes.get("validation examples")):
        metric = next((m for m in s.metrics if m.name == s.best), s.metrics[0])
        row = Row(run.name, s.base_model, s.method, metric, s.started)
        n = s.n_validation
        columns = run.settings.get("columns") or {}
        newest[digest] = _Figure(run, s.corpus.name, True, columns, "validation", n, n, digest, row)
    for record in _records(run.folder):
        if record.part == "train" or not record.metrics:
            continue
        before = newest.get(record.examples_hash)
        named = before.row.metric.name if before else s.best
        metric = next((m for m in record.metrics if m.name == named), record.metrics[0])
        own = same_place(record.data, run.settings.get("data"))
        digest, n = record.examples_hash, record.n_examples
        row = Row(
            run.name,
            s.base_model,
            s.method,
            metric,
            record.at,
            looks.times(run.folder, record.part_hash or digest) if record.look else 0,
            record.warnings,
        )
        name = s.corpus.name if own else Path(record.data).stem
        whole = record.n_part or n
        newest[digest] = _Figure(run, name, own, record.columns, record.part, n, whole, digest, row)
    yield from newest.values()


def _records(run: Path) -> list[AssessmentRecord]:
    found = []
    for path in (run / "evaluations").glob("*.json"):
        try:
            found.append(AssessmentRecord.model_validate_json(path.read_bytes()))
        except ValidationError:
            continue
    return sorted(found, key=lambda record: record.at)


def _board(figures: list[_Figure], runs: list[_Run], divided: dict[Division, Parts]) -> Board:
    first = next((figure for figure in figures if figure.own), figures[0])
    ranked = sorted((figure.row for figure in figures), key=_rank)
    return Board(
        first.run.summary.task,
        first.data,
        first.part,
        first.n_examples,
        first.n_part,
        first.examples_hash,
        ranked,
        _overlaps(first, runs, divided),
    )


def _rank(row: Row) -> float:
    value = row.metric.value
    if value is None:
        return float("inf")
    return -value if row.metric.higher_is_better else value


def _overlaps(figure: _Figure, runs: list[_Run], divided: dict[Division, Parts]) -> list[str]:
    """Sentences on runs of the same data that learnt from these examples; none where they are of
    other data, of which each record says itself what its run had learnt.

    Runs with equal hashes of their training parts were divided alike, and nothing is read again.
    """
    run, task = figure.run, figure.run.summary.task
    data = run.settings.get("data")
    others = [
        other
        for other in runs
        if figure.own
        and other.summary.task == task
        and data is not None
        and same_place(str(data), other.settings.get("data"))
        and hash_of_training(other.folder) != hash_of_training(run.folder)
    ]
    if not others:
        return []
    asked = _division(figure)
    examples = _examples(figure, asked, divided)
    if examples is None:
        return [f"{_why_not(figure, divided)}: who learnt from these can't be told."]
    said = []
    known: dict[Division, Learnt] = {}
    for other in others:
        division = Division.of(other.settings, task)
        assert division is not None, "its data were named just now"
        if division.columns != asked.columns:
            said.append(
                f"Whether {other.name} learnt from these examples can't be told: it read other "
                "columns."
            )
            continue
        if division not in known:
            known[division] = learnt_by(other.folder, other.settings, task, divided)
        n = sum(known[division].among(examples))
        if n > TOLD * len(examples):
            said.append(
                f"{n:,} of these {len(examples):,} examples are in the training part of "
                f"{other.name}: what it scores elsewhere does not compare with this."
            )
    return said


def _division(figure: _Figure) -> Division:
    """How its examples were divided; by the run's own columns where nobody wrote them down."""
    division = Division.of(figure.run.settings, figure.run.summary.task)
    assert division is not None, "its data were named just now"
    if figure.columns is None:
        return division
    return replace(division, columns=tuple(sorted(figure.columns.items())))


def _why_not(figure: _Figure, divided: dict[Division, Parts]) -> str:
    """Why its examples can't be made again. Where the run's training part still can be, the data
    are the old ones, and other columns were named than this record says."""
    then = hash_of_training(figure.run.folder)
    own = Division.of(figure.run.settings, figure.run.summary.task)
    assert own is not None, "its data were named just now"
    try:
        as_they_were = then is not None and hash_of((divided.get(own) or own.parts()).train) == then
    except HornbookError:
        as_they_were = False
    if figure.columns is None and as_they_were:
        return "The record does not say with which --column they were read"
    return "The data have changed or are gone"


def _examples(
    figure: _Figure, division: Division, divided: dict[Division, Parts]
) -> list[Any] | None:
    """The examples of a figure, divided again; None where they are others now, or gone."""
    try:
        if division not in divided:
            divided[division] = division.parts()
        every, _ = examples_of(divided[division], figure.part, division.data, own=True)
        found = [every[i] for i in drawn(len(every), figure.n_examples)]
    except HornbookError:
        return None
    return found if hash_of(found) == figure.examples_hash else None
