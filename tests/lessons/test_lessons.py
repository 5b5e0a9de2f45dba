"""Every lesson runs from top to bottom, and what it says of its results is so."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).parents[2] / "lessons").glob("[0-9]*.py"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs(lesson, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # what it writes goes with the test
    seen = runpy.run_path(str(lesson))
    if lesson.stem == "01-which-technique":
        floor = next(row for row in seen["study"].leaderboard if row.technique == "majority")
        assert seen["study"].leaderboard[0].micro_f1 > floor.micro_f1 + 0.3
        assert seen["study"].recommended.predict(["the courier left my parcel"]) == ["delivery"]
        assert len(seen["issues"]) >= 10
        assert seen["right"] >= 0.8 * len(seen["issues"])
    if lesson.stem == "06-tokenizers":
        measures = seen["measures"]
        assert measures["word"].unknown_share > 0.03 and measures["bpe"].unknown_share == 0
        assert measures["character"].tokens_per_word > 5 > measures["bpe"].tokens_per_word
        totals = [r.text_nats + r.vocabulary_nats for r in seen["rounds"]]
        assert totals[0] > totals[1] < totals[-1]
    if lesson.stem == "07-reading-loss-curves":
        patterns = {name: reading.pattern for name, reading in seen["readings"].items()}
        assert patterns == {
            "as it should be": "healthy",
            "little text": "overfitting",
            "validation among the training text": "leak",
            "a rate of 1e-7": "no learning",
            "a rate of 3 from the middle on": "divergence",
            "a small rate and few steps": "still learning",
        }
    if lesson.stem == "08-fine-tuning-a-classifier":
        alone, adapted = (seen[name][0].value for name in ("from_scratch", "with_pretraining"))
        assert adapted > alone + 0.2 and seen["after"] < 40 < seen["before"]
        assert {f.code for f in seen["findings"]} == {"label-vanished", "rare-label"}
    if lesson.stem == "10-instruction-tuning-and-its-masks":
        ended = {name: sum(a["ended"] for a in said) for name, said in seen["answers"].items()}
        assert ended == {"with ends": 8, "without ends": 0}
        assert seen["typed"] == 4 and seen["gap_beside"] < 1e-4 < seen["gap_as_one"]
    if lesson.stem == "11-dpo":
        assert abs(seen["learnt"] - math.log(2)) < 0.05 and abs(seen["slope"] + 0.05) < 1e-3
        assert seen["reached"]["accuracy"] == 1 and seen["reached"]["kind"] > 0.9
        assert abs(seen["kl"] - math.log(2)) < 0.15 and seen["right"] > 0.9  # of what is drawn
        assert seen["pulled_reached"]["accuracy"] == 1 and seen["pulled_kl"] > 3 * seen["kl"]
        assert abs(seen["bounded_margin"] - 1) < 0.3
    if lesson.stem == "12-named-entities":
        assert seen["floor"]["accuracy"] > 0.7 and seen["floor"]["F1"] == 0
        assert seen["learnt"]["F1"] > 0.5 and seen["learnt"]["accuracy"] > 0.85
        assert [said["spans"][0]["label"] for said in seen["said"]] == ["person", "place"]
        assert seen["found"]["simple"] > seen["found"]["first"] >= 300
    if lesson.stem == "13-translation":
        assert seen["right"] >= 45 and seen["metric"].value > 85
        assert abs(seen["hand"] - seen["library"]) < 1e-6
