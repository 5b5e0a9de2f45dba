"""`hornbook train`: a language model from nothing."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hornbook.errors import ConfigError

_DATA, _SIZE, _LENGTH, _RUN, _OUTPUT = "Data", "Size", "Length", "The run", "Output"


def command(
    family: Annotated[
        str | None,
        typer.Argument(help="ngram, bigram, gpt, gpt2, llama, bert, modern-bert or seq2seq."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A corpus (hornbook data list), file, folder, pattern or table.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Column with the text, of a table.", rich_help_panel=_DATA)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="Of pairs: the column that is read, or the ending of parallel files.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The one that is written from it.", rich_help_panel=_DATA),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="character, bpe, wordpiece, unigram, word, or a tokenizer's folder.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Tokens in its vocabulary.", rich_help_panel=_DATA)
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            help="The one dial: layers, width, rates; by the time, 2 to 4.", rich_help_panel=_SIZE
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="A published size: gpt2, bert-base, ...", rich_help_panel=_SIZE),
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens the model reads.", rich_help_panel=_SIZE)
    ] = None,
    counting: Annotated[
        bool | None,
        typer.Option(
            "--counting/--no-counting",
            help="Stand on n-gram counts of the training text (gpt, small vocabularies).",
            rich_help_panel=_SIZE,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Size the run to the clock: 90s, 5m; 2m.", rich_help_panel=_LENGTH),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimiser steps, instead.", rich_help_panel=_LENGTH)
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Passes over the text, instead.", rich_help_panel=_LENGTH)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="name=value: any other setting.", rich_help_panel=_RUN),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A run's config.yaml: train it again.", rich_help_panel=_RUN),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of first weights and order; 0.", rich_help_panel=_RUN)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder; runs/<data>-<time> by default.", rich_help_panel=_RUN),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="A run to go on with.", rich_help_panel=_RUN)
    ] = None,
    sanity: Annotated[
        bool,
        typer.Option("--sanity", help="Memorise one batch first.", rich_help_panel=_RUN),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the plan; train nothing.", rich_help_panel=_OUTPUT),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print summary.json, or the plan.", rich_help_panel=_OUTPUT),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="No progress.", rich_help_panel=_OUTPUT)
    ] = False,
) -> None:
    """Train a language model from nothing on your text.

    A plan is printed first; then loss, bits per byte, speed, and a sample at each evaluation. The
    run folder keeps the best model, checkpoints, and a report.
    """
    from hornbook.cli import live_training, training_tables
    from hornbook.recipes import training_run
    from hornbook.reports.training import write_training_report
    from hornbook.training.accelerator import place

    given: dict[str, Any] = {
        "family": family,
        "data": data,
        "text": text,
        "source": source,
        "target": target,
        "tokenizer": tokenizer,
        "vocab_size": vocab_size,
        "depth": depth,
        "preset": preset,
        "context_length": context,
        "counting": counting,
        "time": time,
        "steps": steps,
        "epochs": epochs,
        "seed": seed,
        **pairs(settings or []),
    }
    given = {name: value for name, value in given.items() if value is not None}
    words = shlex.join(["hornbook", *sys.argv[1:]])
    if family == "ngram":
        chosen = {"config": config, "resume": resume, "sanity": sanity, "dry-run": dry_run}
        training_tables.show_ngram(given, [n for n, v in chosen.items() if v], out, as_json)
        return
    if resume is None and not (data or config):
        raise ConfigError(
            "what to train on is not said",
            hint="Give --data: a corpus such as sherlock, a file or a folder.",
        )
    asked = None if resume else training_run.asked_for(given, config)
    if dry_run:
        if asked is None:
            raise ConfigError("--dry-run is for a new run", hint="Leave out --resume or --dry-run.")
        training_tables.show_plan(asked, as_json)
        return
    first = place()[0] == 0
    with live_training.view(quiet or not first) as view:
        if asked is None:
            assert resume is not None
            session = training_run.reopen(resume, view, given)
            for words in session.skipped:
                print(words, file=sys.stderr)
        else:
            session = training_run.open_new(asked, out, view)
            if first and not quiet:
                training_tables.show_beginning(session)
        if sanity:
            found = session.training.memorise()
            print(f"one batch is learnt by heart in {found.n_steps} steps", file=sys.stderr)
        stop_at_step(session.training.stop)
        summary = session.carry_out(view, command=words)
    if summary is None:  # one of several processes, and not the first
        return
    write_training_report(session.folder)
    training_tables.show_run(session.folder, summary, as_json)
    if summary.status == "interrupted":
        raise typer.Exit(130)


def pairs(settings: list[str]) -> dict[str, Any]:
    """`name=value` of each --set. Raises ConfigError for what is none."""
    import yaml

    class Values(yaml.SafeLoader):
        """YAML 1.1 with the numbers of 1.2: `5e-2` is one without a point, too."""

    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    Values.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+.0123456789"))
    found = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name.strip():
            raise ConfigError(f"--set {setting} is not name=value", hint="E.g. --set lr=0.01")
        try:
            found[name.strip().replace("-", "_")] = yaml.load(value, Values)
        except yaml.YAMLError as error:
            raise ConfigError(
                f"--set {setting}: {value!r} is not a value", hint=str(error)
            ) from error
    return found


def stop_at_step(stop: Any) -> None:
    """The first Ctrl-C (or polite kill) ends the run after its step; the second at once."""

    def hear(number: int, frame: Any) -> None:
        signal.signal(number, signal.default_int_handler)
        print("ending after this step; again to end at once", file=sys.stderr)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, hear)
