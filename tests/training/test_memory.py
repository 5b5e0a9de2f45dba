"""What a training step frees is there for the next one, or goes back: as asked."""

import subprocess
import sys

import pytest

from hornbook.training.memory import keep_freed_memory

STEPS = """
import resource, sys
import torch
from hornbook.training import memory

assert getattr(memory, sys.argv[1])()
for step in range(12):
    if step == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # 80 MB in blocks of 8 MB, freed together: more than glibc leaves at the heap's end by itself
    held = [torch.ones(2**21) for _ in range(10)]
    del held
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(rule: str) -> int:
    command = [sys.executable, "-c", STEPS, rule]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_kept_memory_is_not_mapped_anew():
    if not keep_freed_memory():
        pytest.skip("the C library is not glibc")
    kept, returned = faults("keep_freed_memory"), faults("return_freed_memory")
    assert returned > 10 * max(kept, 100)
