"""hornbook run, tune, evaluate and finetune --curve, as a person types them, on a tiny model."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.config import settings_from
from hornbook.errors import ConfigError, DataError, StudyError, UnknownNameError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.recipes import tuning
from hornbook.recipes.adaptation_opening import open_beside, open_new
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.apply import ready
from hornbook.recipes.apply_plain import Asked
from hornbook.recipes.learning_curve import _Watching, learning_curve, sizes_of, smaller
from hornbook.recipes.tuning_space import default_space, named_space
from hornbook.recipes.tuning_trial import Watching
from hornbook.records import EvaluationRecord, LearningCurveRecord, TuningRecord
from hornbook.runs import locked
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.text.train import train_tokenizer
from hornbook.training.checkpoints import save_checkpoint
from hornbook.training.listeners import Lines

WORDS = {"grain": ("wheat", "corn", "rice", "oats"), "metal": ("gold", "silver", "tin", "zinc")}
OTHERS = ("prices", "of", "the", "rose", "fell", "today", "and", "were", "higher", "in", "may")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny encoder with its head for hidden words, and a table of two kinds of texts."""
    folder = tmp_path_factory.mktemp("home")
    rng, rows = random.Random(0), []
    for i in range(160):
        label = ("grain", "metal")[i % 2]
        words = [*rng.sample(OTHERS, 4), rng.choice(WORDS[label]), str(i)]
        rng.shuffle(words)
        rows.append((" ".join(words), label))
    (folder / "news.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    tokenizer = train_tokenizer("wordpiece", lambda: [t for t, _ in rows], 200)
    torch.manual_seed(0)
    model = MaskedLM(Bert(BertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64)))
    bundle.save(folder / "tiny", model, tokenizer)
    return folder


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


def hornbook(*words, **options):
    result = CliRunner().invoke(app, [str(w) for w in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def asking(home):
    return [
        "classify", "--model", home / "tiny", "--data", home / "news.csv", "--quiet",
        "--set", "lr=3e-3", "--set", "tokens_per_step=256", "--set", "evaluations=2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(home):
    """A run with its curve."""
    told = hornbook("finetune", *asking(home), "--steps", 45, "--out", home / "run", "--curve")
    assert told.exit_code == 0, told.output
    return home / "run", told


# The curve


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


def test_the_curve_s_time_is_planned_too(home):
    plain = [*asking(home), "--steps", 20, "--curve", "--dry-run"]
    assert "further runs" in hornbook("finetune", *plain).stdout
    found = json.loads(hornbook("finetune", *plain, "--json").stdout)
    assert 1 < found["curve_seconds"] / found["plan"]["seconds"] < 1.9


def test_several_processes_fit_no_curve(home, monkeypatch):
    monkeypatch.setattr("hornbook.training.accelerator.place", lambda: (0, 2))
    with pytest.raises(ConfigError, match="one process") as caught:
        hornbook("finetune", *asking(home), "--steps", 4, "--curve")
    assert "--resume RUN --curve" in caught.value.hint


# Evaluation of a real run


def test_a_run_is_evaluated_on_its_own_division(run):
    folder, _ = run
    found = json.loads(hornbook("evaluate", folder, "--json", "--quiet").stdout)
    summary = json.loads((folder / "summary.json").read_text())
    same = {m["name"]: m["value"] for m in summary["metrics"]}
    assert {m["name"]: m["value"] for m in found["metrics"]} == pytest.approx(same)
    assert found["examples_hash"] == summary["hashes"]["validation examples"]
    test = json.loads(hornbook("evaluate", folder, "--on", "test", "--json", "--quiet").stdout)
    assert test["look"] == 1 and test["n_examples"] == summary["n_test"]


# hornbook run


def test_texts_are_labelled_line_by_line(run, tmp_path):
    folder, _ = run
    (tmp_path / "texts.txt").write_text("wheat corn rice\n\ngold silver tin\n")
    told = hornbook("run", "sentiment", folder, "--file", tmp_path / "texts.txt", "--json")
    lines = [json.loads(line) for line in told.stdout.splitlines()]
    assert [line.get("label", line.get("reason")) for line in lines] == [
        "grain",
        "no text",
        "metal",
    ]
    (tmp_path / "texts.csv").write_text("body,n\nwheat rose,1\n")
    named = hornbook(
        "run", "classify", folder, "--file", tmp_path / "texts.csv", "--column", "text=body"
    )
    assert "wheat rose" not in named.stdout and "grain" in named.stdout.splitlines()[0]
    piped = hornbook("run", "classify", folder, "-", input="gold silver zinc\nrice corn oats\n")
    assert [x for x in piped.stdout.split() if x in WORDS][::2] == ["metal", "grain"]


def test_another_task_s_model_is_named(run, home):
    folder, _ = run
    with pytest.raises(ConfigError, match="was fine-tuned to classify, not to tag") as caught:
        ready("ner", str(folder))
    assert "hornbook run classify" in caught.value.hint
    with pytest.raises(ConfigError, match="can't answer"):
        ready("qa", str(home / "tiny"))
    with pytest.raises(ConfigError, match="can't generate"):
        ready("generate", str(home / "tiny"))
    with pytest.raises(UnknownNameError, match="no task 'sentimnt'") as caught:
        ready("sentimnt", str(folder))
    assert "Did you mean 'sentiment'" in caught.value.hint


def test_open_places_are_filled(home):
    (found,) = ready("fill-mask", str(home / "tiny"), Asked(top=3))(
        [{"text": "prices of ___ rose [MASK]"}]
    )
    assert [len(place) for place in found["guesses"]] == [3, 3]
    shares = [guess["probability"] for guess in found["guesses"][0]]
    assert shares == sorted(shares, reverse=True)


def test_a_modern_encoder_gives_vectors(home, tmp_path):
    tokenizer = bundle.load(home / "tiny").tokenizer
    config = ModernBertConfig(tokenizer.vocab_size, 32, 2, 2, 32, 64)
    bundle.save(tmp_path / "modern", ModernBert(config), tokenizer)
    (found,) = ready("embed", str(tmp_path / "modern"))([{"text": "wheat prices " * 30}])
    assert len(found["vector"]) == 32
    assert sum(x * x for x in found["vector"]) == pytest.approx(1, abs=1e-4)


# hornbook data select


def test_texts_to_label_next_are_unsure_and_unlike(run, tmp_path):
    folder, _ = run
    unsure = "wheat gold rose today"  # of both kinds: nothing says which
    sure = [f"{a} {b} rice corn" for a in OTHERS[:4] for b in ("wheat", "oats")]
    texts = [*sure, unsure, "Wheat, gold rose today!", "", "silver corn the may"]
    (tmp_path / "new.csv").write_text(
        "n,body\n" + "".join(f'{i},"{t}"\n' for i, t in enumerate(texts))
    )
    words = ["data", "select", folder, tmp_path / "new.csv", "--column", "text=body", "--quiet"]
    told = hornbook(*words, "-n", 2, "--out", tmp_path / "picked.csv")
    with (tmp_path / "picked.csv").open(newline="") as file:
        picked = list(csv.DictReader(file))
    assert picked[0]["body"] == unsure and len(picked) == 2
    assert list(picked[0]) == ["n", "body", "guess", "margin"]
    assert all(row["guess"] in WORDS and row["body"] in told.stdout for row in picked)
    found = json.loads(hornbook(*words, "--json").stdout)
    assert len(found) == 10  # neither the empty text nor the same words again
    assert found[0]["margin"] == min(x["margin"] for x in found)
    assert found[0]["row"] == texts.index(unsure) + 1
    with pytest.raises(ConfigError, match="is there already"):
        hornbook(*words, "--out", tmp_path / "picked.csv")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("qa", "m", "Who?"), "answer needs context"),
        (("zero-shot", "m", "text"), "zero-shot needs labels"),
        (("sentiment", "m", "text", "--label", "a"), "classify reads no labels"),
        (("pairs", "m", "one"), "make no pairs"),
        (("sentiment", "m"), "nothing to read"),
    ],
)
def test_what_is_missing_is_said_before_a_model_is_opened(words, said):
    with pytest.raises(ConfigError, match=said):
        hornbook("run", *words)


def test_a_table_without_the_column_names_those_it_has(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UnknownNameError, match="no column 'text'") as caught:
        hornbook("run", "classify", "m", "--file", tmp_path / "t.csv")
    assert "--column text=COLUMN" in caught.value.hint


# hornbook tune


@pytest.fixture(scope="module")
def searched(home):
    pytest.importorskip("optuna")
    words = [w for w in asking(home) if w != "lr=3e-3"]
    del words[words.index("--set")]  # the one that stood before it
    told = hornbook(
        "tune", *words, "--steps", 12, "--trials", 3, "--out", home / "search",
        "--search", "lr=1e-6..1e-2", "--search", "weight_decay=0.01,0.1",
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    return home / "search", told


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


def test_a_search_goes_on_and_a_killed_trial_too(searched, home):
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


def small_search(home, folder, **given):
    pytest.importorskip("optuna")
    asked = settings_from(
        AdaptSettings, task="classify", model=str(home / "tiny"), data=str(home / "news.csv"),
        steps=4, evaluations=2, **given
    )  # fmt: skip
    return tuning.Search(asked, folder, wanted=["lr=1e-6..1e-2"])


def test_the_first_trial_is_what_a_run_without_a_search_would_be(home, tmp_path):
    """Also of what is decided only where nobody said it, such as tokens_per_step."""
    search = small_search(home, tmp_path / "s")
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


def test_defaults_that_were_interrupted_still_are_the_defaults(home, tmp_path):
    search = small_search(home, tmp_path / "s", tokens_per_step=256)
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


def test_without_optuna_it_says_what_to_install(home, monkeypatch):
    import builtins

    whole = builtins.__import__

    def without(name, *rest, **more):
        if name == "optuna":
            raise ImportError(name)
        return whole(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(tuning.UnavailableError) as caught:
        hornbook("tune", *asking(home), "--out", home / "none")
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
