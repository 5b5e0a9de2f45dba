"""The parts of a study that need no process: sources, settings, shares, advice, a closer look."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hornbook.compare.advice import advise, recommend
from hornbook.compare.cost import EnergyMeter, latencies
from hornbook.compare.examine import hardest, mislabelled
from hornbook.compare.judge import Judge, Verdicts
from hornbook.compare.layout import StudyFolder
from hornbook.compare.prepare import command_of, prepare
from hornbook.compare.schedule import Shares
from hornbook.compare.settings import StudySettings
from hornbook.compare.sources import Source, resolve, source_of
from hornbook.compare.techniques import TECHNIQUES
from hornbook.config import format_duration, parse_duration, settings_from
from hornbook.data.examples import Document, Example, Problem
from hornbook.errors import ConfigError, UnknownNameError
from hornbook.records import LeaderboardRow
from hornbook.training.memory import peak_bytes

FAKES = Path(__file__).with_name("fake_techniques.py")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("2.5m", 150), ("7", 7), (8, 8)],
)
def test_durations(written, seconds):
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("wrong", ["soon", "", "5 minutes", "-3s", "0", "1e3", "m5", float("nan")])
def test_what_is_no_duration_is_refused(wrong):
    with pytest.raises(ConfigError, match="not a duration"):
        parse_duration(wrong)


def test_a_duration_read_back_is_the_one_written():
    for seconds in (2, 45, 120, 240, 3600, 5400):
        assert parse_duration(format_duration(seconds).replace(" ", "")) == seconds


def test_unknown_settings_are_refused_with_a_near_name():
    with pytest.raises(ConfigError, match="no setting named 'budgt'") as caught:
        settings_from(StudySettings, dataset="x", budgt=3)
    assert "Did you mean 'budget'" in caught.value.hint
    with pytest.raises(ConfigError, match=r"repeats: .*greater than or equal to 1 \(it is 0\)"):
        settings_from(StudySettings, dataset="x", repeats=0)


def test_techniques_run_cheap_ones_first_and_mixers_last():
    names = [s.name for s in resolve(["ensemble", f"{FAKES}:Words", "lora", "majority"])]
    assert names == ["majority", "lora", "words", "ensemble"]
    assert [s.name for s in resolve([f"{FAKES}:Mixer", f"{FAKES}:Words"])] == ["words", "mixer"]
    assert [s.name for s in resolve([])] == list(TECHNIQUES)


def test_a_users_file_is_not_run_to_learn_its_name(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("raise SystemExit('run!')\nclass MyOwnThing:\n    summary = 'x'\n")
    assert source_of(f"{path}:MyOwnThing").name == "my-own-thing"
    path.write_text("class Mine:\n    name = '../../outside'\n")
    with pytest.raises(ConfigError, match="cannot name a folder"):
        source_of(f"{path}:Mine")
    path.write_text("class Mine(\n")
    with pytest.raises(ConfigError, match="not Python"):
        source_of(f"{path}:Mine")
    path.write_text("class Mine:\n    name = 'lora'\n")
    with pytest.raises(ConfigError, match=r"(?s)like a technique that is built in.*'my-lora'"):
        source_of(f"{path}:Mine")
    with pytest.raises(UnknownNameError, match="no class Mind"):
        path.write_text("class Mine: pass\n")
        source_of(f"{path}:Mind")
    with pytest.raises(ConfigError, match="two techniques are named words"):
        resolve([f"{FAKES}:Words", f"{FAKES}:./Words".replace("./", "")])


def test_the_command_repeats_the_study():
    settings = StudySettings(
        dataset="my tickets.csv", label="topic", techniques=("lora",), total="4m", repeats=3
    )
    assert command_of(settings) == (
        "hornbook compare 'my tickets.csv' --label topic --techniques lora --total 4m00s "
        "--repeats 3"
    )
    assert command_of(StudySettings(dataset="pydocs")) == "hornbook compare pydocs"
    assert parse_duration("4m00s") == 240
    for seconds in (3725.0, 2.55):  # what minutes cannot say exactly
        words = command_of(StudySettings(dataset="pydocs", budget=seconds)).split()
        assert parse_duration(words[words.index("--budget") + 1]) == seconds


def test_what_a_cheap_technique_leaves_goes_to_the_others():
    waiting = [Source(n, n) for n in "abcd"] + [Source("mix", "mix", runs_last=True)]
    shares = Shares(300.0)
    first = shares.next(waiting, elapsed=0.0)
    assert first * 4.25 == pytest.approx(300 - 5 * 4)  # 4 s foreseen besides each fit
    shares.spent(2.0, 1.0)  # it took far less
    later = shares.next(waiting[1:], elapsed=2.0)
    assert later > first * 1.25
    shares.spent(later + 10, later)  # and one with much to do besides fitting
    foreseen = shares.next(waiting[2:], elapsed=2.0 + later + 10)
    assert foreseen * 2.25 == pytest.approx(300 - 12 - later - 3 * 5.5)
    assert shares.next(waiting[4:], elapsed=1000.0) == 1.0  # never nothing: it says so itself


def row(technique: str, f1: float, ties: bool, fit: float, p50: float = 5.0) -> LeaderboardRow:
    numbers = dict.fromkeys(("macro_f1", "weighted_f1", "accuracy"), f1)
    return LeaderboardRow(
        technique=technique, micro_f1=f1, ci_low=f1 - 0.01, ci_high=f1 + 0.01, **numbers,
        ties_with_leader=ties, fit_seconds=fit, cpu_seconds=fit, peak_bytes=1, p50_ms=p50,
        p95_ms=p50, texts_per_second=1, size_bytes=1, energy_kwh=0, energy_source="none",
        n_repeats=1,
    )  # fmt: skip


def test_the_advice_prefers_the_cheapest_of_those_that_tie():
    board = [
        row("finetune", 0.89, True, 120),
        row("tfidf-svm", 0.885, True, 20, 1.5),
        row("embed-logreg", 0.86, False, 10),
    ]
    assert recommend(board) == "tfidf-svm"
    advice = advise(board, 3)
    assert advice.startswith("Use tfidf-svm: micro-F1 0.885") and "20s" in advice
    assert "finetune scores 0.890" in advice and "2m 00s" in advice
    assert "no neural" not in advice


def test_the_advice_says_when_no_neural_technique_beats_the_linear_one():
    board = [row("tfidf-svm", 0.89, True, 20), row("finetune", 0.87, False, 120)]
    assert advise(board, 2).endswith(
        "It is ahead of finetune (0.870) beyond chance; no neural technique beats tfidf-svm here."
    )
    board.insert(1, row("tfidf-logreg", 0.88, False, 9))
    assert advise(board, 3).endswith(
        "It is ahead of all others beyond chance; the next, tfidf-logreg, reaches 0.880; no neural "
        "technique beats tfidf-svm (0.890) here: the best of them, finetune, reaches 0.870."
    )
    assert recommend([]) is None and "No technique finished" in advise([], 2)
    assert advise(board[:1], 2).startswith("Only tfidf-svm finished")
    assert advise(board[:1], 1).startswith("tfidf-svm ran alone")


def test_the_advice_on_equal_scores_speaks_of_no_lead():
    slow, quick = row("lora", 0.9, True, 50, 9.0), row("embed-knn", 0.9, True, 2, 12.0)
    assert advise([slow, quick], 2).endswith(
        "lora scores the same, but takes 50s to fit though only 9.0 ms a text."
    )
    assert "none scores higher and none that ties with it is cheaper" in advise([quick, slow], 2)
    alike = row("zero-shot", 0.895, True, 2, 5.0)
    assert advise([quick, alike], 2).endswith(
        "a lead that may be chance, and takes as long to fit."
    )
    linear = row("tfidf-svm", 0.9, True, 1)
    others = [row("tfidf-logreg", 0.9, True, 2), row("lora", 0.9, False, 50)]
    assert advise([linear, *others], 3).endswith("the best of them, lora, equals it.")


def test_the_floor_is_not_advised_because_the_test_texts_are_few():
    board = [
        row("lora", 0.9, True, 50),
        row("tfidf-svm", 0.8, True, 5),
        row("majority", 0.5, True, 0),
    ]
    assert recommend(board) == "tfidf-svm"
    assert "not even majority" in advise(board, 3) and "Use tfidf-svm" in advise(board, 3)
    assert advise([board[0], board[2]], 2).startswith("Use lora: ")
    assert "cheaper" not in advise([board[0], board[2]], 2)
    for f1 in (0.8, 0.9):
        leads = [row("majority", 0.9, True, 0), row("lora", f1, True, 50)]
        assert recommend(leads) == "majority"
        assert advise(leads, 2).startswith("No technique beats majority, which reads no text")


def judge(labels: list[str]) -> Judge:
    test = [Example(Document(f"text {i}"), (label,), str(i)) for i, label in enumerate(labels)]
    problem = Problem(("a", "b", "c"), multi_label=False)
    return Judge.over(SimpleNamespace(), problem, test)  # type: ignore[arg-type]


def say(*labels: str, sure: float = 0.95) -> Verdicts:
    predictions = np.array([[name == label for name in "abc"] for label in labels])
    return Verdicts(np.where(predictions, sure, (1 - sure) / 2), predictions)


def test_a_label_that_all_contradict_is_probably_wrong_and_one_in_dispute_is_only_hard():
    truth = judge(["a", "b", "c", "a"])
    said = {
        "one": say("a", "c", "a", "a"),
        "two": say("a", "c", "b", "a"),
        "three": say("a", "c", "c", "b"),
    }
    hard = hardest(truth, said)
    assert [text.id for text in hard] == ["1", "2", "3"]
    assert (hard[0].n_wrong, hard[0].n_techniques) == (3, 3)
    wrong = mislabelled(truth, said)
    assert [text.id for text in wrong] == ["1"]
    assert wrong[0].truth == ["b"] and wrong[0].predicted == ["c"]
    assert wrong[0].probability == pytest.approx(0.025)
    unsure = {name: say("a", "c", "a", "a", sure=0.6) for name in said}
    assert mislabelled(truth, unsure) == []


def test_a_label_unseen_in_training_makes_a_text_hard_and_never_mislabelled():
    truth = judge(["a", "new"])
    said = {name: say("a", "c") for name in ("one", "two", "three")}
    (hard,) = hardest(truth, said)
    assert (hard.id, hard.truth, hard.probability) == ("1", ["new"], 0.0)
    assert mislabelled(truth, said) == []


def test_a_study_from_before_near_duplicates_were_kept_finds_them_again(tmp_path):
    words = [f"the {i} ships of the {i} harbours left for {i} ports at dawn" for i in range(4)]
    pool = [
        Example(Document(text), ("a" if i % 2 else "b",), id=str(i))
        for i, text in enumerate([*words, words[1], words[3] + "."])
    ]
    folder = StudyFolder(tmp_path)
    folder.write_data(pool, pool[:1], [([0, 1, 2, 3], [4, 5])], np.zeros(6, np.int64))
    path = tmp_path / "data" / "groups.json"
    path.unlink()
    parts = folder.labelled(0, Problem(("a", "b"), multi_label=False))
    group = np.concatenate([part.groups for part in parts])
    assert len(set(group)) == 4 and group[4] == group[1] and group[5] == group[3]
    assert path.is_file(), "found once"


def test_latencies_stop_at_the_time_they_are_given():
    start = time.perf_counter()
    taken = latencies(lambda item: time.sleep(0.02), range(50), seconds=0.2)
    assert time.perf_counter() - start < 1.0
    assert 5 <= len(taken) <= 12 and taken.min() >= 19
    assert len(latencies(lambda item: None, range(80), seconds=3)) == 50


def test_energy_follows_the_work_and_asks_nobody(tmp_path, monkeypatch):
    import socket

    def refuse(*arguments):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("CODECARBON_ELECTRICITYMAPS_API_TOKEN", "would ask online")
    meter = EnergyMeter(tmp_path / "emissions.csv")
    found = {}
    for name, seconds in (("short", 0.3), ("long", 1.5)):
        meter.start(name)
        time.sleep(seconds)
        found[name] = meter.stop()
    assert found["long"].kwh > 2 * found["short"].kwh > 0
    assert found["long"].kg == pytest.approx(found["long"].kwh * 0.475)  # the world's average
    lines = (tmp_path / "emissions.csv").read_text().splitlines()
    assert len(lines) == 3 and ",long," in lines[2]
    assert meter.stop().source == "none"  # nothing was begun
    monkeypatch.setenv("HORNBOOK_COUNTRY", "nor")
    meter = EnergyMeter(tmp_path / "emissions.csv")
    meter.start("clean")
    time.sleep(0.3)
    clean = meter.stop()
    assert clean.kg < clean.kwh * 0.1


@pytest.mark.parametrize(
    ("given", "meant"),
    [("XX", "three letters"), ("Germany", r"DEU \(Germany\)"), ("DEUT", "DEU"), ("N0R", "NOR")],
)
def test_an_unknown_country_is_refused_before_anything_is_read(given, meant, tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_COUNTRY", given)
    with pytest.raises(ConfigError, match=f"(?s)HORNBOOK_COUNTRY is '{given}'.*{meant}"):
        prepare("no such data", StudySettings(dataset="no such data"))
    with pytest.raises(ConfigError, match="HORNBOOK_COUNTRY"):
        EnergyMeter(tmp_path / "emissions.csv")


def test_peak_memory_grows_with_what_is_held():
    before = peak_bytes()
    block = np.ones(200_000_000, np.uint8)
    assert peak_bytes() >= max(before, block.nbytes)
