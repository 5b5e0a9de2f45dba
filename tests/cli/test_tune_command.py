"""hornbook tune, as a person types it, on a tiny model."""

from __future__ import annotations

import json
import shutil
import sqlite3
from types import SimpleNamespace

import pytest
import torch
from tiny_news import asking, hornbook

from hornbook.config import settings_from
from hornbook.errors import ConfigError, StudyError
from hornbook.recipes import tuning
from hornbook.recipes.adaptation_opening import open_new
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.tuning_space import default_space, named_space
from hornbook.recipes.tuning_trial import Watching
from hornbook.records import EvaluationRecord, TuningRecord
from hornbook.runs import locked
from hornbook.training.checkpoints import save_checkpoint
from hornbook.training.listeners import Lines

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def searched(news):
    pytest.importorskip("optuna")
    words = [w for w in asking(news) if w != "lr=3e-3"]
    del words[words.index("--set")]  # the one that stood before it
    told = hornbook(
        "tune", *words, "--steps", 12, "--trials", 3, "--out", news / "search",
        "--search", "lr=1e-6..1e-2", "--search", "weight_decay=0.01,0.1",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    return news / "search", told


def record_of(folder) -> TuningRecord:
    return TuningRecord.model_validate_json((folder / tuning.RECORD).read_text())


def test_a_search_begins_with_the_defaults_and_keeps_the_best(searched):
    folder, told = searched
    record = record_of(folder)
    assert [t.number for t in record.trials] == [0, 1, 2]
    assert record.trials[0].settings["weight_decay"] == 0.01
    scores = [t.score for t in record.trials if t.state == "finished"]
    best = record.trials[record.best]
    assert best.score == min(scores)
    for trial in record.trials:
        has_model = (folder / trial.folder / "model").is_dir()
        assert has_model == (trial.number in (0, record.best))
        assert 1e-6 <= trial.settings["lr"] <= 1e-2
    assert "--on test" in told.stdout and "tuning.html" in told.stdout
    page = (folder / "tuning.html").read_text()
    assert page.count("<circle") == len([t for t in record.trials if t.score is not None]) * 3
    assert "<script" not in page and "://" not in page


def test_a_search_never_sees_test(searched):
    folder, _ = searched
    for trial in record_of(folder).trials:
        summary = json.loads((folder / trial.folder / "summary.json").read_text())
        assert summary["n_test"] is None


def test_a_search_goes_on_and_a_killed_trial_too(searched, news):
    """A trial that a kill left running is taken up again, with the same values."""
    folder, _ = searched
    with sqlite3.connect(folder / "study.db") as study:
        study.execute("update trials set state = 'RUNNING' where number = 2")
    before = {t.number: t.settings for t in record_of(folder).trials}
    told = hornbook("tune", "--resume", folder, "--trials", 4, "--quiet")
    assert told.exit_code == 0, told.output
    after = {t.number: t.settings for t in record_of(folder).trials}
    assert 2 not in after and before[2] in after.values()
    assert len(after) == 4 and after[0] == before[0]


@pytest.fixture
def copied(searched, tmp_path):
    shutil.copytree(searched[0], tmp_path / "search")
    return tmp_path / "search"


def small_search(news, folder, **given):
    pytest.importorskip("optuna")
    asked = settings_from(
        AdaptSettings, task="classify", model=str(news / "tiny"), data=str(news / "news.csv"),
        steps=4, evaluations=2, **given
    )  # fmt: skip
    return tuning.Search(asked, folder, wanted=["lr=1e-6..1e-2"])


def test_the_first_trial_is_what_a_run_without_a_search_would_be(news, tmp_path):
    """Also of what is decided only where nobody said it, such as tokens_per_step."""
    search = small_search(news, tmp_path / "s")
    usual = open_new(search.settings, tmp_path / "plain").settings
    assert usual.tokens_per_step == 1024
    search.keep()
    for found in (search, tuning.Search(None, tmp_path / "s")):
        assert open_new(found._with({"lr": usual.lr}), tmp_path / "trial").settings == usual


class Stopping:
    """Has a search stop once a trial was evaluated behind its first step."""

    def __init__(self, search):
        self.search, self.ended = search, []

    def begin(self, number, settings): ...

    def hear_evaluation(self, evaluation):
        if evaluation.step:
            self.search.stop()

    def end(self, trial):
        self.ended.append(trial)


def test_defaults_that_were_interrupted_still_are_the_defaults(news, tmp_path):
    search = small_search(news, tmp_path / "s", tokens_per_step=256)
    listener = Stopping(search)
    search.run(tuning.Budget(n_trials=2), listener)
    assert [t.message for t in listener.ended] == ["interrupted"]
    told = hornbook("tune", "--resume", tmp_path / "s", "--trials", 2, "--quiet")
    record = record_of(tmp_path / "s")
    assert [(t.number, t.defaults) for t in record.trials] == [(1, True), (2, False)]
    assert "the defaults" in told.stdout
    if record.best == 1:
        assert "These are the defaults" in record.says
    else:
        assert record.against_defaults is not None
    assert (tmp_path / "s/trials/001/model").is_dir()
    assert record.fixed["tokens_per_step"] == 256


def test_a_trial_that_goes_on_keeps_its_best_score(tmp_path):
    """The best weights are those of before the interruption, so their score is told."""
    model = torch.nn.Linear(1, 1)
    for step, score in ((0, -0.50), (3, -0.92), (5, None)):
        save_checkpoint(
            tmp_path / "checkpoints", step, model, torch.optim.SGD(model.parameters()), {},
            score=score, keep=3,
        )  # fmt: skip
    trial = SimpleNamespace(report=lambda *_: None, should_prune=lambda: False)
    listener = SimpleNamespace(hear_evaluation=lambda _: None)
    lines = Lines(tmp_path / "metrics.jsonl")
    for step, score in ((0, -0.50), (3, -0.92), (5, -0.91), (6, -0.99)):  # killed before it saved 6
        lines.hear_evaluation(
            EvaluationRecord(step=step, tokens=1, seconds=1.0, validation_loss=1.0, score=score)
        )
    watching = Watching(None, SimpleNamespace(folder=tmp_path), trial, listener, None)
    found = EvaluationRecord(step=6, tokens=1, seconds=1.0, validation_loss=1.0, score=-0.90)
    watching.hear_evaluation(found)
    assert watching.best == -0.92


def test_a_search_that_another_process_is_at_is_left_alone(copied):
    def states():
        with sqlite3.connect(copied / "study.db") as study:
            return [state for (state,) in study.execute("select state from trials")]

    with sqlite3.connect(copied / "study.db") as study:
        study.execute("update trials set state = 'RUNNING' where number = 2")
    before = states()
    with locked(copied), pytest.raises(StudyError, match="another process"):
        hornbook("tune", "--resume", copied, "--trials", 4, "--quiet")
    assert states() == before


def test_a_folder_that_a_database_names_is_not_emptied(copied, tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("dear")
    best = record_of(copied).best
    loser = next(t.number for t in record_of(copied).trials[1:] if t.number != best)
    with sqlite3.connect(copied / "study.db") as study:
        study.execute(
            "update trial_user_attributes set value_json = ? where key = 'folder' and trial_id = "
            "(select trial_id from trials where number = ?)",
            (json.dumps(str(theirs)), loser),
        )
    hornbook("tune", "--resume", copied, "--trials", 5, "--quiet")
    assert (theirs / "letter.txt").read_text() == "dear"


def test_trials_of_a_search_are_not_chosen_by_test(searched):
    folder, _ = searched
    with pytest.raises(ConfigError, match="trials of one search"):
        hornbook("evaluate", folder / "trials/000", "--on", "test", "--against",
                 folder / "trials/001", "--quiet")  # fmt: skip


def test_without_optuna_it_says_what_to_install(news, monkeypatch):
    import builtins

    whole = builtins.__import__

    def without(name, *rest, **more):
        if name == "optuna":
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(tuning.UnavailableError) as caught:
        hornbook("tune", *asking(news), "--out", news / "none")
    assert "hornbook[tune]" in caught.value.hint


def test_ranges_follow_the_method_and_what_is_fixed():
    def space(*given, **settings):
        made = settings_from(
            AdaptSettings, task="t", model="m", data="d", lr=1e-4, epochs=3, **settings
        )
        return {one.name: one for one in default_space(made, frozenset(given))}

    assert set(space()) == {"lr", "epochs", "layer_decay", "weight_decay"}
    assert set(space(method="lora")) == {"lr", "epochs", "rank", "weight_decay"}
    assert set(space("epochs", "lr", method="head")) == {"weight_decay"}
    full, lora = space()["lr"], space(method="lora")["lr"]
    assert full.low < 1e-4 < full.high and full.log
    assert lora.high > full.high


def test_named_ranges_are_read():
    lr, rank, epochs = named_space(["lr=1e-5..1e-3", "rank=4,8", "epochs=1..4"])
    assert (lr.low, lr.high, lr.log) == (1e-5, 1e-3, True)
    assert rank.choices == [4, 8]
    assert (epochs.whole, epochs.log) == (True, False)
    for wrong in ("lr", "lr=1e-3..1e-5", "rank=4", "seed=1,2", "learning_rate=1..2"):
        with pytest.raises(ConfigError):
            named_space([wrong])
