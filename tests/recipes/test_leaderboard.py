"""`hornbook runs`: one table a set of examples, best first, with what spoils it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import tiny_task
import yaml
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.errors import CheckpointError
from hornbook.evaluation import looks
from hornbook.evaluation.evaluate import hash_of
from hornbook.recipes.assessing import drawn
from hornbook.recipes.kinds import KINDS
from hornbook.recipes.leaderboard import boards_of
from hornbook.records import AdaptSummary, AssessmentRecord, CorpusRecord, MetricRecord
from hornbook.runs import environment
from hornbook.tasks.task import Parts


class Lines(tiny_task.Tiny):
    """A file's lines, divided by the seed; it counts how often it reads."""

    n_read = 0

    @classmethod
    def open_data(cls, data, columns, *, seed) -> Parts:
        cls.n_read += 1
        start = int(columns.get("text", 0))  # its columns are its letters
        found = [tiny_task.Letters(t[start:], "a") for t in Path(data).read_text().split()]
        random.Random(seed).shuffle(found)
        return Parts(data, found[100:], found[:50], found[50:100])


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS._table, "tiny", f"{__name__}:Lines")
    monkeypatch.setattr(Lines, "n_read", 0)
    data = tmp_path / "lines.txt"
    data.write_text("\n".join(f"{i:012b}" for i in range(200)))

    def make(name, value, *, seed=0):
        folder = tmp_path / "runs" / name
        (folder / "evaluations").mkdir(parents=True)
        settings = {"data": str(data), "seed": seed, "method": "full"}
        (folder / "config.yaml").write_text(yaml.safe_dump(settings))
        parts = Lines.open_data(str(data), {}, seed=seed)
        (folder / "summary.json").write_text(_summary(parts, value).model_dump_json())
        Lines.n_read = 0
        return folder

    return make


def _metric(value):
    return MetricRecord(name="accuracy", value=value, low=value - 0.1, high=value + 0.1)


def _summary(parts, value):
    return AdaptSummary(
        model="bert",
        n_parameters=9,
        corpus=CorpusRecord(name="lines", n_train_tokens=9, n_validation_tokens=9),
        unit="token",
        vocab_size=9,
        status="finished",
        n_steps=9,
        n_tokens=9,
        seconds=1.0,
        settings={},
        environment=environment(device="cpu", precision="float32"),
        hashes={
            "training examples": hash_of(parts.train),
            "validation examples": hash_of(parts.validation),
        },
        command="hornbook finetune",
        started="2026-11-20T10:00:00",
        task="tiny",
        base_model="minilm",
        method="full",
        n_trained=9,
        n_train=100,
        n_validation=50,
        best="accuracy",
        metrics=[_metric(value)],
    )


def evaluated(folder, value, *, seed=0, part="test", name="test", limit=None, read=None, **changes):
    data = yaml.safe_load((folder / "config.yaml").read_text())["data"]
    every = getattr(Lines.open_data(data, read or {}, seed=seed), part)
    examples = [every[i] for i in drawn(len(every), limit)]
    whole = hash_of(every)
    look = looks.look(folder, data=data, examples_hash=whole).number if part == "test" else 0
    record = AssessmentRecord(
        run=folder.name,
        task="tiny",
        data=data,
        part=part,
        n_examples=len(examples),
        examples_hash=hash_of(examples),
        part_hash=whole,
        n_part=len(every),
        metrics=[_metric(value)],
        look=look,
        seconds=1.0,
        **({"at": "2026-11-21T10:00:00"} | changes),
    )
    (folder / "evaluations" / f"{name}.json").write_text(record.model_dump_json())


def test_runs_of_the_same_examples_stand_in_one_table_best_first(run, tmp_path):
    for name, value in (("a", 0.7), ("b", 0.9), ("search/trials/000", 0.8)):
        run(name, value)
    evaluated(tmp_path / "runs/a", 0.6)
    Lines.n_read = 0
    test, validation = boards_of(tmp_path / "runs")
    assert (test.part, [row.run for row in test.rows]) == ("test", ["a"])
    assert [row.run for row in validation.rows] == ["b", "search/trials/000", "a"]
    assert [row.metric.value for row in validation.rows] == [0.9, 0.8, 0.7]
    assert (validation.data, validation.n_examples, validation.warnings) == ("lines", 50, [])
    assert Lines.n_read == 0  # divided alike, by their hashes


def test_the_newest_figure_counts(run, tmp_path):
    folder = run("a", 0.7)
    evaluated(folder, 0.5, part="validation", name="old", at="2026-11-21T10:00:00")
    evaluated(folder, 0.6, part="validation", name="against", at="2026-11-22T10:00:00")
    (board,) = boards_of(tmp_path / "runs")
    assert [row.metric.value for row in board.rows] == [0.6]


def test_examples_that_another_run_learnt_from_are_warned_of(run, tmp_path):
    """Another seed puts about half of each validation part into the other's training part."""
    run("a", 0.7)
    run("b", 0.9, seed=1)
    boards = boards_of(tmp_path / "runs")
    assert len(boards) == 2
    for board, other in zip(sorted(boards, key=lambda b: b.rows[0].run), "ba", strict=True):
        (warning,) = board.warnings
        assert f"of these 50 examples are in the training part of {other}" in warning
        n = int(warning.split()[0])
        assert 15 < n < 35


def test_data_that_changed_tell_nothing(run, tmp_path):
    run("a", 0.7)
    run("b", 0.9, seed=1)
    (tmp_path / "lines.txt").write_text("\n".join(f"{i:013b}" for i in range(200)))
    assert all("have changed or are gone" in b.warnings[0] for b in boards_of(tmp_path / "runs"))


def test_another_column_is_no_change_of_the_data(run, tmp_path):
    """Who learnt from the one column can't be told of another; nor of a record without columns."""
    folder = run("a", 0.7)
    run("b", 0.9, seed=1)
    evaluated(folder, 0.6, read={"text": "2"}, columns={"text": "2"})
    assert boards_of(tmp_path / "runs")[0].warnings == [
        "Whether b learnt from these examples can't be told: it read other columns."
    ]
    evaluated(folder, 0.6, read={"text": "2"})
    assert boards_of(tmp_path / "runs")[0].warnings == [
        "The record does not say with which --column they were read: who learnt from these can't "
        "be told."
    ]
    evaluated(folder, 0.6, columns={})
    (warning,) = boards_of(tmp_path / "runs")[0].warnings
    assert "are in the training part of b" in warning


def test_some_of_a_part_are_found_again_and_their_looks_counted(run, tmp_path):
    folder = run("a", 0.7)
    run("b", 0.9, seed=1)
    evaluated(folder, 0.6, limit=20)
    evaluated(folder, 0.6, limit=20)
    board = boards_of(tmp_path / "runs")[0]
    assert (board.part, board.n_examples, board.n_part) == ("test", 20, 50)
    assert board.rows[0].n_looks == 2
    (warning,) = board.warnings
    assert "of these 20 examples are in the training part of b" in warning
    said = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")]).output
    assert "tiny on lines, 20 of 50 test examples" in said
    assert "a was evaluated on this test part 2 times" in said


def test_of_other_data_nothing_is_said_to_have_changed(run, tmp_path):
    """Who learnt from them their own records say; the data of training tell nothing of them."""
    folder = run("a", 0.7)
    run("b", 0.9, seed=1)
    fresh = tmp_path / "fresh.txt"
    fresh.write_text("01 10")
    of_fresh = {"data": str(fresh), "n_examples": 2, "examples_hash": "f" * 64, "n_part": 2}
    evaluated(folder, 0.6)
    record = folder / "evaluations" / "test.json"
    for part in ("all", "test"):
        said = json.loads(record.read_text()) | of_fresh | {"part": part, "part_hash": "f" * 64}
        record.write_text(json.dumps(said))
        board = boards_of(tmp_path / "runs")[0]
        assert (board.data, board.part, board.warnings) == ("fresh", part, [])


def test_fits_of_a_learning_curve_are_no_runs(run, tmp_path):
    run("a", 0.7)
    run("a/curve/93", 0.6)
    run("curve/b", 0.8)
    (board,) = boards_of(tmp_path / "runs")
    assert [row.run for row in board.rows] == ["curve/b", "a"]


def test_what_is_printed(run, tmp_path):
    folder = run("[toxic]", 0.7)
    run("b", 0.9)
    evaluated(folder, 0.6)
    evaluated(folder, 0.65, warnings=["The data have changed."])
    (tmp_path / "runs" / "notes").mkdir()
    (tmp_path / "runs" / "notes" / "summary.json").write_text("{}")
    said = CliRunner().invoke(app, ["runs", str(tmp_path / "runs")])
    assert said.exit_code == 0, said.output
    assert "tiny on lines, 50 validation examples" in said.output
    assert "[toxic]  minilm  full       0.700  0.600 to 0.800  2026-11-20" in said.output
    assert "[toxic] was evaluated on this test part 2 times" in said.output
    assert "warning: [toxic]: The data have changed." in said.output
    assert "first by luck too" in said.output
    found = json.loads(CliRunner().invoke(app, ["runs", str(tmp_path / "runs"), "--json"]).stdout)
    assert [row["run"] for row in found[1]["rows"]] == ["b", "[toxic]"]
    assert found[0]["rows"][0]["metric"]["low"] == pytest.approx(0.55)


def test_a_folder_that_is_not_there_or_holds_nothing(tmp_path):
    with pytest.raises(CheckpointError, match="no folder"):
        boards_of(tmp_path / "nowhere")
    assert "No fine-tuned run" in CliRunner().invoke(app, ["runs", str(tmp_path)]).output
