"""`hornbook finetune`: adapt a model to a task."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.train import pairs, stop_at_step
from hornbook.cli.working import working
from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.recipes.adaptation_run import Session
    from hornbook.records import AdaptSummary, CurvePoint

_DATA, _METHOD, _LENGTH, _RUN, _OUTPUT = "Data", "Method", "Length", "The run", "Output"
TASKS = "classify, pairs, tag, answer, translate, summarize, fill, continue, chat, embed, choose"


def command(
    task: Annotated[str | None, typer.Argument(help=f"{TASKS}.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="What is adapted: a name (hornbook models), a run, a folder, owner/name.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="A data set's name, a file or a folder.", rich_help_panel=_DATA),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="name=COLUMN: what is read as what.", rich_help_panel=_DATA),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="full, head, last-2, lora, dora or qlora; full.", rich_help_panel=_METHOD
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="name=value: rank, lr, tokens_per_step, ..., or the task's own.",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the examples; 3.", rich_help_panel=_LENGTH)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps, instead.", rich_help_panel=_LENGTH)
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Size the run to the clock, instead: 90s, 5m.", rich_help_panel=_LENGTH),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of the head, order and division; 0.", rich_help_panel=_RUN)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; runs/<task>-<data>-<time>.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A run to go on with.", rich_help_panel=_RUN)
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Preflight's warnings stop too.", rich_help_panel=_RUN),
    ] = False,
    show_masks: Annotated[
        bool,
        typer.Option(
            "--show-masks",
            help="Print some examples' tokens and which carry loss; train nothing.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    curve: Annotated[
        bool,
        typer.Option(
            "--curve",
            help="Also fit parts of the data: what would more labels bring?",
            rich_help_panel=_RUN,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Preflight and the plan; train nothing.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print summary.json, or the plan.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Adapt a model to a task: classify texts, tag words, answer, translate, chat, ...

    Before any weight moves, preflight looks for what would spoil the run. The run folder keeps the
    best model by validation, as a folder that transformers opens, head included; the test part is
    never looked at: `hornbook evaluate RUN --on test` does that.
    """
    given = {
        "task": task,
        "model": model,
        "data": data,
        "columns": dict(map(named, column)) if column else None,
        "method": method,
        "epochs": epochs,
        "steps": steps,
        "time": time,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    given |= settled(settings or [])
    carry_out(given, Wanted(out, resume, strict, show_masks, dry_run, as_json, quiet, curve=curve))


@dataclass(frozen=True)
class Wanted:
    """What is to be done with a run, and what is to be seen of it."""

    out: Path | None = None
    resume: Path | None = None
    strict: bool = False
    show_masks: bool = False
    dry_run: bool = False
    as_json: bool = False
    quiet: bool = False
    curve: bool = False


def carry_out(given: dict[str, Any], wanted: Wanted) -> None:
    """Open, look over, run and report. given: `AdaptSettings` that were named."""
    from hornbook.cli import adaptation_tables as tables
    from hornbook.config import format_duration, settings_from
    from hornbook.recipes.adaptation_opening import finished, open_beside, open_new, reopen
    from hornbook.recipes.adaptation_settings import AdaptSettings
    from hornbook.recipes.kinds import PREFERENCES
    from hornbook.recipes.learning_curve import further_runs
    from hornbook.recipes.preflight import refuse
    from hornbook.training.accelerator import place

    first = place()[0] == 0
    loud = first and not wanted.quiet
    watched = loud and sys.stderr.isatty()
    over = None
    if wanted.curve and place()[1] > 1:
        raise ConfigError(
            f"--curve is fitted by one process, and these are {place()[1]}",
            hint="Afterwards, by one alone: hornbook finetune --resume RUN --curve",
        )
    if wanted.resume is not None:
        if wanted.dry_run or wanted.show_masks:
            raise ConfigError(
                "--dry-run and --show-masks are for a new run", hint="Leave out --resume or these."
            )
        over = finished(wanted.resume) if wanted.curve else None
        with working("opening the run") if watched else nullcontext():
            session = (reopen if over is None else open_beside)(wanted.resume, given)
    else:
        _check_named(given)
        with working("opening model and data") if watched else nullcontext():
            session = open_new(settings_from(AdaptSettings, **given), wanted.out)
    if wanted.show_masks:
        tables.show_masks(session)
        return
    # Too few examples for a curve are said before the run, not behind it.
    further = further_runs(len(session.parts.train)) if wanted.curve else 0.0
    if loud and not wanted.as_json:
        tables.show_beginning(session)
    if wanted.resume is None:
        record = session.look_over(measured=place()[1] == 1)
        beside = record.plan.seconds * further if record.plan and further else None
        if wanted.dry_run and wanted.as_json:
            more = {} if beside is None else {"curve_seconds": beside}
            print(json.dumps(record.model_dump(mode="json") | more, indent=2))
            return
        if loud or wanted.dry_run:
            out = sys.stdout if wanted.dry_run else sys.stderr
            tables.show_preflight(record, out=out)
            if beside is not None:
                said = f"curve        {format_duration(beside)} more: {further:.1f} further runs"
                print(f"{said}, on parts of the examples", file=out)
        refuse(session.findings, strict=wanted.strict)
        if wanted.dry_run:
            return
    with _stopped_politely(session):
        summary = over or _trained(session, wanted)
        if summary is None:  # one of several processes, and not the first
            return
        whole = summary.status != "interrupted"
        command = "align" if session.settings.task in PREFERENCES else "finetune"
        if not (wanted.as_json and wanted.curve and whole) and over is None:
            tables.show_run(session.folder, summary, wanted.as_json, command)
        if wanted.curve and whole:
            whole = _curve(session, summary, wanted, command)
    if not whole:
        raise typer.Exit(130)


def _trained(session: Session, wanted: Wanted) -> AdaptSummary | None:
    """Carry the run out, shown as it goes, and write its page and card."""
    from hornbook.cli.live_adaptation import AdaptationView
    from hornbook.cli.live_training import showing
    from hornbook.reports.adaptation_card import write_run_card
    from hornbook.reports.training import write_training_report
    from hornbook.training.accelerator import place

    with showing(AdaptationView, wanted.quiet or place()[0] != 0) as view:
        view.expect(session.plan, seconds=session.settings.time, best_name=session.task.best)
        summary = session.carry_out(view, command=shlex.join(["hornbook", *sys.argv[1:]]))
    if summary is not None:
        write_training_report(session.folder)
        write_run_card(session.folder)
    return summary


@contextmanager
def _stopped_politely(session: Session) -> Iterator[None]:
    """In this block the first Ctrl-C ends the run after its step; afterwards all is as before."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_at_step(session.stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _curve(session: Session, summary: AdaptSummary, wanted: Wanted, command: str) -> bool:
    """The same run on parts of the data, and what more of them would bring; whether all is fitted.

    With --json the record stands in the summary's, as one document.
    """
    from hornbook.cli.learning_tables import point_line, show_curve
    from hornbook.recipes.learning_curve import learning_curve
    from hornbook.reports.training import write_training_report

    def told(point: CurvePoint) -> None:
        if not wanted.quiet:
            print(point_line(point), file=sys.stderr)

    typed = shlex.join(["hornbook", *sys.argv[1:]])
    record = learning_curve(session, command=typed, told=told)
    if record is not None:
        write_training_report(session.folder)
    if wanted.as_json:
        curve = None if record is None else record.model_dump(mode="json")
        print(json.dumps(summary.model_dump(mode="json") | {"learning_curve": curve}, indent=2))
    elif record is not None:
        show_curve(record, session.folder)
    else:
        print(f"go on with: hornbook {command} --resume {session.folder} --curve")
    return record is not None


def _check_named(given: dict[str, Any]) -> None:
    hints = {
        "task": f"Name one: {TASKS}.",
        "model": "Give --model: minilm, smollm2-135m-instruct, a run or a folder.",
        "data": "Give --data: a data set's name, a file or a folder.",
    }
    for name, hint in hints.items():
        if name not in given:
            raise ConfigError(f"which {name} is not said", hint=hint)


def settled(settings: Sequence[str]) -> dict[str, Any]:
    """--set name=value: the recipe's settings, and the task's own under `options`."""
    from hornbook.recipes.adaptation_settings import AdaptSettings

    found: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in pairs(list(settings)).items():
        own = name.removeprefix("options.")
        if name in AdaptSettings.model_fields and name not in ("options", "columns"):
            found[name] = value
        else:
            options[own] = value
    return found | ({"options": options} if options else {})


def named(column: str) -> tuple[str, str]:
    """--column name=COLUMN. Raises ConfigError for what is none."""
    name, separator, value = column.partition("=")
    if not separator or not name.strip() or not value:
        raise ConfigError(f"--column {column} is not name=COLUMN", hint="E.g. --column text=body")
    return name.strip(), value
