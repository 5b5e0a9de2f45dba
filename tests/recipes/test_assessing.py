"""`hornbook evaluate`: the record beside the run, the count of looks, what is refused."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_task
import torch
import yaml
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.errors import ConfigError, DataError
from hornbook.evaluation import looks
from hornbook.evaluation.evaluate import hash_of
from hornbook.recipes import assessing, subjects
from hornbook.recipes.adapted import Opened
from hornbook.recipes.kinds import KINDS
from hornbook.recipes.learning_curve import predictions_in
from hornbook.records import AssessmentRecord
from hornbook.tasks.task import Parts


class Counting(tiny_task.Tiny):
    """Letters counted, without a network: right always, or for all but every `wrong`th text."""

    def __init__(self, wrong: int = 0) -> None:
        self.wrong = wrong

    @classmethod
    def open_data(cls, data, columns, *, seed) -> Parts:
        if data == "no test":
            return Parts(data, tiny_task.letters(5), tiny_task.letters(5, 1), None)
        if Path(data).is_file():
            return divided(Path(data), seed)
        return Parts(data, *(tiny_task.letters(120, seed + i) for i in range(3)))

    def predict(self, model, items, *, device="cpu", progress=None):
        true = [tiny_task.LABELS[item.target] for item in items]
        return [
            tiny_task.LABELS[1 - tiny_task.LABELS.index(t)] if self.wrong and i % self.wrong == 0
            else t
            for i, t in enumerate(true)
        ]  # fmt: skip


def divided(path, seed) -> Parts:
    """A file's lines by the seed: half to learn from, a quarter each to validate and to test."""
    texts = path.read_text().split()
    lines = [Line(t, "ab"[2 * t.count("a") <= len(t)], f"line {i}") for i, t in enumerate(texts, 1)]
    random.Random(seed).shuffle(lines)
    n = len(lines) // 4
    notes = ["The lines are read.", f"{n} lines were set aside (seed {seed}).",
             f"There are only {n} test texts."]  # fmt: skip
    return Parts(str(path), lines[2 * n :], lines[:n], lines[n : 2 * n], notes=notes)


@dataclass(frozen=True)
class Line:
    text: str
    label: str
    place: str


@pytest.fixture
def lines(tmp_path):
    """A file of 200 texts of letters, no two alike."""
    path = tmp_path / "lines.txt"
    path.write_text("\n".join(f"{i:012b}".replace("0", "a").replace("1", "b") for i in range(200)))
    return path


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Runs by name, whose model is nothing and whose task is made here."""
    tasks = {}

    def make(name, wrong=0, **settings):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        text = yaml.safe_dump({"data": "letters", "seed": 3, "columns": {}} | settings)
        (folder / "config.yaml").write_text(text)
        tasks[folder] = Counting(wrong)
        return folder

    def opened(folder):
        return Opened(None, torch.nn.Linear(1, 1), tasks[folder])

    monkeypatch.setitem(KINDS._table, "tiny", f"{__name__}:Counting")
    monkeypatch.setattr(subjects, "open_task", opened)
    return make


def test_the_record_lies_beside_the_run_with_a_prediction_an_example(runs):
    run = runs("good", wrong=10)
    record, folder = assessing.evaluate_run(str(run), part="validation")
    assert record.metrics[0].value == pytest.approx(0.9)
    assert record.metrics[0].low < 0.9 < record.metrics[0].high
    assert record.look == 0
    path = (folder / record.predictions).with_suffix(".json")
    assert folder == run / "evaluations"
    assert AssessmentRecord.model_validate_json(path.read_text()) == record
    lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    assert [line["example"] for line in lines] == list(range(120))
    assert any("chosen by this part" in note for note in record.notes)


def test_data_are_divided_as_for_training(runs):
    """The seed and the columns of config.yaml: another seed would put training texts to the test"""
    same = assessing.evaluate_run(str(runs("a", seed=3)), part="test")[0]
    other = assessing.evaluate_run(str(runs("b", seed=4)), part="test")[0]
    assert same.examples_hash != other.examples_hash
    run = str(runs("c", columns={"text": "body"}))
    named = {"text": "title"}
    assert assessing.evaluate_run(run, part="test")[0].columns == {"text": "body"}
    assert assessing.evaluate_run(run, part="test", columns=named)[0].columns == named


def test_looks_at_test_are_counted_and_said(runs):
    run = runs("good")
    numbers = [assessing.evaluate_run(str(run), part="test")[0] for _ in range(3)]
    assert [record.look for record in numbers] == [1, 2, 3]
    assert any("first look" in note for note in numbers[0].notes)
    assert any("Look 3" in note and "too good" in note for note in numbers[2].notes)
    other = assessing.evaluate_run(str(run), part="test", data="other data")[0]
    assert other.look == 4  # the same examples under another name


def test_a_part_that_is_not_there_is_an_error_and_no_look(runs):
    run = runs("none", data="no test")
    with pytest.raises(DataError, match="no test part"):
        assessing.evaluate_run(str(run), part="test")
    assert not (run / looks.LOOKS).exists()


def test_a_limit_draws_the_same_examples_for_any_run_and_says_so(runs):
    good, bad = runs("good"), runs("bad", wrong=4)
    record, folder = assessing.evaluate_run(
        str(good), part="validation", against=str(bad), limit=30
    )
    assert record.n_examples == 30 == record.metrics[0].n_examples
    assert any("30 of 120 examples, drawn at random" in note for note in record.notes)
    lines = (folder / record.predictions).read_text().splitlines()
    numbers = [json.loads(line)["example"] for line in lines]
    assert numbers == sorted(set(numbers)) and len(numbers) == 30 and max(numbers) > 60
    again = assessing.evaluate_run(str(bad), part="validation", limit=30)[0]
    assert again.examples_hash == record.examples_hash
    whole = assessing.evaluate_run(str(good), part="validation", limit=500)[0]
    assert whole.n_examples == 120 and not any("drawn" in note for note in whole.notes)
    with pytest.raises(ConfigError, match="leaves none"):
        assessing.evaluate_run(str(good), part="validation", limit=0)


def test_a_look_at_some_of_a_test_part_is_a_look_at_it(runs):
    run = runs("good")
    some, _ = assessing.evaluate_run(str(run), part="test", limit=9)
    whole, _ = assessing.evaluate_run(str(run), part="test")
    assert (some.look, whole.look) == (1, 2)
    assert some.examples_hash != some.part_hash == whole.examples_hash == whole.part_hash
    assert (some.n_examples, some.n_part, some.partial) == (9, 120, True)
    assert (whole.n_part, whole.partial) == (120, False)


nothing = torch.nn.Linear(1, 1)


@pytest.mark.parametrize("inside", ["model", "adapter"])
def test_a_runs_model_and_adapter_are_evaluated_as_the_run(runs, lines, inside, monkeypatch):
    """So that the data are divided as for its training, and all looks counted in one place."""
    run = runs("run", data=str(lines), seed=7, method="lora")
    (run / inside).mkdir()
    monkeypatch.setattr(subjects, "open_task", lambda folder: Opened(None, nothing, Counting()))
    assert assessing.evaluate_run(str(run), part="test")[0].look == 1
    record, folder = assessing.evaluate_run(str(run / inside), part="test")
    assert (record.run, record.look, folder) == ("run", 2, run / "evaluations")
    assert record.examples_hash == hash_of(divided(lines, seed=7).test)
    assert subjects.is_tuned(str(run / inside))
    monkeypatch.chdir(run / inside)
    assert assessing.evaluate_run(".", part="test")[0].look == 3


def test_a_folder_of_that_name_elsewhere_is_itself(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "config.yaml").write_text("name: a site of mine")
    assert subjects.folder_of(str(tmp_path / "model")) == tmp_path / "model"


def test_two_runs_are_compared_on_the_same_examples(runs):
    good, bad = runs("good"), runs("bad", wrong=4)
    record, _ = assessing.evaluate_run(str(good), part="validation", against=str(bad))
    (found,) = record.against.differences
    assert (found.ours, found.theirs) == (1.0, 0.75)
    assert record.against.verdict.startswith("Better than bad in accuracy")


def learnt(run, parts):
    """Write the hash of a run's training part, as its end does."""
    hashes = {"training examples": hash_of(parts.train)}
    (run / "summary.json").write_text(json.dumps({"hashes": hashes}))


def test_what_only_one_of_the_two_learnt_from_compares_nothing(runs, lines):
    """By another seed half of the validation part is in the other's training part."""
    mine, other = runs("mine", data=str(lines)), runs("other", data=str(lines), seed=4)
    for part in ("validation", "test"):
        with pytest.raises(ConfigError, match=r"in the training part of other alone") as caught:
            assessing.evaluate_run(str(mine), part=part, against=str(other))
        assert "same --seed" in caught.value.hint
    assert not (mine / looks.LOOKS).exists()
    assert not (other / looks.LOOKS).exists()
    same = runs("same", data=str(lines), wrong=4)
    assessing.evaluate_run(str(mine), part="validation", against=str(same))


def test_data_that_grew_are_told_by_the_hash_of_what_was_learnt(runs, lines):
    run, other = runs("run", data=str(lines)), runs("other", data=str(lines))
    for folder in (run, other):
        learnt(folder, divided(lines, seed=3))
    assert assessing.evaluate_run(str(run), part="test", against=str(other))[0].warnings == []
    lines.write_text(lines.read_text() + "\n" + "abab" * 5)
    record, _ = assessing.evaluate_run(str(run), part="test")
    assert "have changed since run was trained" in record.warnings[0]
    with pytest.raises(ConfigError, match="have changed since run was trained"):
        assessing.evaluate_run(str(run), part="test", against=str(other))


def test_other_data_that_hold_what_was_learnt_are_said(runs, lines, tmp_path):
    run = runs("run", data=str(lines))
    texts = [example.text for example in divided(lines, seed=3).train]
    other = tmp_path / "fresh.txt"
    other.write_text("\n".join(["ab" * 20, *texts[:3]]))
    record, _ = assessing.evaluate_run(str(run), part="all", data=str(other))
    assert "3 of these 4 examples are, word for word," in record.warnings[0]


def test_all_of_other_data_are_evaluated_in_their_order_and_count_as_a_look(runs, lines, tmp_path):
    run = runs("run", data=str(lines))
    fresh = tmp_path / "fresh.txt"
    fresh.write_text("\n".join("ab" * n for n in range(20, 31)))
    record, folder = assessing.evaluate_run(str(run), part="all", data=str(fresh))
    assert (record.part, record.n_examples, record.look) == ("all", 11, 1)
    assert "The lines are read." in record.notes
    assert not any("set aside" in note or "test texts" in note for note in record.notes)
    told = (folder / record.predictions).read_text().splitlines()
    assert [json.loads(one)["place"] for one in told] == [f"line {i}" for i in range(1, 12)]
    again = runs("again", data=str(lines), seed=9)
    assert assessing.evaluate_run(str(again), part="all", data=str(fresh))[0].examples_hash == (
        record.examples_hash
    )
    with pytest.raises(ConfigError, match="has in it what the run was trained on"):
        assessing.evaluate_run(str(run), part="all")


def test_a_file_named_as_a_part_is_that_part(runs, lines, tmp_path):
    run = runs("run", data=str(lines))
    test, dev = tmp_path / "my-test.txt", tmp_path / "dev.txt"
    for file in (test, dev):
        file.write_text("\n".join("ab" * n for n in range(20, 31)))
    record, _ = assessing.evaluate_run(str(run), part="test", data=str(test))
    assert (record.n_examples, record.look) == (11, 1)
    record, _ = assessing.evaluate_run(str(run), part="validation", data=str(dev))
    assert (record.n_examples, record.look) == (11, 0)
    with pytest.raises(DataError, match="a test part by its name"):
        assessing.evaluate_run(str(run), part="validation", data=str(test))


def test_records_against_others_lie_side_by_side(runs):
    run = runs("run")
    names = [
        assessing.evaluate_run(str(run), part="validation", against=against)[0].predictions
        for against in (None, str(runs("one", wrong=4)), str(runs("two", wrong=5)))
    ]
    assert len(set(names)) == 3
    assert names[2].endswith("-against-two.jsonl")
    found = AssessmentRecord.model_validate_json(
        (run / "evaluations" / names[1]).with_suffix(".json").read_text()
    )
    assert found.against.other == "one"


@pytest.fixture
def as_they_came(runs, monkeypatch):
    """Models by name that nobody tuned, at a task without a head."""
    monkeypatch.setattr(
        subjects.bundles, "open_model", lambda name: SimpleNamespace(path=None, name=name)
    )
    monkeypatch.setattr(subjects, "WITHOUT_HEAD", ("tiny",))
    monkeypatch.setattr(
        Counting, "make", lambda bundle, parts: Counting(4 if bundle.name.endswith("bad") else 0),
        raising=False,
    )  # fmt: skip
    monkeypatch.setattr(Counting, "build", lambda self, bundle: torch.nn.Linear(1, 1))
    return runs


def test_models_as_they_came_keep_their_names_and_share_a_look(as_they_came, tmp_path):
    ask = {"part": "test", "task": "tiny", "data": "letters", "out": tmp_path / "out"}
    record, folder = assessing.evaluate_run("good", against="hub/bad", **ask)
    assert (record.run, record.against.other, record.look) == ("good", "bad", 1)
    assert record.against.verdict.startswith("Better than bad in accuracy")
    assert record.predictions.startswith("good-test-letters")
    again, _ = assessing.evaluate_run("bad", **ask)
    assert (again.run, again.look) == ("bad", 2)
    assert (folder / record.predictions).is_file()


def test_a_model_as_it_came_is_compared_with_what_became_of_it(as_they_came, lines, tmp_path):
    """On the run's own division, so that none of the examples was learnt from."""
    run = as_they_came("run", data=str(lines), method="full", wrong=2, seed=7)
    record, _ = assessing.evaluate_run(
        "good", part="test", task="tiny", against=str(run), out=tmp_path / "out"
    )
    assert record.examples_hash == hash_of(divided(lines, seed=7).test)
    assert (record.run, record.against.other) == ("good", "run")
    assert record.against.differences[0].theirs < 1
    assert (run / looks.LOOKS).is_file()


def test_no_readme_but_a_runs_card_takes_figures(as_they_came, tmp_path):
    """With --task the folder is where the record goes, whatever else lies there."""
    ours = "# tiny on mine\n\nMade from minilm by hornbook 0.1.0: full.\n\n## Data\n"
    for name, text in (("project", "# My project\n"), ("other", ours)):
        out = tmp_path / name
        out.mkdir()
        (out / "README.md").write_text(text)
        ask = ["--on", "test", "--task", "tiny", "--data", "letters", "--out", str(out)]
        said = CliRunner().invoke(app, ["evaluate", "good", *ask])
        assert said.exit_code == 0, said.output
        assert (out / "README.md").read_text() == text
        assert "the card" not in said.output
    run = as_they_came("run", method="full")
    (run / "README.md").write_text(ours)
    said = CliRunner().invoke(app, ["evaluate", str(run), "--on", "test"])
    assert "the card has the figures too" in said.output
    assert "On 120 test examples" in (run / "README.md").read_text()


def test_figures_of_a_model_as_it_came_do_not_lie_among_a_runs(as_they_came):
    run = as_they_came("run", method="full")
    with pytest.raises(ConfigError, match="is a fine-tuned run") as caught:
        assessing.evaluate_run("good", part="test", task="tiny", data="letters", out=run)
    assert "another folder" in caught.value.hint
    assert not (run / looks.LOOKS).exists()


def test_choosing_between_trials_by_test_is_refused(runs, tmp_path):
    first, second = runs("search/trials/0"), runs("search/trials/1", wrong=4)
    (tmp_path / "search" / looks.SEARCH).write_text("{}")
    with pytest.raises(ConfigError, match="trials of one search"):
        assessing.evaluate_run(str(first), part="test", against=str(second))
    assessing.evaluate_run(str(first), part="validation", against=str(second))
    assert assessing.evaluate_run(str(first), part="test")[0].look == 1
    again = assessing.evaluate_run(str(second), part="test")[0]
    assert again.look == 2  # one after the other is choosing too
    assert any("trials of this search" in note for note in again.notes)


def test_runs_of_other_tasks_are_not_compared(runs, monkeypatch):
    good, other = runs("good"), runs("other")
    monkeypatch.setattr(
        assessing, "tuned", lambda run: subjects.Subject(
            run, subjects.folder_of(run), Opened(None, torch.nn.Linear(1, 1), _named(run)), {}
        ),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="made for 'good'"):
        assessing.evaluate_run(str(good), part="validation", against=str(other))


def _named(run):
    task = Counting()
    task.name = run.rpartition("/")[2]
    return task


def test_a_model_as_it_came_is_not_judged_by_a_head_of_noise(runs):
    with pytest.raises(ConfigError, match="its head would be noise"):
        assessing.evaluate_run("minilm", part="test", task="classify", data="x")


@pytest.mark.parametrize("beside", ["task.json", "../config.yaml"])
def test_a_fine_tuned_model_is_not_judged_as_if_it_came_so(beside, tmp_path, monkeypatch):
    """--task would go round the division of its data, the count of looks and refuse_selection."""
    model = tmp_path / "trials/003/model"
    model.mkdir(parents=True)
    (model / beside).write_text('{"task": "chat", "method": "full"}')
    monkeypatch.setattr(
        subjects.bundles, "open_model", lambda name: SimpleNamespace(path=model, name=name)
    )
    with pytest.raises(ConfigError, match="was fine-tuned") as caught:
        assessing.evaluate_run(
            str(model), part="test", task="chat", data="letters", out=tmp_path / "out"
        )
    assert "without --task" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_models_are_moved_to_where_their_batches_are(runs, monkeypatch):
    devices = []

    def assess(model, *rest, device, **more):
        devices.append((model.weight.device.type, device))
        return real(model, *rest, device=device, **more)

    real = assessing.assess
    monkeypatch.setattr(assessing, "assess", assess)
    monkeypatch.setattr(assessing, "choose_precision", lambda: SimpleNamespace(device="meta"))
    good, bad = runs("good"), runs("bad", wrong=4)
    assessing.evaluate_run(str(good), part="validation", against=str(bad))
    assert devices == [("meta", "meta")] * 2


def test_separators_that_are_no_newlines_end_no_line(tmp_path):
    """JSON that is written as it is holds U+2028, U+2029 and U+0085 inside of its strings."""
    said = "a\u2028b\u2029c\u0085d"
    for _ in range(2):
        found = looks.look(tmp_path, data=said, examples_hash="h")
    assert found.number == 2
    assert looks._looks(tmp_path / looks.LOOKS) == ["h", "h"]
    line = json.dumps({"prediction": said}, ensure_ascii=False) + "\n"
    (tmp_path / "validation.jsonl").write_text(2 * line, encoding="utf-8")
    assert predictions_in(tmp_path) == [said, said]


def test_what_is_printed(runs):
    good, bad = runs("good"), runs("bad", wrong=4)
    ask = ["evaluate", str(good), "--on", "test", "--against", str(bad)]
    said = CliRunner().invoke(app, ask)
    assert said.exit_code == 0, said.output
    assert "good: tiny, 120 test examples" in said.output
    assert "+0.250" in said.output and "< 0.001" in said.output
    assert "not to choose by it" in said.output
    found = json.loads(CliRunner().invoke(app, [*ask, "--json"]).stdout)
    assert found["look"] == 2 and found["against"]["other"] == "bad"


def test_names_out_of_the_data_are_printed_as_they_are(runs, monkeypatch):
    """A label [toxic] is no style, and [/b] ends none."""
    metrics = Counting.metrics

    def named(self, examples, predictions):
        (found,) = metrics(self, examples, predictions)
        return [found, replace(found, name="f1_[toxic]"), replace(found, name="f1_[/b]")]

    monkeypatch.setattr(Counting, "metrics", named)
    good, bad = runs("good"), runs("bad", wrong=4)
    said = CliRunner().invoke(app, ["evaluate", str(good), "--against", str(bad)])
    assert said.exit_code == 0, said.output
    assert said.output.count("f1_[toxic]") == 2 and said.output.count("f1_[/b]") == 2
