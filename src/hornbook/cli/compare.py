"""`hornbook compare`: every technique on the same splits, and which one to use."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from hornbook.errors import ConfigError

_DATA, _TECHNIQUES, _RUN, _OUTPUT = "Data", "Techniques", "The run", "Output"


def command(
    data: Annotated[
        str, typer.Argument(help="A data set's name (hornbook data list), a file or a folder.")
    ] = "pydocs",
    text: Annotated[
        str | None, typer.Option(help="Column with the text.", rich_help_panel=_DATA)
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column with the label or labels.", rich_help_panel=_DATA)
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Column with a title.", rich_help_panel=_DATA)
    ] = None,
    label_separator: Annotated[
        str | None,
        typer.Option(help="What separates several labels in one field.", rich_help_panel=_DATA),
    ] = None,
    techniques: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between; all by default.", rich_help_panel=_TECHNIQUES
        ),
    ] = None,
    technique: Annotated[
        list[str] | None,
        typer.Option(
            help="A name; or path.py:Class, your own, or zero-shot-nli=MODEL, which join the "
            "others. May be repeated.",
            rich_help_panel=_TECHNIQUES,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="Fitting time for each: 90s, 5m, 1h; 2m by default.", rich_help_panel=_RUN
        ),
    ] = None,
    total: Annotated[
        str | None,
        typer.Option(help="Time for the whole study, in place of --budget.", rich_help_panel=_RUN),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            help="Times to fit each, with other seeds; 1 by default.", rich_help_panel=_RUN
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of splits and fits; 0 by default.", rich_help_panel=_RUN),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; runs/<data>-<time> by default.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run.", rich_help_panel=_RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan; fit nothing.", rich_help_panel=_OUTPUT),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print summary.json, or the plan.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Compare every technique on your labelled texts.

    All get the same splits and the same time; the answer is a leaderboard with an interval beside
    each score and the cost beside that, the saved models, and one sentence of advice.
    """
    from hornbook.cli import live, tables
    from hornbook.compare.settings import settings_asked
    from hornbook.compare.study import StudyInterrupted, compare
    from hornbook.runs import previous

    asked = settings_asked(
        text=text,
        label=label,
        title=title,
        label_separator=label_separator,
        techniques=tuple(chosen(techniques or "", technique or [])),
        budget=budget,
        total=total,
        repeats=repeats,
        seed=seed,
    )
    if dry_run:
        if resume or overwrite:
            raise ConfigError(
                "--dry-run shows the plan of a new study and touches no folder",
                hint=f"Leave out {'--resume' if resume else '--overwrite'} or --dry-run.",
            )
        tables.show_plan(data, asked, as_json)
        return
    live.end_on_sigterm()
    try:
        with live.view(quiet) as listener:
            study = compare(
                data, **asked, out=out, resume=resume, overwrite=overwrite, listener=listener
            )
    except StudyInterrupted as interruption:
        tables.show_study(interruption.study, as_json)
        print(f"Interrupted. {interruption.resume}", file=sys.stderr)
        raise typer.Exit(130) from None
    tables.show_study(study, as_json)
    if not study.summary.leaderboard:
        if kept := previous(study.folder):
            print(f"The run that was there before is in {kept}", file=sys.stderr)
        raise typer.Exit(1)


def chosen(listed: str, single: list[str]) -> list[str]:
    """The techniques to run: those named, or all; and besides the user's own, and those that are
    named with a model. Empty means all."""
    from hornbook.compare.techniques import TECHNIQUES

    names = [name.strip() for name in listed.split(",") if name.strip()]
    own = [spec for spec in single if ".py:" in spec or "=" in spec]
    names += [spec for spec in single if spec not in own]
    return (names or list(TECHNIQUES)) + own if own else names
