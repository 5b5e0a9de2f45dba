"""A tiny run that kills itself (SIGKILL) after a step, or goes to its end and writes its weights
where the step is 0: killed_adaptation.py FOLDER STEP"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from test_adaptation import Run

os.environ |= {"HORNBOOK_DEVICE": "cpu", "HORNBOOK_PRECISION": "float32"}
torch.set_num_threads(1)


class Killed(Run):
    def hear(self, step) -> None:
        if step.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)


folder = Path(sys.argv[1])
run = Killed(folder, dropout=0.2)
assert run.go().step == 12
save_file({name: t.contiguous() for name, t in run.weights.items()}, folder / "weights.safetensors")
