"""The `hornbook` command. Command modules load what they need only when they are run."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer

from hornbook import __version__
from hornbook.cli import (
    align,
    bench,
    cache,
    chat,
    compare,
    data,
    doctor,
    evaluate,
    export,
    failures,
    finetune,
    generate,
    judge,
    launch,
    models,
    plan,
    predict,
    quantize,
    run_task,
    runs,
    serve,
    share,
    tokenizer,
    train,
    tune,
    verify,
)
from hornbook.errors import HornbookError

# Threads that wait for the next product spin for some microseconds, then sleep. By default they
# spin for milliseconds, which takes the processor from whoever they wait for, once it is shared.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

app = typer.Typer(
    name="hornbook",
    help="Which technique works on my text? Compare them, and keep the best.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
app.command("compare")(compare.command)
app.command("predict")(predict.command)
app.command("train")(train.command)
app.command("finetune")(finetune.command)
app.command("align")(align.command)
app.add_typer(launch.app, name="launch")
app.command("generate")(generate.command)
app.command("chat")(chat.command)
app.command("serve")(serve.command)
app.command("run")(run_task.command)
app.command("tune")(tune.command)
app.command("evaluate")(evaluate.command)
app.command("judge")(judge.command)
app.command("verify")(verify.command)
app.command("share")(share.command)
app.command("models")(models.command)
app.command("runs")(runs.command)
app.command("export")(export.command)
app.command("quantize")(quantize.command)
app.add_typer(bench.app, name="bench")
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.command("doctor")(doctor.command)
app.add_typer(cache.app, name="cache")
app.add_typer(plan.app, name="plan")


def _version(asked: bool) -> None:
    if asked:
        print(f"hornbook {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Which technique works on my text? Compare them, and keep the best."""


def run() -> None:
    """Run the command line; a user's mistake ends with a message, a hint and an exit code."""
    try:
        app()
    except HornbookError as error:
        failures.tell(error, error.message, error.hint, error.exit_code)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # a fault of ours: say so in a line, and keep the details
        failures.tell(error, f"{type(error).__name__}: {error}", _advice(error), 1)
        sys.exit(1)


def _advice(error: Exception) -> str:
    if isinstance(error, OSError):  # a full disk, a folder one may not write to
        return "The system refused it; nothing that was there before has been changed."
    if isinstance(error, ImportError):
        return "An installation is incomplete: pip install --force-reinstall hornbook"
    log = Path(tempfile.gettempdir()) / f"hornbook-error-{os.getpid()}.txt"
    log.write_text(traceback.format_exc(), encoding="utf-8")
    return f"This is a fault of the program; details are in {log}"


if __name__ == "__main__":
    run()
