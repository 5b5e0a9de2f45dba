"""`hornbook tune`: search for a task's settings, by validation alone."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.finetune import TASKS, named, settled
from hornbook.cli.train import stop_at_step
from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.records import EvaluationRecord, TrialRecord, TuningRecord

_DATA, _SEARCH, _LENGTH, _OUTPUT = "Data", "The search", "Length of a trial", "Output"


def command(
    task: Annotated[str | None, typer.Argument(help=f"{TASKS}.")] = None,
    model: Annotated[
        str | None, typer.Option(help="What is adapted, as in finetune.", rich_help_panel=_DATA)
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
        str | None, typer.Option(help="full, head, last-2, lora, dora or qlora; full.")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            help="lr=1e-5..1e-3 or rank=4,8,16; by default what the method is ruled by.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value: fixed in all trials.", rich_help_panel=_SEARCH),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="So many trials; 12.", rich_help_panel=_SEARCH)
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Or trials until this time is spent: 30m.", rich_help_panel=_SEARCH),
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Of each trial.", rich_help_panel=_LENGTH)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Instead.", rich_help_panel=_LENGTH)] = None,
    seed: Annotated[int | None, typer.Option(help="Of division, order and search; 0.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder; runs/tune-<task>-<data>-<time>.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="A search to go on with.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print tuning.json.", rich_help_panel=_OUTPUT)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Search for a task's settings with optuna: many runs of finetune, the best by validation.

    Trial 0 is the defaults. Trials that fall behind are cut short, and a search that was stopped
    goes on with --resume. The test part is not looked at.
    """
    from hornbook.config import parse_duration
    from hornbook.recipes.tuning import N_TRIALS, Budget

    seconds = parse_duration(time) if time is not None else None
    budget = Budget(trials or (None if seconds else N_TRIALS), seconds)
    given = {
        "task": task,
        "model": model,
        "data": data,
        "columns": dict(map(named, column)) if column else None,
        "method": method,
        "epochs": epochs,
        "steps": steps,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    given |= settled(settings or [])
    record, folder = _searched(given, search or [], budget, out, resume, quiet)
    if as_json:
        print(record.model_dump_json(indent=2))
    else:
        show(record, folder)
    if record.best is None:
        raise typer.Exit(1)


def _searched(
    given: dict[str, Any],
    wanted: list[str],
    budget: Any,
    out: Path | None,
    resume: Path | None,
    quiet: bool,
) -> tuple[TuningRecord, Path]:
    from hornbook import runs
    from hornbook.cli.adaptation_tables import show_beginning, show_preflight
    from hornbook.config import settings_from
    from hornbook.recipes.adaptation_settings import AdaptSettings
    from hornbook.recipes.preflight import refuse
    from hornbook.recipes.tuning import ASKED, Search
    from hornbook.reports.adaptation_card import write_run_card
    from hornbook.reports.training import write_training_report
    from hornbook.reports.tuning import write_tuning_report

    command = shlex.join(["hornbook", *sys.argv[1:]])
    if resume is not None:
        if given or wanted:
            raise ConfigError(
                "--resume goes on with the search as it was asked for",
                hint="Leave out all but --trials, --time, --json and --quiet.",
            )
        if not (resume / ASKED).is_file():
            raise ConfigError(f"{resume} is no search: it has no {ASKED}", hint="Name its folder.")
        search = Search(None, resume, command=command)
        folder = resume
    else:
        for name in ("task", "model", "data"):
            if name not in given:
                raise ConfigError(f"which {name} is not said", hint="See hornbook tune --help.")
        asked = settings_from(AdaptSettings, **given)
        folder = out or runs.default_folder(f"tune-{asked.task}-{Path(asked.data).stem}")
        fixed = frozenset(given) - {"columns", "options"} | frozenset(given.get("options", {}))
        search = Search(asked, folder, given=fixed, wanted=wanted, command=command)
        if not quiet:
            show_beginning(search.judge)
        found = search.judge.look_over(measured=False)
        if not quiet:
            show_preflight(found, out=sys.stderr)
        refuse(search.judge.findings, strict=False)
    if not quiet:
        print(f"searched: {'; '.join(map(_range, search.space))}", file=sys.stderr)
    stop_at_step(search.stop)
    record = search.run(budget, Lines(quiet))
    write_tuning_report(record, folder / "tuning.html")
    for trial in record.trials:
        place = folder / trial.folder
        if trial.number == record.best and (place / "summary.json").is_file():
            write_training_report(place)
            write_run_card(place)
    return record, folder


@dataclass
class Lines:
    """A line for each trial and evaluation, on standard error."""

    quiet: bool

    def begin(self, number: int, settings: Mapping[str, Any]) -> None:
        shown = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._say(f"trial {number}: {shown}")

    def hear_evaluation(self, evaluation: EvaluationRecord) -> None:
        found = ", ".join(
            f"{name} {value:.4f}" for name, value in evaluation.metrics.items() if value is not None
        )
        loss = evaluation.validation_loss
        shown = found or (f"loss {loss:.4f}" if loss is not None else "no number")
        self._say(f"  step {evaluation.step}: {shown}")

    def end(self, trial: TrialRecord) -> None:
        self._say(f"  {trial.state}{': ' + trial.message if trial.message else ''}")

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)


def show(record: TuningRecord, folder: Path) -> None:
    """All trials, the best first; what that means, and where all lies."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from hornbook.config import format_duration
    from hornbook.reports.tuning import value_of

    value = value_of(record)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("trial")
    table.add_column(Text(record.chosen_by), justify="right")
    for one in record.searched:
        table.add_column(Text(one.name), justify="right")
    for heading in ("steps", "took", ""):
        table.add_column(heading, justify="right" if heading else "left")
    worst = float("inf")
    ordered = sorted(
        record.trials,
        key=lambda t: (t.number != record.best, worst if t.score is None else t.score),
    )
    for trial in ordered:
        what = f"{trial.state}, the defaults" if trial.defaults else trial.state
        table.add_row(
            str(trial.number),
            f"{value[trial.number]:.4f}" if trial.number in value else "–",
            *(Text(str(trial.settings.get(one.name, ""))) for one in record.searched),
            f"{trial.steps:,}",
            format_duration(trial.seconds),
            what,
            style="bold" if trial.number == record.best else None,
        )
    Console(highlight=False).print(table)
    print(record.says)
    for note in record.notes:
        print(f"- {note}")
    print(f"trials {folder / 'tuning.json'}, page {folder / 'tuning.html'}")
    print(f"more trials: hornbook tune --resume {folder} --trials {len(record.trials) + 12}")


def _range(one: Any) -> str:
    if one.choices:
        return f"{one.name} {', '.join(map(str, one.choices))}"
    return f"{one.name} {one.low:.3g} to {one.high:.3g}{' (log)' if one.log else ''}"
