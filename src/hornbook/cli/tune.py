"""`hornbook tune`: search for a task's settings, by validation alone."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from hornbook.cli.finetune import TASKS, named, settled
from hornbook.cli.train import stop_at_step
from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.recipes.tuning import Budget, Search
    from hornbook.records import (
        EvaluationRecord,
        PreflightRecord,
        SearchedSetting,
        TrialRecord,
        TuningRecord,
    )

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
        str | None,
        typer.Option(help="full, head, last-2, lora, dora or qlora; full, of align's losses lora."),
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
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Preflight's warnings stop too.", rich_help_panel=_SEARCH),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Preflight, what is searched, and the time; fit nothing.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print tuning.json, or the plan.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Search for a task's settings with optuna: many runs of finetune, the best by validation.

    Trial 0 is the defaults. Trials that fall behind are cut short, and a search that was stopped
    goes on with --resume. The test part is not looked at.
    """
    from hornbook.cli.adaptation_tables import show_beginning
    from hornbook.config import parse_duration
    from hornbook.recipes.preflight import refuse
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
    if resume is not None:
        if given or search or strict or dry_run:
            raise ConfigError(
                "--resume goes on with the search as it was asked for",
                hint="Leave out all but --trials, --time, --json and --quiet.",
            )
        found = _opened(resume)
    else:
        found = _begun(given, search or [], out)
        if not quiet:
            show_beginning(found.judge)
        plan = _looked_over(found, budget)
        if dry_run and as_json:
            print(json.dumps(plan.as_json(), indent=2))
            return
        if dry_run or not quiet:
            plan.show(sys.stdout if dry_run else sys.stderr)
        refuse(found.judge.findings, strict=strict)
        if dry_run:
            print(f"searched     {_ranges(found.space)}")
            return
    if not quiet:
        print(f"searched: {_ranges(found.space)}", file=sys.stderr)
    record = _searched(found, budget, quiet)
    if as_json:
        print(record.model_dump_json(indent=2))
    else:
        show(record, found.folder)
    if record.best is None:
        raise typer.Exit(1)


def _opened(folder: Path) -> Search:
    """A search that is there."""
    from hornbook.recipes.tuning import ASKED, Search

    if not (folder / ASKED).is_file():
        raise ConfigError(f"{folder} is no search: it has no {ASKED}", hint="Name its folder.")
    return Search(None, folder, command=shlex.join(["hornbook", *sys.argv[1:]]))


def _begun(given: dict[str, Any], wanted: list[str], out: Path | None) -> Search:
    """A new search; nothing is written yet."""
    from hornbook import runs
    from hornbook.config import settings_from
    from hornbook.recipes.adaptation_settings import AdaptSettings
    from hornbook.recipes.kinds import PREFERENCES
    from hornbook.recipes.tuning import Search

    for name in ("task", "model", "data"):
        if name not in given:
            raise ConfigError(f"which {name} is not said", hint="See hornbook tune --help.")
    if given["task"] in PREFERENCES:
        given = {"method": "lora"} | given  # as `hornbook align` has it
    asked = settings_from(AdaptSettings, **given)
    folder = out or runs.default_folder(f"tune-{asked.task}-{Path(asked.data).stem}")
    fixed = frozenset(given) - {"columns", "options"} | frozenset(given.get("options", {}))
    command = shlex.join(["hornbook", *sys.argv[1:]])
    return Search(asked, folder, given=fixed, wanted=wanted, command=command)


@dataclass(frozen=True)
class Plan:
    """What a search would do. seconds: of a trial with the defaults; None where not foreseen."""

    preflight: PreflightRecord
    space: list[SearchedSetting]
    seconds: float | None
    budget: Budget

    @property
    def most(self) -> float | None:
        """Seconds of the whole search at most: less for trials that are cut."""
        n, seconds = self.budget.n_trials, self.seconds
        ends = [self.budget.seconds, None if n is None or seconds is None else n * seconds]
        return min((end for end in ends if end is not None), default=None)

    def show(self, out: TextIO) -> None:
        from hornbook.cli.adaptation_tables import show_preflight
        from hornbook.config import format_duration

        show_preflight(self.preflight, out=out)
        if self.seconds is not None:
            print(f"a trial      {format_duration(self.seconds)} with the defaults", file=out)
        if self.most is not None:
            print(f"the search   {format_duration(self.most)}, less what is cut short", file=out)

    def as_json(self) -> dict[str, Any]:
        return {
            "preflight": self.preflight.model_dump(mode="json"),
            "searched": [one.model_dump(mode="json") for one in self.space],
            "seconds_of_a_trial": self.seconds,
            "seconds": self.most,
        }


def _looked_over(search: Search, budget: Budget) -> Plan:
    """Preflight of the defaults: measured once, as the trials differ little in what they take."""
    found = search.judge.look_over()
    seconds = search.judge.settings.time or (found.plan.seconds if found.plan else None)
    return Plan(found, search.space, seconds, budget)


def _searched(search: Search, budget: Budget, quiet: bool) -> TuningRecord:
    from hornbook.reports.adaptation_card import write_run_card
    from hornbook.reports.training import write_training_report
    from hornbook.reports.tuning import write_tuning_report

    stop_at_step(search.stop)
    record = search.run(budget, Lines(quiet))
    write_tuning_report(record, search.folder / "tuning.html")
    for trial in record.trials:
        place = search.folder / trial.folder
        if trial.number == record.best and (place / "summary.json").is_file():
            write_training_report(place)
            write_run_card(place)
    return record


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


def _ranges(space: Sequence[SearchedSetting]) -> str:
    return "; ".join(map(_range, space))


def _range(one: Any) -> str:
    if one.choices:
        return f"{one.name} {', '.join(map(str, one.choices))}"
    return f"{one.name} {one.low:.3g} to {one.high:.3g}{' (log)' if one.log else ''}"
