"""`hornbook launch`: a command in several processes, on one machine or several."""

from __future__ import annotations

import inspect
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperGroup

from hornbook.cli import align, failures, finetune, train
from hornbook.errors import ConfigError, UnknownNameError, nearest

if TYPE_CHECKING:
    from hornbook.training.launcher import Ended, LaunchSettings

JOINING = {"train": train.command, "finetune": finetune.command, "align": align.command}
_MODULE = ["-P", "-m", "hornbook.cli.main"]
_N_LINES = 12  # of the log of a process that ended without a word


class _Group(TyperGroup):
    """Of the commands, those that several processes share; remembers what was typed."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in JOINING:
            raise UnknownNameError(
                f"'{args[0]}' is not a command that several processes share",
                hint=nearest(args[0], JOINING),
            )
        ctx.meta["hornbook.words"] = list(args)
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=_Group, no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def options(
    context: typer.Context,
    n: Annotated[
        int | None,
        typer.Option("-n", help="Processes on each machine; one for each graphics card."),
    ] = None,
    machines: Annotated[int | None, typer.Option(help="Machines; 1.")] = None,
    machine_rank: Annotated[
        int | None, typer.Option(help="Which of them this is, counted from 0.")
    ] = None,
    main_address: Annotated[
        str | None, typer.Option(help="Where machine 0 is reached by the others.")
    ] = None,
    main_port: Annotated[int | None, typer.Option(help="And at which port; 29500.")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of each process; the cores divided by the processes.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="A YAML file with these options: machines: 2, ...")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what each machine would run.")
    ] = False,
) -> None:
    """Train in several processes: hornbook launch -n 2 finetune classify --model minilm ...

    The processes share each batch, and give the losses of one. The first speaks; what goes wrong in
    any is said once. Ctrl-C ends all after the step at hand; again, at once.
    """
    given = {
        "n": n,
        "machines": machines,
        "machine_rank": machine_rank,
        "main_address": main_address,
        "main_port": main_port,
        "threads": threads,
    }
    named = {name: value for name, value in given.items() if value is not None}
    context.obj = named, config, dry_run


def _launching(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the same options: looked at here, once, and heeded by each process."""

    def launched(called: typer.Context, **own: Any) -> None:
        assert called.parent is not None
        if own.get("family") == "ngram":
            raise ConfigError(
                "counting is the work of one process", hint="Without launch: hornbook train ngram"
            )
        named, config, dry_run = called.parent.obj
        words: list[str] = called.parent.meta["hornbook.words"]
        settings = _settings(named, config)
        (_show if dry_run else _carry_out)(settings, words)

    hints = get_type_hints(command, include_extras=True)
    first = inspect.Parameter("called", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(command).parameters.values()
    launched.__doc__ = command.__doc__
    launched.__annotations__ = {"called": typer.Context} | hints
    launched.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            first.replace(annotation=typer.Context),
            *(p.replace(annotation=hints[p.name]) for p in parameters),
        ]
    )
    return launched


for _name, _command in JOINING.items():
    app.command(_name)(_launching(_command))


def _settings(named: dict[str, Any], config: Path | None) -> LaunchSettings:
    import yaml

    from hornbook.config import settings_from
    from hornbook.training.launcher import LaunchSettings

    if config is None:
        return settings_from(LaunchSettings, **named)
    try:
        kept = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{config} cannot be read: {error}", hint=_EXAMPLE) from error
    if not isinstance(kept, dict) or not all(isinstance(name, str) for name in kept):
        raise ConfigError(f"{config} holds no settings", hint=_EXAMPLE)
    return settings_from(LaunchSettings, **(kept | named))


_EXAMPLE = "Lines such as `machines: 2` and `main_address: 10.0.0.1` are meant."


def _carry_out(settings: LaunchSettings, words: list[str]) -> None:
    """Start the processes, wait for them, say what failed, and end as the first that did."""
    from hornbook.training import launcher

    if settings.machines > 1 and settings.machine_rank is None:
        raise ConfigError(
            f"which of the {settings.machines} machines this is, is not said",
            hint="Give --machine-rank: 0 at the main address, then 1, 2, ...",
        )
    n = launcher.n_processes(settings.n)
    n_all = n * settings.machines
    os.environ |= launcher.environment(settings, n)
    print(_beginning(settings, n), file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="hornbook-launch-") as name:
        folder = Path(name)
        os.environ[failures.FOLDER] = name
        stopped, ended = False, list["Ended"]()
        try:
            ended = launcher.start(settings, n, [*_MODULE, *words], folder)
        except KeyboardInterrupt:
            stopped = True
        told = failures.first_failure(folder)
        killed = [one for one in ended[:1] if one.exit_code < 0]
        if told is not None and not killed:
            print(f"{told.text}\n  in process {told.rank} of {n_all}", file=sys.stderr)
            raise typer.Exit(told.exit_code)
        if stopped:
            raise typer.Exit(130)
        if ended:
            raise typer.Exit(_tell_end(ended[0], n_all))


def _tell_end(ended: Ended, n_all: int) -> int:
    """Say how a process ended that left no words itself; give the exit code."""
    code = ended.exit_code
    if code == 130:  # it was interrupted, and has said so
        return code
    which = f"process {ended.rank} of {n_all}"
    if code >= 0:
        print(f"error: {which} ended with exit code {code}", file=sys.stderr)
    else:
        print(f"error: {which} was killed by {signal.Signals(-code).name}", file=sys.stderr)
        if -code == 9:
            hint = "Out of memory, often: take fewer processes or smaller batches."
            print(f"  hint: {hint}", file=sys.stderr)
    if ended.log is not None:
        for line in ended.log.read_text(encoding="utf-8", errors="replace").splitlines()[
            -_N_LINES:
        ]:
            print(f"  {line}", file=sys.stderr)
    return code if code >= 0 else 128 - code


def _beginning(settings: LaunchSettings, n: int) -> str:
    from hornbook.runs import n_cpus

    threads = os.environ["OMP_NUM_THREADS"]
    processes = f"{n} {'process' if n == 1 else 'processes'}"
    said = f"{processes} of {threads} thread(s) each, on {n_cpus()} core(s)"
    if settings.machines > 1:
        where = f"{settings.main_address}:{settings.main_port}"
        said += f"; machine {settings.machine_rank} of {settings.machines}, meeting at {where}"
    return said


def _show(settings: LaunchSettings, words: list[str]) -> None:
    """Print the line of each machine, what it sets, and what its processes run."""
    from hornbook.training import launcher

    n = launcher.n_processes(settings.n)
    chosen = launcher.environment(settings, n)
    if "OMP_NUM_THREADS" not in chosen:
        chosen["OMP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "(a free one)"}
    if settings.machines > 1:
        meeting = {
            "MASTER_ADDR": str(settings.main_address),
            "MASTER_PORT": str(settings.main_port),
        }
    shared = chosen | {"WORLD_SIZE": str(n * settings.machines)} | meeting
    for machine in range(settings.machines):
        print(f"machine {machine}: {shlex.join(_line(settings, n, machine, words))}")
        print("  " + " ".join(f"{name}={value}" for name, value in shared.items()))
        for local in range(n):
            print(f"  RANK={machine * n + local} LOCAL_RANK={local}")
    print(f"each process: {shlex.join([sys.executable, *_MODULE, *words])}")


def _line(settings: LaunchSettings, n: int, machine: int, words: list[str]) -> list[str]:
    line = ["hornbook", "launch", "-n", str(n)]
    if settings.threads is not None:
        line += ["--threads", str(settings.threads)]
    if settings.machines > 1:
        line += ["--machines", str(settings.machines), "--machine-rank", str(machine)]
        line += ["--main-address", str(settings.main_address)]
        line += ["--main-port", str(settings.main_port)]
    return [*line, *words]
