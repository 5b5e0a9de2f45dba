from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

import hornbook as hb
from hornbook.compare import launch
from hornbook.compare.layout import StudyFolder, read_arrays
from hornbook.compare.study import Study, StudyInterrupted, open_study
from hornbook.data.examples import Document, Example, TextDataset, targets_of
from hornbook.errors import CheckpointError, ConfigError, DataError, StudyError, UnknownNameError
from hornbook.records import StudyRecord, Summary, TechniqueResult
from hornbook.runs import locked

FAKES = Path(__file__).with_name("fake_techniques.py")
TOPICS = {
    "ships": ["port", "vessel", "cargo", "anchor", "harbour", "crew", "deck"],
    "wheat": ["grain", "harvest", "tonnes", "crop", "field", "flour", "mill"],
    "gold": ["ounce", "mine", "metal", "bullion", "vein", "shaft", "ore"],
}
FILLER = ["the", "of", "and", "in", "to", "was", "with", "from", "over", "said", "new", "more"]


def fake(name: str) -> str:
    return f"{FAKES}:{name}"


def examples(n: int, seed: int, multi_label: bool = False) -> list[Example]:
    rng = random.Random(seed)
    made = []
    for i in range(n):
        labels = tuple(sorted(rng.sample(list(TOPICS), rng.choice([1, 2]) if multi_label else 1)))
        words = [rng.choice(TOPICS[label]) for label in labels for _ in range(2)]
        words += rng.choices(FILLER, k=12)
        rng.shuffle(words)
        made.append(Example(Document(" ".join(words)), labels, id=f"{seed}-{i}"))
    return made


def dataset(multi_label: bool = False) -> TextDataset:
    train, test = examples(150, 1, multi_label), examples(60, 2, multi_label)
    return TextDataset("topics", train, test, multi_label=multi_label, source="made up")


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_label_unseen_in_training_counts_as_missed(tmp_path, multi_label):
    """Scores equal scikit-learn's over all labels of the test; macro-F1 is over the learnt ones."""
    data = dataset(multi_label)
    new = ("new", "ships") if multi_label else ("new",)
    test = [Example(e.document, new if i < 20 else e.labels, e.id) for i, e in enumerate(data.test)]
    data = TextDataset("topics", data.train, test, multi_label=multi_label, source="made up")
    study = hb.compare(data, techniques=[fake("Words")], out=tmp_path / "run")
    row = study.leaderboard[0]
    names = [*TOPICS, "new"]
    said = study.best.predict([e.document for e in test])
    truth = targets_of(test, names)
    given = np.array([[n in (s if multi_label else [s]) for n in names] for s in said])
    assert row.micro_f1 == pytest.approx(f1_score(truth, given, average="micro"))
    assert row.weighted_f1 == pytest.approx(f1_score(truth, given, average="weighted"))
    assert row.accuracy == pytest.approx(accuracy_score(truth, given))
    assert row.accuracy <= 40 / 60
    if not multi_label:
        assert row.micro_f1 == pytest.approx(row.accuracy)
    macro = f1_score(truth[:, :-1], given[:, :-1], average="macro", zero_division=0)
    assert row.macro_f1 == pytest.approx(macro)
    assert row.ci_low <= row.micro_f1 <= row.ci_high


def test_a_handful_of_test_texts_proves_nothing(tmp_path):
    rare = next(e for e in examples(40, 6) if e.labels == ("wheat",))
    data = TextDataset("few", dataset().train, [rare] * 3)
    run = hb.compare(data, techniques=["majority", fake("Words")], out=tmp_path / "run")
    first, second = run.leaderboard
    assert (first.micro_f1, second.micro_f1) == (1.0, 0.0)
    assert second.ties_with_leader


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    """One that works, one that crashes, one that is killed, and so on: the others go on."""
    names = ["Words", "Crash", "Killed", "Quitter", "TooLittle", "WrongShape", "Incomplete"]
    return hb.compare(
        dataset(),
        techniques=["majority", *map(fake, names), fake("NoTechnique")],
        budget="30s",
        out=tmp_path_factory.mktemp("runs") / "topics",
    )


def results(study: Study) -> dict[str, TechniqueResult]:
    lines = (study.folder / "results.jsonl").read_text().splitlines()
    return {r.technique: r for r in map(TechniqueResult.model_validate_json, lines)}


def test_the_best_comes_first_and_predicts(study):
    assert [row.technique for row in study.leaderboard] == ["words", "majority"]
    first, last = study.leaderboard
    assert first.micro_f1 > 0.9 > last.micro_f1
    assert first.ci_low <= first.micro_f1 <= first.ci_high
    assert first.ties_with_leader and not last.ties_with_leader and last.p_value < 0.05
    assert study.best.predict(["vessel cargo", "grain crop"]) == ["ships", "wheat"]
    assert study.recommended.name == study.best.name == "words"
    with pytest.raises(DataError, match="text 1 is no text but None"):
        study.best.predict(["vessel cargo", None])
    assert "words" in repr(study.leaderboard) and "words" in study.summary.advice
    probabilities = study.best.probabilities(["vessel cargo"])[0]
    assert set(probabilities) == set(TOPICS) and sum(probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "status", "said"),
    [
        ("crash", "failed", "ValueError: no good"),
        ("killed", "killed", "SIGKILL"),
        ("quitter", "failed", "code 3"),
        ("too-little", "skipped", "It needs about 90 s."),
        ("wrong-shape", "failed", "shape (14, 2), not (14, 3)"),
        ("incomplete", "failed", "some validation texts"),
        ("no-technique", "failed", "lacks name, summary, scores, save, load"),
    ],
)
def test_what_goes_wrong_becomes_a_row_that_says_so(study, name, status, said):
    result = results(study)[name]
    assert result.status == status
    if name == "wrong-shape":
        n_validation = study.summary.splits["validation"]
        said = said.replace("14", str(n_validation))
    assert said in result.message
    assert result.micro_f1 is None
    assert name in {r.technique for r in study.summary.not_finished}


def test_the_log_holds_the_traceback_and_what_libraries_print(study):
    folder = StudyFolder(study.folder)
    assert "Traceback" in folder.run("crash", 0).log.read_text()
    assert "a library that prints" in folder.run("words", 0).log.read_text()


def test_costs_are_measured(study):
    result = results(study)["words"]
    assert 0 < result.fit_seconds < 30
    assert result.cpu_seconds > 0 and result.peak_bytes > 10e6
    assert 0 < result.p50_ms <= result.p95_ms
    assert result.texts_per_second > 10
    assert result.size_bytes > 100
    assert result.energy_kwh > 0 and result.energy_source in ("measured", "estimated")
    lines = (study.folder / "emissions.csv").read_text().splitlines()
    assert lines[0].startswith("timestamp,project_name,run_id")
    assert any("words/repeat-0" in line for line in lines[1:])


def test_the_machine_readable_files_hold_what_is_promised(study):
    line = json.loads((study.folder / "results.jsonl").read_text().splitlines()[0])
    promised = "technique repeat status micro_f1 macro_f1 weighted_f1 accuracy fit_seconds"
    promised += " cpu_seconds peak_bytes p50_ms p95_ms texts_per_second size_bytes energy_kwh"
    assert set((promised + " energy_source").split()) <= set(line)
    summary = json.loads((study.folder / "summary.json").read_text())
    assert {"dataset", "splits", "n_labels", "leaderboard", "advice"} <= set(summary)
    row = summary["leaderboard"][0]
    promised = "technique micro_f1 macro_f1 accuracy ci_low ci_high ties_with_leader fit_seconds"
    assert set(promised.split()) <= set(row)
    record = StudyRecord.model_validate_json((study.folder / "study_record.json").read_bytes())
    assert record.summary == Summary.model_validate(summary)
    assert len(record.per_label["words"]) == 3
    assert study.report.read_text().lower().startswith("<!doctype html>")
    assert (StudyFolder(study.folder).run("words", 0).model / "README.md").exists()


def test_test_labels_lie_apart_from_test_texts(study):
    lines = (study.folder / "data" / "test_documents.jsonl").read_text().splitlines()
    assert len(lines) == 60
    assert all(json.loads(line)["labels"] == [] for line in lines)


def test_no_worker_opens_the_test_labels_or_a_socket(tmp_path, monkeypatch):
    """A hook in every worker, from its first moment, notes each file and socket it opens."""
    log = tmp_path / "opened.txt"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"log = os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "def hook(event, arguments):\n"
        "    if event in ('open', 'socket.connect', 'socket.getaddrinfo'):\n"
        "        os.write(log, f'{event} {arguments[0]}\\n'.encode())\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    study = hb.compare(
        dataset(), techniques=["majority", fake("Words"), fake("Mixer")], out=tmp_path / "run"
    )
    assert [r.status for r in results(study).values()] == ["ok"] * 3
    opened = log.read_text().splitlines()
    assert any(line.endswith("test_documents.jsonl") for line in opened)
    assert not [line for line in opened if "test_targets" in line]
    assert not [line for line in opened if line.startswith("socket")]


def test_test_labels_change_no_prediction(tmp_path):
    """The same texts with shuffled test labels: every score said of them is the same to the bit."""
    data = dataset()
    labels = [e.labels for e in data.test]
    random.Random(0).shuffle(labels)
    shuffled = [Example(e.document, given, e.id) for e, given in zip(data.test, labels)]
    other = TextDataset("topics", data.train, shuffled, source="made up")
    said = []
    for k, given in enumerate([data, other]):
        run = hb.compare(given, techniques=["tfidf-svm", fake("Words")], out=tmp_path / str(k))
        folder = StudyFolder(run.folder)
        said.append([read_arrays(folder.run(n, 0).test_scores) for n in ("tfidf-svm", "words")])
        assert (run.leaderboard[0].micro_f1 > 0.9) == (k == 0)
    for one, two in zip(*said):
        for name in ("scores", "probabilities", "predictions"):
            np.testing.assert_array_equal(one[name], two[name])


def test_several_labels_and_repeats(tmp_path):
    study = hb.compare(
        dataset(multi_label=True),
        techniques=[fake("Words"), fake("Seeded"), fake("Mixer")],
        repeats=2,
        out=tmp_path / "run",
    )
    rows = {row.technique: row for row in study.leaderboard}
    assert set(rows) == {"words", "seeded", "mixer"}
    assert all(row.n_repeats == 2 for row in rows.values())
    folder = StudyFolder(study.folder)
    assert folder.rows(0) != folder.rows(1)
    found = [folder.run("seeded", k).result().micro_f1 for k in (0, 1)]
    assert rows["seeded"].micro_f1 == pytest.approx(np.mean(found))
    predicted = study.best.predict([e.document for e in dataset(multi_label=True).test])
    assert {len(labels) for labels in predicted} >= {1, 2}
    members = json.loads((folder.run("mixer", 1).model / "members.json").read_text())
    assert members == ["seeded", "words"]
    mixed = folder.run("mixer", 0).result()
    assert mixed.fit_seconds > sum(folder.run(n, 0).result().fit_seconds for n in members)


def test_an_overrunning_fit_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "fit_limit", lambda seconds: 1.0)
    study = hb.compare(
        dataset(), techniques=[fake("Sleeper"), fake("Words")], budget=1, out=tmp_path / "run"
    )
    found = results(study)
    assert found["sleeper"].status == "killed" and "budget" in found["sleeper"].message
    assert found["words"].status == "ok"


def test_ctrl_c_keeps_what_has_finished_and_resume_does_the_rest(tmp_path, monkeypatch):
    def interrupt(progress):
        if progress.stage == "sleeping":
            raise KeyboardInterrupt

    techniques = [fake("Words"), fake("Sleeper"), fake("Seeded")]
    with pytest.raises(StudyInterrupted, match="--resume") as caught:
        hb.compare(dataset(), techniques=techniques, out=tmp_path / "run", listener=interrupt)
    study = caught.value.study
    assert [row.technique for row in study.leaderboard] == ["words"]
    assert {r.technique for r in study.summary.not_finished} == {"sleeper", "seeded"}
    assert study.report.exists()

    kept = StudyFolder(study.folder).run("words", 0).result()
    monkeypatch.setenv("SLEEPER_AWAKE", "1")
    resumed = hb.compare(study.folder, resume=True)
    assert {row.technique for row in resumed.leaderboard} == {"words", "sleeper", "seeded"}
    assert StudyFolder(study.folder).run("words", 0).result() == kept


def test_what_a_total_has_spent_stays_spent_when_resumed(tmp_path, monkeypatch):
    def interrupt(progress):
        if progress.stage == "sleeping":
            raise KeyboardInterrupt

    names = [fake("Words"), fake("Sleeper"), fake("Seeded")]
    with pytest.raises(StudyInterrupted):
        hb.compare(dataset(), techniques=names, total=300, out=tmp_path / "run", listener=interrupt)
    folder = StudyFolder(tmp_path / "run")
    taken = folder.seconds()
    assert 0 < taken < 60
    folder.write_seconds(250)
    monkeypatch.setenv("SLEEPER_AWAKE", "1")
    said = []
    hb.compare(folder.path, resume=True, total="5m", listener=lambda p: said.append(p.stage))
    assert any("of 5m 00s are spent" in stage for stage in said)
    first, second = (folder.run(name, 0).result().budget_seconds for name in ("words", "sleeper"))
    assert first > 80 and second < 25
    assert folder.seconds() > 250
    assert Study(folder.path).summary.seconds == folder.seconds()


def test_resume_refuses_other_data_and_other_settings(study):
    with pytest.raises(StudyError, match="exists already"):
        hb.compare(dataset(), out=study.folder)
    techniques = StudyFolder(study.folder).plan().settings.techniques
    with pytest.raises(StudyError, match="repeats was 1, is 2"):
        hb.compare(
            dataset(), techniques=techniques, budget=30, repeats=2, out=study.folder, resume=True
        )
    with pytest.raises(StudyError, match="other data"):
        hb.compare(dataset(True), techniques=techniques, budget=30, out=study.folder, resume=True)


def test_techniques_are_told_which_texts_are_near_duplicates(tmp_path):
    once = examples(80, 5)
    twice = [Example(Document(e.document.text + " again"), e.labels, e.id + "b") for e in once]
    data = TextDataset("copies", [*once, *twice], dataset().test)
    run = hb.compare(data, techniques=[fake("Words")], repeats=2, out=tmp_path / "run")
    folder = StudyFolder(run.folder)
    for repeat in (0, 1):
        train, validation = folder.labelled(repeat, folder.problem())
        assert not set(train.groups) & set(validation.groups)
        whole = train + validation
        for number, document in zip(whole.groups, whole.documents):
            text = document.text.removesuffix(" again")
            twins = {d.text.removesuffix(" again") for g, d in zip(whole.groups, whole.documents)
                     if g == number}  # fmt: skip
            assert twins == {text}
        assert len(set(whole.groups)) == 80


def test_overwriting_loses_nothing_until_the_new_run_is_complete(tmp_path):
    out = tmp_path / "run"
    hb.compare(dataset(), techniques=["majority"], out=out)
    old = (out / "summary.json").read_bytes()

    def interrupt(progress):
        if progress.technique:
            raise KeyboardInterrupt

    for _ in range(2):  # the second time, an unfinished run must not push out the finished one
        with pytest.raises(StudyInterrupted, match=r"run\.previous"):
            hb.compare(
                dataset(), techniques=[fake("Words")], out=out, overwrite=True, listener=interrupt
            )
        assert (tmp_path / "run.previous" / "summary.json").read_bytes() == old
    hb.compare(dataset(), techniques=[fake("Words")], out=out, overwrite=True)
    assert not (tmp_path / "run.previous").exists()
    assert open_study(out).summary.best == "words"


def test_a_run_that_dies_or_in_which_nothing_finishes_says_where_the_older_one_is(
    tmp_path, monkeypatch
):
    out = tmp_path / "run"
    hb.compare(dataset(), techniques=["majority"], out=out)
    old = (out / "summary.json").read_bytes()
    failed = hb.compare(dataset(), techniques=[fake("Crash")], out=out, overwrite=True)
    assert failed.summary.best is None
    kept = tmp_path / "run.previous" / "summary.json"
    assert kept.read_bytes() == old

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("hornbook.compare.study.write_outcome", full)
        with pytest.raises(OSError, match="No space") as caught:
            hb.compare(dataset(), techniques=["majority"], out=out, overwrite=True)
    assert any("run.previous" in note for note in caught.value.__notes__)
    assert any("run --resume" in note for note in caught.value.__notes__)
    assert kept.read_bytes() == old
    hb.compare(out, resume=True)
    assert not kept.exists()


def test_a_foreign_folder_is_never_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StudyError, match="no study"):
        hb.compare(dataset(), techniques=["majority"], out=tmp_path, overwrite=True)
    assert (tmp_path / "thesis.txt").exists()


def test_a_users_file_is_run_only_when_it_is_trusted(study):
    reopened = open_study(study.folder)
    with pytest.raises(ConfigError, match="runs that file"):
        _ = reopened.best
    assert reopened.technique("majority").predict(["x"])
    with pytest.raises(UnknownNameError, match="crash"):
        reopened.technique("crash")


@pytest.mark.parametrize("damaged", ["technique.json", "decision.json", "words.json"])
def test_a_damaged_model_says_so(study, tmp_path, damaged):
    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    path = folder / "techniques" / "words" / "repeat-0" / "model" / damaged
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(CheckpointError):
        Study(folder, study._trusted.values()).technique("words")


@pytest.mark.parametrize("part", ["slope", "bias", "thresholds"])
def test_a_decision_for_other_labels_says_so(study, tmp_path, part):
    folder = tmp_path / "copy"
    shutil.copytree(study.folder, folder)
    path = folder / "techniques" / "majority" / "repeat-0" / "model" / "decision.json"
    decision = json.loads(path.read_text())
    decision[part].append(1.0)
    path.write_text(json.dumps(decision))
    with pytest.raises(CheckpointError, match="not for the 3 labels"):
        Study(folder).technique("majority")


def test_damaged_scores_say_so(study, tmp_path):
    path = tmp_path / "scores.safetensors"
    path.write_bytes(StudyFolder(study.folder).run("words", 0).test_scores.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"scores\.safetensors"):
        read_arrays(path)


def test_pairs_dicts_and_frames_are_data_too(tmp_path):
    pandas = pytest.importorskip("pandas")
    pairs = [(e.document.text, e.labels[0]) for e in examples(90, 3)]
    dicts = [{"body": text, "topic": label} for text, label in pairs]
    fingerprints = set()
    for k, data in enumerate([pairs, dicts, pandas.DataFrame(dicts)]):
        columns = {} if k == 0 else {"text": "body", "label": "topic"}
        study = hb.compare(data, techniques=["majority"], out=tmp_path / str(k), **columns)
        fingerprints.add(StudyFolder(study.folder).plan().dataset.sha256)
    assert len(fingerprints) == 1


def test_a_frame_with_a_column_called_name_and_arrays_of_labels(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = examples(90, 4, multi_label=True)
    frame = pandas.DataFrame(
        {
            "name": [e.document.text for e in rows],
            "tags": [np.array(e.labels, object) for e in rows],  # as read from parquet
        }
    )
    frame.loc[0, "name"] = pandas.NA
    study = hb.compare(frame, text="name", techniques="majority", out=tmp_path / "run")
    plan = StudyFolder(study.folder).plan()
    assert plan.dataset.multi_label and set(plan.dataset.label_names) == set(TOPICS)
    assert "1 row(s) without text were dropped." in plan.dataset.notes


def test_a_run_is_not_replaced_while_it_is_written_to_or_when_the_disk_is_full(
    tmp_path, monkeypatch
):
    out = tmp_path / "run"
    hb.compare(dataset(), techniques=["majority"], out=out)
    with locked(out), pytest.raises(StudyError, match="another process"):
        hb.compare(dataset(), techniques=["majority"], out=out, overwrite=True)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StudyFolder, "write_data", full)
    with pytest.raises(OSError, match="No space"):
        hb.compare(dataset(), techniques=["majority"], out=out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert open_study(out).best.predict(["x"])
