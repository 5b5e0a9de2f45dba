"""Trackers only when asked for; float16 only where it works."""

from __future__ import annotations

import pytest
from accelerate.tracking import GeneralTracker
from torch import nn

from hornbook.errors import ConfigError, UnavailableError
from hornbook.nn.precision import Precision
from hornbook.records import EvaluationRecord, StepRecord
from hornbook.training import accelerator as module
from hornbook.training.accelerator import agreed, make_accelerator, spread, start_trackers
from hornbook.training.listeners import Trackers

FLOAT32 = Precision("cpu", "float32", "for the test")


class Notebook(GeneralTracker):
    name = "notebook"
    requires_logging_directory = False

    def __init__(self):
        super().__init__()
        self.lines = []

    @property
    def tracker(self):
        return self

    def store_init_configuration(self, values):
        self.lines.append(values)

    def log(self, values, step=None, **_):
        self.lines.append((step, values))


def test_no_tracker_unless_asked():
    accelerator = make_accelerator(FLOAT32)
    start_trackers(accelerator, "run", {"lr": 0.1})
    assert accelerator.trackers == [] and not accelerator.log_with


def test_a_tracker_hears_settings_steps_and_evaluations():
    notebook = Notebook()
    accelerator = make_accelerator(FLOAT32, trackers=[notebook])
    start_trackers(accelerator, "run", {"lr": 0.1, "time": None})
    listener = Trackers(accelerator)
    listener.hear(StepRecord(step=3, tokens=30, seconds=1.0, loss=2.5, lr=0.1, refused=True))
    listener.hear_evaluation(
        EvaluationRecord(step=3, tokens=30, seconds=1.0, validation_loss=2.0, sample="Once")
    )
    settings, (step, values), (_, evaluation) = notebook.lines
    assert settings == {"lr": 0.1} and step == 3
    assert values["train/loss"] == 2.5 and values["train/refused"] == 1
    assert evaluation["validation/loss"] == 2.0 and "validation/sample" not in evaluation


def test_unknown_and_absent_trackers_are_errors(monkeypatch):
    with pytest.raises(ConfigError, match="tensorbord") as error:
        make_accelerator(FLOAT32, trackers=["tensorbord"])
    assert "tensorboard" in error.value.hint
    monkeypatch.setattr(module, "get_available_trackers", list)
    with pytest.raises(UnavailableError, match="'comet_ml' is not installed"):
        make_accelerator(FLOAT32, trackers=["comet_ml"])


def test_tensorboard_writes_into_the_folder(tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardX")
    accelerator = make_accelerator(FLOAT32, trackers=["tensorboard"], folder=tmp_path)
    start_trackers(accelerator, "run", {"lr": 0.1})
    Trackers(accelerator).hear(StepRecord(step=1, tokens=1, seconds=1.0, loss=2.5, lr=0.1))
    accelerator.end_training()
    assert list((tmp_path / "run").rglob("events.out*"))


def test_float16_on_a_processor_is_refused():
    with pytest.raises(ConfigError, match="graphics card"):
        make_accelerator(Precision("cpu", "float16", "asked"))


def test_one_process_keeps_the_model_as_it_is():
    model = nn.Linear(2, 2)
    assert spread(model, make_accelerator(FLOAT32), sharded=True) is model


def test_all_processes_stop_where_one_is_asked_to():
    class Two:
        num_processes, device, other = 2, "cpu", 0.0

        def reduce(self, x, how):
            assert how == "sum"
            return x + self.other

    both = Two()
    assert not agreed(both, False) and agreed(both, True)
    both.other = 1.0
    assert agreed(both, False), "the other was asked"


def test_one_process_asks_nobody():
    alone = make_accelerator(FLOAT32)
    assert agreed(alone, True) is True and agreed(alone, False) is False
