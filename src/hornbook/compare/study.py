"""A study from data to advice: `compare`, and `Study`, which is one that has run."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hornbook.compare.claim import begin, check_continues, check_free, check_same, is_study
from hornbook.compare.cost import EnergyMeter
from hornbook.compare.judge import Judge
from hornbook.compare.launch import Outcome, Sign, run_worker
from hornbook.compare.layout import StudyFolder
from hornbook.compare.outcome import Leaderboard, write_outcome
from hornbook.compare.predictor import Predictor
from hornbook.compare.prepare import prepare
from hornbook.compare.schedule import Shares
from hornbook.compare.settings import StudyPlan, StudySettings, settings_asked
from hornbook.compare.sources import Source, resolve
from hornbook.config import format_duration, settings_from
from hornbook.data.examples import TextDataset
from hornbook.errors import StudyError, UnknownNameError, nearest
from hornbook.records import Summary, TechniqueResult
from hornbook.runs import (
    default_folder,
    drop_previous,
    locked,
    previous,
    read_record,
    write_lines,
)

_KEPT = ("ok", "skipped")  # results that a resumed study doesn't try again


@dataclass(frozen=True)
class Progress:
    """What a listener is told: a technique's stage, or, where `technique` is "", the study's.

    fit_seconds: how long it has fitted so far; None before. result: there once it has ended.
    """

    technique: str
    repeat: int
    stage: str
    budget: float | None = None
    validation: float | None = None
    fit_seconds: float | None = None
    result: TechniqueResult | None = None


Listener = Callable[[Progress], None]


class StudyInterrupted(KeyboardInterrupt):
    """Ctrl-C during a study: what had finished is judged and written, and `study` opens it."""

    def __init__(self, study: Study) -> None:
        self.resume = "\n".join(_what_remains(study.folder))
        super().__init__(self.resume)
        self.study = study


class Study:
    """A study in its folder: the leaderboard, and the models that were fitted."""

    def __init__(self, folder: Path, sources: Sequence[Source] = ()) -> None:
        self.folder = folder
        self._trusted = {source.name: source for source in sources}

    @cached_property
    def summary(self) -> Summary:
        """summary.json as a record."""
        return read_record(self.folder / "summary.json", Summary)

    @property
    def leaderboard(self) -> Leaderboard:
        """Rows best first; prints as a table."""
        return Leaderboard(self.summary.leaderboard)

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    @property
    def best(self) -> Predictor:
        """The technique with the highest score, ready to predict."""
        return self.technique(self._named(self.summary.best))

    @property
    def recommended(self) -> Predictor:
        """The cheapest technique that ties with the best."""
        return self.technique(self._named(self.summary.recommended))

    def technique(self, name: str) -> Predictor:
        """Any technique that finished. Of its repeats, the one best on validation is opened.

        Raises UnknownNameError for one that isn't there, ConfigError for a user's own technique
        in a study opened from a folder (see `Predictor.open`), CheckpointError for a damaged one.
        """
        folder = StudyFolder(self.folder)
        results = [r for r in folder.results([name]) if r.status == "ok"]
        if not results:
            names = [row.technique for row in self.summary.leaderboard]
            raise UnknownNameError(
                f"no technique '{name}' has finished in {self.folder}", hint=nearest(name, names)
            )
        best = max(results, key=lambda r: r.validation_micro_f1 or 0.0)
        return Predictor.open(folder.run(name, best.repeat).model, source=self._trusted.get(name))

    def _named(self, name: str | None) -> str:
        if name is None:
            raise StudyError(
                f"no technique has finished in {self.folder}",
                hint=f"Go on with it: hornbook compare {self.folder} --resume",
            )
        return name

    def __repr__(self) -> str:
        return f"{self.leaderboard!r}\n{self.summary.advice}\n{self.report}"


def open_study(folder: str | Path) -> Study:
    """Open the folder of a study. Raises StudyError when it is none, or has no summary yet."""
    StudyFolder(Path(folder)).plan()
    study = Study(Path(folder))
    study._named(study.summary.best)
    return study


def compare(
    data: Any,
    *,
    text: str | None = None,
    label: str | None = None,
    title: str | None = None,
    label_separator: str | None = None,
    techniques: Sequence[str] | None = None,
    budget: str | float | None = None,
    total: str | float | None = None,
    repeats: int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    listener: Listener = lambda progress: None,
) -> Study:
    """Fit and judge every technique on the same splits with the same budget.

    data: a data set's name, a path, a data frame, (text, label) pairs, dicts, or a TextDataset;
    with `resume`, also the folder of a study that was interrupted. text, label, title: columns.
    techniques: names, or `path.py:Class` for your own; all by default. budget: for each to fit,
    seconds or '90s', '5m', '1h', by default 2m. total: for the whole study, in its place; what an
    interrupted study has spent of it is spent. repeats: 1, seed: 0 by default. out: the run folder.

    Raises StudyError when the folder exists and neither `resume` nor `overwrite` is set, or when
    the study to be resumed is another one or was begun with other settings; DataError and
    ConfigError for what the user can mend; StudyInterrupted on Ctrl-C, after what had finished is
    judged and written.
    """
    start = time.monotonic()

    def say(stage: str) -> None:
        listener(Progress("", 0, stage))

    asked = settings_asked(
        text=text,
        label=label,
        title=title,
        label_separator=label_separator,
        techniques=(techniques,) if isinstance(techniques, str) else tuple(techniques or ()),
        budget=budget,
        total=total,
        repeats=repeats,
        seed=seed,
    )
    if isinstance(data, str | Path) and is_study(Path(data)):
        if not resume:
            raise StudyError(
                f"{data} is a study, not data",
                hint=f"Go on with it: hornbook compare {shlex.quote(str(data))} --resume",
            )
        folder = StudyFolder(Path(data))
        check_continues(folder, asked, Path(out) if out else None, overwrite)
    else:
        settings = settings_from(StudySettings, dataset=_name_of(data), **asked)
        folder = StudyFolder(Path(out) if out else default_folder(settings.dataset))
        check_free(folder.path, resume, overwrite)
        prepared = prepare(data, settings, say)
        if resume:
            check_same(folder, prepared.plan)
        else:
            begin(folder, prepared)
    with locked(folder.path):
        try:
            return _run(folder, listener, start)
        except Exception as error:
            for line in _what_remains(folder.path):
                error.add_note(line)
            raise


def _what_remains(folder: Path) -> list[str]:
    """Sentences for one whose study has ended early: what to do, and where older work is."""
    lines = [f"Go on with it: hornbook compare {shlex.quote(str(folder))} --resume"]
    if kept := previous(folder):
        lines.append(f"The run that was there before is in {kept}")
    return lines


def _run(folder: StudyFolder, listener: Listener, start: float) -> Study:
    """Run what hasn't run, and write the outcome; also after Ctrl-C, with what there is."""
    plan, before = folder.plan(), folder.seconds()
    sources = resolve(plan.settings.techniques)
    names = [source.name for source in sources]
    interrupted: list[TechniqueResult] = []
    try:
        _run_techniques(folder, plan, sources, listener, start - before)
    except KeyboardInterrupt:
        done = {(r.technique, r.repeat) for r in folder.results(names)}
        interrupted = [
            TechniqueResult(
                technique=name,
                repeat=k,
                status="interrupted",
                message=f"hornbook compare {folder.path} --resume goes on from here",
            )
            for k in range(plan.settings.repeats)
            for name in names
            if (name, k) not in done
        ]
    listener(Progress("", 0, "judging"))
    results = folder.results(names)
    folder.write_seconds(before + time.monotonic() - start)
    write_outcome(folder, plan, results, interrupted, folder.seconds())
    study = Study(folder.path, sources)
    if interrupted:
        raise StudyInterrupted(study)
    if study.summary.best is not None:  # a run in which nothing finished replaces none
        drop_previous(folder.path)
    return study


def _run_techniques(
    folder: StudyFolder,
    plan: StudyPlan,
    sources: Sequence[Source],
    listener: Listener,
    start: float,
) -> None:
    """Run what hasn't run. start: when the study began, as if without a break (monotonic)."""
    names = [source.name for source in sources]
    judge = Judge.of(folder)
    meter = EnergyMeter(folder.path / "emissions.csv")
    shares = None if plan.settings.total is None else Shares(plan.settings.total)
    waiting = []
    for k in range(plan.settings.repeats):
        for source in sources:
            kept = folder.run(source.name, k).result()
            if kept is not None and kept.status in _KEPT:
                listener(_ended(kept))
            else:
                waiting.append((source, k))
    total, spent = plan.settings.total, time.monotonic() - start
    if waiting and total is not None and folder.seconds():
        words = f"{format_duration(spent)} of {format_duration(total)} are spent"
        listener(Progress("", 0, f"going on: {words}"))
    for i, (source, k) in enumerate(waiting):
        began = time.monotonic()
        seconds = plan.settings.budget
        if shares is not None:
            seconds = shares.next([later for later, _ in waiting[i:]], began - start)

        def hear(sign: Sign, source: Source = source, k: int = k, budget: float = seconds) -> None:
            listener(
                Progress(source.name, k, sign.stage, budget, sign.validation, sign.fit_seconds)
            )

        outcome = run_worker(folder, source, k, seconds, meter, hear)
        result = _result(folder, judge, source, k, seconds, outcome)
        folder.run(source.name, k).write_result(result)
        folder.write_seconds(time.monotonic() - start)
        write_lines(folder.path / "results.jsonl", folder.results(names))
        if shares is not None and outcome.status == "ok":
            shares.spent(time.monotonic() - began, outcome.measured["fit_seconds"])
        listener(_ended(result))


def _result(
    folder: StudyFolder, judge: Judge, source: Source, k: int, seconds: float, outcome: Outcome
) -> TechniqueResult:
    """What the worker measured, what the meter read, and what the judge finds."""
    measured = dict(outcome.measured)
    message = outcome.message
    energy = outcome.energy
    kwh, kg = energy.kwh, energy.kg
    if outcome.status == "ok":
        fitted = measured["fit_seconds"]
        if fitted > seconds * 1.1 + 1:
            message = f"took {format_duration(fitted)} of {format_duration(seconds)}"
        if source.runs_last:
            members = [
                r
                for other in resolve(folder.plan().settings.techniques)
                if not other.runs_last
                and (r := folder.run(other.name, k).result()) is not None
                and r.status == "ok"
            ]
            # What it mixes had to be fitted first: that is its cost as well.
            measured["fit_seconds"] += sum(r.fit_seconds or 0.0 for r in members)
            measured["cpu_seconds"] += sum(r.cpu_seconds or 0.0 for r in members)
            used = measured["settings"]  # what it does not use it does not need on disk
            measured["size_bytes"] += sum(r.size_bytes or 0 for r in members if r.technique in used)
            kwh = None if kwh is None else kwh + sum(r.energy_kwh or 0.0 for r in members)
            kg = None if kg is None else kg + sum(r.emissions_kg or 0.0 for r in members)
            message = (
                f"{format_duration(fitted)} of its own; the rest of its cost is that of fitting "
                f"the {len(members)} techniques it mixes"
            )
        measured |= judge.scores(folder.run(source.name, k))
    return TechniqueResult(
        technique=source.name,
        repeat=k,
        status=outcome.status,
        message=message,
        budget_seconds=seconds,
        energy_kwh=kwh,
        emissions_kg=kg,
        energy_source=energy.source,
        **measured,
    )


def _ended(result: TechniqueResult) -> Progress:
    return Progress(
        result.technique,
        result.repeat,
        result.status,
        result.budget_seconds,
        result.validation_micro_f1,
        result.fit_seconds,
        result,
    )


def _name_of(data: Any) -> str:
    """What the settings call the data; a data frame's `name` may be one of its columns."""
    if isinstance(data, str | Path):
        return str(data)
    return data.name if isinstance(data, TextDataset) else "data"
