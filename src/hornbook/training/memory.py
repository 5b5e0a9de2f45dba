"""How much memory a process has held, and what the C library does with what it needs no more."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


def return_freed_memory(threshold: int = 2**17) -> bool:
    """Have freed blocks of `threshold` bytes and more given back to the system at once.

    By default glibc keeps them, up to 32 MiB each, in a heap that grows by a third over what a
    training step holds; with gradient checkpointing most of what it saves is lost in there. Steps
    then take about a third longer, since each block is mapped anew. True where it was done: Linux
    with glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, threshold)) and bool(
        mallopt(_M_TRIM_THRESHOLD, threshold)
    )


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
