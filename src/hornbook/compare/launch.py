"""Starting a worker, following it, and ending it when it overruns; the parent's side of it all."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hornbook.compare.cost import EnergyMeter
from hornbook.compare.layout import StudyFolder
from hornbook.compare.sources import Source
from hornbook.config import format_duration
from hornbook.records import Status
from hornbook.training.emissions import Energy

_TICK = 0.25  # seconds between looks at the clock
_MANNERS = 5.0  # seconds a worker has to end by itself when asked to
_END = {"done": "ok", "skipped": "skipped", "failed": "failed"}


@dataclass(frozen=True)
class Outcome:
    """How a worker ended, and what it measured of itself."""

    status: Status
    message: str = ""
    measured: dict[str, Any] = field(default_factory=dict)
    energy: Energy = field(default_factory=Energy)


@dataclass(frozen=True)
class Sign:
    """A sign of life from a running worker, or from the clock (stage "").

    fit_seconds: how long it has been fitting; None before it began.
    """

    stage: str
    validation: float | None
    fit_seconds: float | None


def fit_limit(seconds: float) -> float:
    """When a fit is ended by force: a quarter more than its budget, and 15 s for one-off costs."""
    return seconds * 1.25 + 15.0


def run_worker(
    folder: StudyFolder,
    source: Source,
    repeat: int,
    seconds: float,
    meter: EnergyMeter,
    listener: Callable[[Sign], None],
    *,
    limit: float | None = None,
) -> Outcome:
    """Run one technique to its end in a process of its own.

    seconds: its budget for fitting. limit: seconds after which a fit is ended, by default
    `fit_limit`. The worker is gone when this returns or raises, KeyboardInterrupt included.
    """
    limit = fit_limit(seconds) if limit is None else limit
    paths = folder.run(source.name, repeat)
    paths.path.mkdir(parents=True, exist_ok=True)
    last: dict[str, Any] = {}
    energy = Energy()
    fit_start: float | None = None
    fit_seconds: float | None = None
    stage, validation = "starting", None
    overran = False
    command = [sys.executable, "-P", "-m", "hornbook.compare.worker", str(folder.path)]
    with paths.log.open("wb") as log:
        process = subprocess.Popen(
            [*command, source.spec, str(repeat), str(seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the worker
            env=os.environ
            | {
                "PYTHONFAULTHANDLER": "1",
                "PYTHONHASHSEED": "0",
                # Chosen once for all: a worker that timed it anew might choose another.
                "HORNBOOK_PRECISION": folder.plan().environment.precision,
            },
        )
        try:
            for event in _events(process):
                kind = event.get("event", "")
                if kind == "fit":
                    meter.start(f"{source.name}/repeat-{repeat}")
                    fit_start = time.monotonic()
                elif kind == "fitted":
                    energy = meter.stop()
                    fit_seconds = _since(fit_start)
                elif kind in _END:
                    last = event
                if kind in ("stage", "fitted"):
                    stage = event.get("stage", stage)
                    validation = event.get("validation") or validation
                fitting = fit_start is not None and fit_seconds is None
                clock = _since(fit_start) if fitting else fit_seconds
                listener(Sign(stage, validation, clock))
                if fitting and clock is not None and clock > limit:
                    overran = True
                    break
        finally:
            _end(process)
            if fit_start is not None and fit_seconds is None:
                energy = meter.stop()
    if overran:
        message = (
            f"ended after fitting for {format_duration(limit)}: its budget was "
            f"{format_duration(seconds)}. A larger --budget may let it finish."
        )
        return Outcome("killed", message, energy=energy)
    if last:
        status: Status = _END[last["event"]]  # type: ignore[assignment]
        return Outcome(status, last.get("message", ""), last.get("measured", {}), energy)
    return _unexpected_end(process.returncode, stage, paths.log, energy)


def _unexpected_end(code: int, stage: str, log: Any, energy: Energy) -> Outcome:
    """The outcome of a worker that ended without a word."""
    if code >= 0:
        return Outcome("failed", f"ended with code {code} while {stage}; see {log}", energy=energy)
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    why = ", probably because memory ran out" if -code == 9 else ""
    return Outcome(
        "killed", f"killed by the system ({name}) while {stage}{why}; see {log}", energy=energy
    )


def _events(process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """The worker's events as they come, and an empty one at every tick, until it has ended."""
    arrived: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            arrived.put(json.loads(line))
        arrived.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            event = arrived.get(timeout=_TICK)
        except queue.Empty:
            # A child of a dead worker may hold the pipe open: then its end is never read.
            if process.poll() is not None and arrived.empty():
                return
            event = {}
        if event is None:
            process.wait()
            return
        yield event


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the worker and all that it started: by asking, then by force."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_MANNERS)
    _signal(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to the worker's whole group, which is its own."""
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)
        elif process.poll() is None:
            process.send_signal(number)
    except ProcessLookupError:
        return  # all of them have ended already


def _since(start: float | None) -> float | None:
    return None if start is None else time.monotonic() - start
