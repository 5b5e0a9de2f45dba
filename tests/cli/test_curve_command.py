"""hornbook finetune --curve, as a person types it, on a tiny model."""

from __future__ import annotations

import json
import os
import shutil
import signal

import pytest
from tiny_news import WORDS, asking, hornbook

from hornbook.config import settings_from
from hornbook.errors import ConfigError, DataError, StudyError
from hornbook.recipes.adaptation_opening import open_beside
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.learning_curve import _Watching, learning_curve, sizes_of, smaller
from hornbook.records import LearningCurveRecord

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def run(news):
    """A run with its curve."""
    told = hornbook("finetune", *asking(news), "--steps", 45, "--out", news / "run", "--curve")
    assert told.exit_code == 0, told.output
    return news / "run", told


def test_a_curve_is_fitted_beside_the_run(run):
    folder, told = run
    record = LearningCurveRecord.model_validate_json((folder / "learning_curve.json").read_text())
    sizes = [point.n_examples for point in record.points]
    assert sizes == sorted(sizes) and len(sizes) >= 3
    assert sizes[-1] == json.loads((folder / "summary.json").read_text())["n_train"]
    assert record.says in told.stdout
    for size in sizes[:-1]:  # of the small fits the lab files are kept, no weights
        kept = {path.name for path in (folder / "curve" / str(size)).iterdir()}
        assert kept == {"config.yaml", "summary.json", "metrics.jsonl", "validation.jsonl"}


def test_a_share_of_the_data_takes_its_root_of_the_steps():
    def settings(**given):
        return settings_from(AdaptSettings, task="t", model="m", data="d", **given)

    assert smaller(settings(steps=100), 1 / 4).steps == 50
    assert smaller(settings(time=60), 1 / 4).time == 30
    assert smaller(settings(epochs=3), 1 / 4).epochs == 6  # half the steps on a quarter
    assert sizes_of(1600) == [100, 200, 400, 800]
    with pytest.raises(DataError, match="too few for a learning curve"):
        sizes_of(40)


@pytest.fixture
def finished(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    return tmp_path / "run"


def test_parts_that_are_fitted_are_not_fitted_again(finished):
    """--resume of a finished run adds its curve; a fit that has no summary was killed."""
    sizes = sorted((finished / "curve").iterdir(), key=lambda path: int(path.name))
    (sizes[0] / "summary.json").unlink()  # validation.jsonl was written before
    (finished / "learning_curve.json").unlink()
    before = (sizes[1] / "summary.json").stat().st_mtime_ns
    told = hornbook("finetune", "--resume", finished, "--curve", "--quiet", "--json")
    found = json.loads(told.stdout)
    assert found["learning_curve"]["points"][-1]["n_examples"] == found["n_train"]
    assert (finished / "learning_curve.json").is_file()
    assert (sizes[0] / "summary.json").is_file()
    assert (sizes[1] / "summary.json").stat().st_mtime_ns == before
    with pytest.raises(StudyError, match="is finished"):
        hornbook("finetune", "--resume", finished)


def test_ctrl_c_ends_a_curve_politely(finished, monkeypatch):
    def interrupted(session, **rest):
        os.kill(os.getpid(), signal.SIGINT)
        assert session.stopping
        return None

    monkeypatch.setattr("hornbook.recipes.learning_curve.learning_curve", interrupted)
    told = hornbook("finetune", "--resume", finished, "--curve", "--quiet")
    assert told.exit_code == 130
    assert f"--resume {finished} --curve" in told.stdout


def test_a_fit_of_the_curve_goes_on_where_it_stopped(finished):
    place = min((finished / "curve").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(place)
    session = open_beside(finished, {})
    hear = _Watching.hear

    def hear_twice(watching, step):
        if step.step == 2:
            session.stop()
        hear(watching, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Watching, "hear", hear_twice)
        assert learning_curve(session) is None
    assert json.loads((place / "summary.json").read_text())["status"] == "interrupted"
    before = (place / "metrics.jsonl").read_bytes()
    assert learning_curve(open_beside(finished, {})) is not None
    after = (place / "metrics.jsonl").read_bytes()
    assert after.startswith(before) and len(after) > len(before)
    assert not (place / "checkpoints").exists()


def test_labels_that_look_wrong_are_listed_with_the_curve(finished, monkeypatch):
    monkeypatch.setattr("hornbook.evaluation.label_doubts.FEWEST", 4)
    path = finished / "validation.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for i, line in enumerate(lines):
        (given,) = line["target"]["labels"] if isinstance(line["target"], dict) else line["target"]
        said = given if i else next(name for name in WORDS if name != given)
        other = next(name for name in WORDS if name != said)
        sure = 0.97 - 0.01 * (i % 3)
        line["prediction"] = {"label": said, "probabilities": {said: sure, other: 1 - sure}}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    record = learning_curve(open_beside(finished, {}))
    assert any("1 label(s) look wrong" in note for note in record.notes)
    (doubt,) = (finished / "doubts.jsonl").read_text().splitlines()
    assert json.loads(doubt)["example"] == 0


def test_the_curve_s_time_is_planned_too(news):
    plain = [*asking(news), "--steps", 20, "--curve", "--dry-run"]
    assert "further runs" in hornbook("finetune", *plain).stdout
    found = json.loads(hornbook("finetune", *plain, "--json").stdout)
    assert 1 < found["curve_seconds"] / found["plan"]["seconds"] < 1.9


def test_several_processes_fit_no_curve(news, monkeypatch):
    monkeypatch.setattr("hornbook.training.accelerator.place", lambda: (0, 2))
    with pytest.raises(ConfigError, match="one process") as caught:
        hornbook("finetune", *asking(news), "--steps", 4, "--curve")
    assert "--resume RUN --curve" in caught.value.hint
