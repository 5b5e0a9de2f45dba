"""A search that meets values no run can have, that is interrupted, and what it leaves behind."""

from __future__ import annotations

import random

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.cli.tune import _begun
from hornbook.config import settings_from
from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.learning_curve import KEPT
from hornbook.recipes.tuning_space import check_ends, inside, named_space, own_settings
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.text.train import train_tokenizer

tuning = pytest.importorskip("hornbook.recipes.tuning")
pytest.importorskip("optuna")

WORDS = {"grain": ("wheat", "corn", "rice"), "metal": ("gold", "silver", "tin")}
OTHERS = ("prices", "of", "the", "rose", "fell", "today", "and", "were", "higher")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tiny encoder, a table of labelled texts, and one of pairs."""
    folder = tmp_path_factory.mktemp("home")
    rng, rows = random.Random(0), []
    for i in range(80):
        label = ("grain", "metal")[i % 2]
        rows.append((" ".join([*rng.sample(OTHERS, 4), rng.choice(WORDS[label]), str(i)]), label))
    (folder / "news.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    pairs = [f"{a},{b}\n" for (a, _), (b, _) in zip(rows[::2], rows[1::2])]
    (folder / "pairs.csv").write_text("anchor,positive\n" + "".join(pairs))
    tokenizer = train_tokenizer("wordpiece", lambda: [t for t, _ in rows], 150)
    torch.manual_seed(0)
    model = MaskedLM(Bert(BertConfig(tokenizer.vocab_size, 32, 1, 2, 32, 64)))
    bundle.save(folder / "tiny", model, tokenizer)
    return folder


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


def search_of(home, folder, wanted, task="classify", data="news.csv", **given):
    given = {"steps": 4, "evaluations": 2, "tokens_per_step": 128} | given
    asked = settings_from(
        AdaptSettings, task=task, model=str(home / "tiny"), data=str(home / data), **given
    )
    return tuning.Search(asked, folder, wanted=wanted)


class Telling:
    """Hears of trials; has the search stop behind the first evaluation when told to."""

    def __init__(self, search=None):
        self.search, self.ended = search, []

    def begin(self, number, settings): ...

    def hear_evaluation(self, evaluation):
        if self.search and evaluation.step:
            self.search.stop()

    def end(self, trial):
        self.ended.append(trial)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("layer_decay=0.8..1.2", "layer_decay has 1.2 in it"),
        ("rank=0..16", "rank has 0 in it"),
        ("rank=4.5..16", "rank has 4.5 in it"),
        ("rank=4.0..16.0", "rank has numbers such as 4.5 in it"),
        ("rank_stabilized=0.0..1.0", "has numbers such as 0.5 in it"),
        ("decay=linear,square", "decay has square in it"),
        ("best=accuracy,fluency", "best has fluency in it"),
        ("learning_rate=1..2", "no setting to search"),
    ],
)
def test_a_range_with_values_that_no_run_can_have_is_refused(home, tmp_path, wanted, said):
    with pytest.raises(ConfigError, match=said):
        search_of(home, tmp_path / "s", [wanted])
    assert not (tmp_path / "s").exists()


def test_whole_ends_leave_out_fractions_only_where_there_are_none(home, tmp_path):
    search = search_of(
        home, tmp_path / "s", ["weight_decay=0..1", "examples_per_step=100..300", "epochs=1..4"]
    )
    assert [one.whole for one in search.space] == [False, True, True]


def test_values_that_do_not_go_together_fail_a_trial_and_not_the_search(home, tmp_path):
    search = search_of(home, tmp_path / "s", ["micro_batches=2,4"], "embed", "pairs.csv")
    record = search.run(tuning.Budget(n_trials=2), Telling())
    assert [(t.number, t.state) for t in record.trials] == [(0, "failed"), (1, "failed")]
    assert "compares each example" in record.trials[0].message
    again = tuning.Search(None, tmp_path / "s").run(tuning.Budget(seconds=1e6), Telling())
    numbers = [t.number for t in again.trials]  # each another one, until it is seen to be no use
    assert numbers == list(range(tuning.HOPELESS))


def test_a_trial_that_diverged_leaves_no_weights(home, tmp_path):
    search = search_of(home, tmp_path / "s", ["lr=1e30..1e31"])
    record = search.run(tuning.Budget(n_trials=1), Telling())
    assert record.trials[0].state == "failed" and record.trials[0].folder == "trials/000"
    assert str(tmp_path) not in record.trials[0].message  # names no file that is gone
    assert {path.name for path in (tmp_path / "s/trials/000").iterdir()} <= set(KEPT)
    assert record.seconds > 0


def test_an_interrupted_trial_counts_on(home, tmp_path):
    """Its seconds are spent, and its evaluations stand beside the same ones of the others."""
    search = search_of(home, tmp_path / "s", ["lr=1e-4..1e-3"])
    listener = Telling(search)
    stopped = search.run(tuning.Budget(n_trials=2), listener)
    (first,) = listener.ended
    assert first.message == "interrupted" and not stopped.trials
    assert stopped.seconds == pytest.approx(first.seconds)
    search = tuning.Search(None, tmp_path / "s")
    record = search.run(tuning.Budget(n_trials=2), Telling())
    went_on, whole = record.trials
    assert went_on.seconds > first.seconds
    assert record.seconds == pytest.approx(went_on.seconds + whole.seconds)
    reported = [sorted(search.study.trials[t.number].intermediate_values) for t in record.trials]
    assert reported[0] == reported[1] == [1, 2]


def test_time_that_was_spent_before_an_interruption_is_not_spent_again(home, tmp_path):
    search = search_of(home, tmp_path / "s", ["lr=1e-4..1e-3"])
    spent = search.run(tuning.Budget(n_trials=1), Telling(search)).seconds
    search = tuning.Search(None, tmp_path / "s")
    assert not search.run(tuning.Budget(seconds=spent), Telling()).trials


def test_a_task_s_own_settings_are_searched_from_their_defaults():
    own = own_settings("dpo")
    assert own["beta"] == 0.1 and "encoder" not in own
    space = named_space(["beta=0.05..0.5"], own)
    assert inside(own, space) == {"beta": 0.1}
    assert set(own_settings("embed")) >= {"margin", "scale"}
    with pytest.raises(ConfigError, match="no setting to search"):
        named_space(["seed=1,2"], own_settings("fill"))  # the recipe's, and no answer to search
    with pytest.raises(ConfigError, match=r"has 2\.0 in it: no"):

        def settle(values):
            raise ConfigError("no")

        check_ends(named_space(["margin=2.0..3.0"], own_settings("embed")), settle)


@pytest.mark.parametrize(("given", "method"), [({}, "lora"), ({"method": "full"}, "full")])
def test_preferences_are_tuned_by_the_method_of_align(tmp_path, given, method):
    given = {"task": "dpo", "model": "m", "data": "d"} | given
    assert _begun(given, ["lr=1e-6..1e-4"], tmp_path / "s").settings.method == method


def test_a_dry_run_says_what_a_trial_takes_and_writes_nothing(home, tmp_path):
    words = [
        "tune", "classify", "--model", home / "tiny", "--data", home / "news.csv", "--dry-run",
        "--steps", 4, "--trials", 5, "--search", "lr=1e-4..1e-3", "--out", tmp_path / "s",
    ]  # fmt: skip
    result = CliRunner().invoke(app, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    for said in ("memory ", "a trial ", "the search ", "searched     lr 0.0001 to 0.001 (log)"):
        assert said in result.stdout
    assert not (tmp_path / "s").exists()
