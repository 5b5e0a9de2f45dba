"""Turns of steps taken by ours in a process of its own, beside a peer in this one.

A process has one number format (accelerate's), one heap, and one rule of what is given back of it;
each side keeps its own: ours keeps freed memory, as its recipes do, the peer has the C library's
defaults. They wait for each other, so that a busy machine slows both alike.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from itertools import islice

from hornbook.nn.precision import choose_precision


def answer_turns(steps: Iterator[float], turn: int) -> None:
    """Take `turn` steps, each of which gives its seconds, for each line of input; say their sum.

    Ends when there are no more steps. What else is printed goes to standard error.
    """
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for _ in sys.stdin:
            seconds = list(islice(steps, turn))
            if len(seconds) < turn:
                return
            print(sum(seconds), file=answers, flush=True)


def asked_turns(arguments: Sequence[str]) -> Generator[float, None, None]:
    """Seconds of each turn of a Python process with these arguments, which answers them.

    It computes in the number format that this process would choose. Raises RuntimeError when it
    ends before it is told to.
    """
    command = [sys.executable, *arguments]
    environment = {**os.environ, "HORNBOOK_PRECISION": choose_precision().dtype}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as other:
        assert other.stdin and other.stdout
        while True:
            with suppress(BrokenPipeError):
                print("go", file=other.stdin, flush=True)
            if not (line := other.stdout.readline()):
                raise RuntimeError(
                    f"our side ended with code {other.wait()}; what it said stands above. It was: "
                    f"{' '.join(command)}"
                )
            yield float(line)
