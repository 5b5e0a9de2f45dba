"""A tiny run that kills itself (SIGKILL) after a step: killed_adaptation.py FOLDER STEP"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from test_adaptation import Run

os.environ |= {"HORNBOOK_DEVICE": "cpu", "HORNBOOK_PRECISION": "float32"}
torch.set_num_threads(1)


class Killed(Run):
    def hear(self, step) -> None:
        if step.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


Killed(Path(sys.argv[1]), dropout=0.2).go()
