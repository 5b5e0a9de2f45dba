"""The one file that uses torch's elastic launcher, which starts and follows a run's processes.

Processes of one machine meet at 127.0.0.1 and nowhere else; those of several at the first one's
address. What they do there is `hornbook.training.accelerator`'s.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import psutil
import torch
from pydantic import Field, model_validator
from torch.distributed import DistError, TCPStore
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from hornbook.config import Settings
from hornbook.errors import ConfigError, TrainingError
from hornbook.nn.precision import choose_precision
from hornbook.runs import n_cpus

PATIENCE = 600  # seconds in which the machines have to meet
SAVING = 24 * 3600  # seconds that processes asked to end have: a checkpoint may be large
_Port = Annotated[int, Field(ge=1, le=65535)]
_Count = Annotated[int, Field(ge=1)]


class LaunchSettings(Settings):
    """How many processes there are, where, and with how many threads each."""

    n: _Count | None = None  # on each machine; one for each graphics card unless said
    machines: _Count = 1
    machine_rank: Annotated[int, Field(ge=0)] | None = None
    main_address: str | None = None
    main_port: _Port = 29500
    threads: _Count | None = None

    @model_validator(mode="after")
    def _reachable(self) -> LaunchSettings:
        if self.machines > 1 and self.main_address is None:
            raise ValueError("several machines meet at the first one's --main-address")
        if self.machine_rank is not None and self.machine_rank >= self.machines:
            raise ValueError(
                f"machine_rank {self.machine_rank}: {self.machines} machines are counted from 0"
            )
        return self


@dataclass(frozen=True)
class Ended:
    """A process that failed: its number among all and on this machine, its exit code (-9 when it
    was killed by signal 9), and the file with what it wrote to standard error, if that was kept.
    """

    rank: int
    local_rank: int
    exit_code: int
    log: Path | None


def n_processes(asked: int | None) -> int:
    """Processes on this machine: as asked, else one for each graphics card.

    Raises ConfigError where there is no card to count, and for more processes than cards.
    """
    n_cards = torch.cuda.device_count() if choose_precision().device == "cuda" else 0
    if asked is None and not n_cards:
        raise ConfigError(
            "how many processes to start is not said, and there is no graphics card to count",
            hint=f"Say -n 2. On a processor one process already uses all cores ({n_cpus()} here); "
            "several gain little, unless they are on several machines.",
        )
    if asked and n_cards and asked > n_cards:
        raise ConfigError(
            f"{asked} processes, each with a graphics card of its own, but there are {n_cards}",
            hint=f"Say -n {n_cards}, or train on the processor: HORNBOOK_DEVICE=cpu.",
        )
    return asked or n_cards


def environment(settings: LaunchSettings, n: int) -> dict[str, str]:
    """What is set for all n processes of a machine; what the user has set stays.

    OMP_NUM_THREADS: this process's cores, divided. GLOO_SOCKET_IFNAME, of one machine: gloo would
    listen on the network that the machine's name stands for.
    """
    chosen: dict[str, str] = {}
    if settings.threads is not None:
        chosen["OMP_NUM_THREADS"] = str(settings.threads)
    elif not os.environ.get("OMP_NUM_THREADS"):
        chosen["OMP_NUM_THREADS"] = str(max(1, n_cpus() // n))
    network = _loopback_network() if settings.machines == 1 else None
    if network is not None and not os.environ.get("GLOO_SOCKET_IFNAME"):
        chosen["GLOO_SOCKET_IFNAME"] = network
    return chosen


def start(settings: LaunchSettings, n: int, command: Sequence[str], logs: Path) -> list[Ended]:
    """Run a Python command (the words after `python`) in n processes on this machine, to the end.

    The first writes where this process does, the others into `logs`. Gives those that failed, the
    cause first. SIGINT, SIGTERM and SIGHUP have each process end politely, by one SIGINT, and are
    waited for; then KeyboardInterrupt is raised. A second one kills them.
    Raises TrainingError when the machines do not meet.
    """
    if not os.environ.get("HORNBOOK_DEBUG"):
        _silence(logging.getLogger("torch.distributed"))
    config = _config(settings, n, logs)
    launch = elastic_launch(config, sys.executable)
    try:
        with _ended_politely():
            launch(*command)
    except ChildFailedError as error:
        return _in_order(error.failures, logs)
    except SignalException:
        raise KeyboardInterrupt from None
    except DistError as error:
        address = f"{settings.main_address}:{settings.main_port}"
        raise TrainingError(
            f"the machines did not meet at {address}: {str(error).splitlines()[0]}",
            hint="Start the same line on every machine, each with its --machine-rank; the port has "
            "to be free on the first, and open to the others.",
        ) from error
    return []


def _config(settings: LaunchSettings, n: int, logs: Path) -> LaunchConfig:
    one = settings.machines == 1
    patient: dict[str, Any] = {"signals_to_handle": "SIGQUIT", "shutdown_timeout": SAVING}
    known = {field.name for field in fields(LaunchConfig)}  # an older torch has neither
    return LaunchConfig(
        min_nodes=settings.machines,
        max_nodes=settings.machines,
        nproc_per_node=n,
        run_id="hornbook",
        rdzv_backend=_Loopback.NAME if one else "static",
        rdzv_endpoint="" if one else f"{settings.main_address}:{settings.main_port}",
        rdzv_configs={"rank": settings.machine_rank or 0, "timeout": PATIENCE},
        max_restarts=0,
        local_addr="127.0.0.1" if one else None,
        logs_specs=DefaultLogsSpecs(str(logs), redirects=dict.fromkeys(range(1, n), Std.ALL)),
        **{name: value for name, value in patient.items() if name in known},
    )


class _Loopback(StaticTCPRendezvous):
    """A meeting place on 127.0.0.1 alone; torch's own listens on every network of the machine."""

    NAME = "loopback"

    def __init__(self, parameters: RendezvousParameters) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            super().__init__("127.0.0.1", port, 0, 1, parameters.run_id, PATIENCE)
            self._store = TCPStore(
                "127.0.0.1",
                port,
                is_master=True,
                timeout=timedelta(seconds=PATIENCE),
                wait_for_workers=False,
                multi_tenant=True,
                master_listen_fd=listener.detach(),
            )

    def get_backend(self) -> str:
        return self.NAME


rendezvous_handler_registry.register(_Loopback.NAME, _Loopback)


@contextmanager
def _ended_politely() -> Iterator[None]:
    """In this block a signal is torch's to pass on, as the SIGINT that our commands heed; the next
    kills what is left. torch's own handler would send each of them on.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:  # nohup asks for it
        numbers.append(hang_up)

    def kill(number: int, frame: FrameType | None) -> None:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def hear(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, kill)
        raise SignalException(f"signal {number}", sigval=signal.SIGINT)

    before: Mapping[int, Callable[..., Any] | int | None] = {
        number: signal.signal(number, hear) for number in numbers
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_order(failures: Mapping[int, ProcessFailure], logs: Path) -> list[Ended]:
    """The cause first: who was killed by something else, else who ended first.

    After the first failure torch ends the rest, by SIGTERM, and by SIGKILL half a minute later.
    """
    begin = min(failure.timestamp for failure in failures.values())

    def was_killed(failure: ProcessFailure) -> bool:
        soon = failure.timestamp - begin < 10
        return soon and failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM

    ended = []
    for rank, failure in sorted(failures.items(), key=lambda item: not was_killed(item[1])):
        log = next(logs.glob(f"*/attempt_0/{failure.local_rank}/stderr.log"), None)
        ended.append(Ended(rank, failure.local_rank, failure.exitcode, log))
    return ended


def _silence(logger: logging.Logger) -> None:
    """What torch logs of ends and signals is said by the command line, once and in words."""
    logger.handlers = [logging.NullHandler()]  # torch has given it one of its own
    logger.propagate = False


def _loopback_network() -> str | None:
    """The network of 127.0.0.1: "lo", on a Mac "lo0"."""
    found = psutil.net_if_addrs().items()
    return next((n for n, all_of in found if any(a.address == "127.0.0.1" for a in all_of)), None)
