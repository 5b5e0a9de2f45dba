"""What the C library does with memory that tensors no longer need."""

from __future__ import annotations

import ctypes
import sys

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
