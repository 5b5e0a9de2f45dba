"""Turns of steps taken by ours in a process of its own, beside a peer in this one.

A process has one number format (accelerate's), one heap, and one rule of what is given back of it;
each side keeps its own. They wait for each other, so that a busy machine slows both alike.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from itertools import islice


def answer_turns(steps: Iterator[float], turn: int) -> None:
    """Take `turn` steps, each of which gives its seconds, for each line of input; say their sum."""
    for _ in sys.stdin:
        print(sum(islice(steps, turn)), flush=True)


def asked_turns(arguments: Sequence[str]) -> Generator[float, None, None]:
    """Seconds of each turn of a Python process with these arguments, which answers them."""
    with subprocess.Popen([sys.executable, *arguments], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin and other.stdout
        while True:
            other.stdin.write("go\n")
            other.stdin.flush()
            yield float(other.stdout.readline())
