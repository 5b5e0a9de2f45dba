"""How much memory a process has held, and what the C library does with what it needs no more."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_freed_memory() -> bool:
    """Have the C library keep what a training step frees, for the next step to take.

    By default glibc gives the end of its heap back whenever some 64 MiB of it are free, which is
    after every step; the next one's tensors are then mapped and filled with zeros again, page by
    page: 7 % of a step of 250 tokens, up to a third of one of 4,000 (experiments/LOG.md). Blocks of
    32 MiB and more still go back at once. It holds for the whole process until
    `return_freed_memory`. True where it was done: Linux with glibc.
    """
    return _set_thresholds(mapped=2**25, trimmed=2**31 - 1)


def return_freed_memory(threshold: int = 2**17) -> bool:
    """Have freed blocks of `threshold` bytes and more given back to the system at once.

    By default glibc keeps them, up to 32 MiB each, in a heap that grows by a third over what a
    training step holds; with gradient checkpointing most of what it saves is lost in there. Steps
    then take about a third longer, since each block is mapped anew. True where it was done: Linux
    with glibc.
    """
    return _set_thresholds(mapped=threshold, trimmed=threshold)


def _set_thresholds(*, mapped: int, trimmed: int) -> bool:
    """mapped: blocks from this size on get pages of their own, given back when they are freed;
    trimmed: the end of the heap is given back when so much of it is free. Both in bytes."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, mapped)) and bool(mallopt(_M_TRIM_THRESHOLD, trimmed))


def peak_bytes() -> int:
    """The most memory that this process, or an ended child of it, has held at once."""
    own = _status_peak()
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    # ru_maxrss of the process itself counts what its parent held before the exec; VmHWM doesn't.
    return max(own or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, children)


def _status_peak() -> int | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    for line in status.read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None
