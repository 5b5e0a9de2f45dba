"""Sources with what is to be written from them, and texts that are alike: forms, bad rows."""

from __future__ import annotations

import json

import pytest

from hornbook.data.alike import open_alike
from hornbook.data.written import open_sources
from hornbook.errors import DataError, UnknownNameError


def lines(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_folder_of_tables_with_several_targets(tmp_path):
    row = {"source": ["One.", "Two."], "target": ["Both."], "title": "x"}
    lines(tmp_path / "train.jsonl", [row, {"source": [], "target": ["lost"]}])
    lines(tmp_path / "dev.jsonl", [row | {"target": ["Both.", "1 and 2.", ""]}])
    lines(tmp_path / "test.jsonl", [row])
    (tmp_path / "LICENSE").write_text("free")
    found = open_sources(str(tmp_path), {}, seed=0)
    assert [one.source for one in found.train] == ["One. Two."]
    assert found.validation[0].targets == ("Both.", "1 and 2.")
    assert found.test[0].id == "test.jsonl, line 1"
    assert any("1 row(s) without a text" in note for note in found.notes)


def test_parallel_files_named_test_are_the_test_part(tmp_path):
    for stem in ("train", "val", "test_a", "test_b"):
        for ending in ("en", "de"):
            texts = [f"{stem} {ending} {i}" for i in range(3)]
            (tmp_path / f"{stem}.{ending}").write_text("\n".join(texts) + "\n")
    columns = {"source": "en", "target": "de"}
    found = open_sources(str(tmp_path), columns, seed=0)
    assert found.test[0].targets == ("test_a de 0",) and len(found.validation) == 3
    assert any("also test_b" in note for note in found.notes)
    other = open_sources(str(tmp_path), columns | {"test": "test_b"}, seed=0)
    assert other.test[0].source == "test_b en 0"
    with pytest.raises(UnknownNameError, match="no test files 'test_c'"):
        open_sources(str(tmp_path), columns | {"test": "test_c"}, seed=0)


def test_one_table_is_divided_with_equal_sources_together(tmp_path):
    rows = [{"article": f"text {i // 2}", "summary": f"short {i}"} for i in range(40)]
    found = open_sources(str(lines(tmp_path / "a.jsonl", rows)), {}, seed=0)
    sides = [{one.source for one in part} for part in (found.train, found.validation)]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_columns_that_are_not_there_are_refused(tmp_path):
    path = str(lines(tmp_path / "a.jsonl", [{"source": "a", "target": "b"}] * 3))
    with pytest.raises(UnknownNameError, match="no column 'sauce'"):
        open_sources(path, {"source": "sauce"}, seed=0)
    with pytest.raises(UnknownNameError, match="no column 'label' to name"):
        open_sources(path, {"label": "target"}, seed=0)
    with pytest.raises(DataError, match="not clear"):
        other = lines(tmp_path / "b.jsonl", [{"x": "a", "y": "b"}] * 3)
        open_sources(str(other), {}, seed=0)


def test_pairs_triplets_and_scores(tmp_path):
    pairs = lines(tmp_path / "p.jsonl", [{"anchor": f"a{i}", "positive": "b"} for i in range(20)])
    found = open_alike(str(pairs), {}, seed=0)
    assert found.form == "pairs" and len(found.train) + len(found.validation) == 20
    row = {"q": "a", "yes": "b", "no": "c"}
    columns = {"first": "q", "second": "yes", "negative": "no"}
    triplets = lines(tmp_path / "t.jsonl", [row | {"q": f"a{i}"} for i in range(20)])
    found = open_alike(str(triplets), columns, seed=0)
    assert found.form == "triplets" and found.train[0].negative == "c"


def test_scores_are_brought_to_one(tmp_path):
    rows = [{"sentence1": f"a{i}", "sentence2": "b", "score": i % 6 * 0.9} for i in range(20)]
    found = open_alike(str(lines(tmp_path / "s.jsonl", rows)), {}, seed=0)
    assert max(one.score for one in found.train) == pytest.approx(4.5 / 5)
    assert "Scores are divided by 5." in found.notes
    for bad, message in [("high", "'high' is not a number"), (-3, "scores from -3")]:
        path = lines(tmp_path / "b.jsonl", [*rows, rows[0] | {"score": bad}])
        with pytest.raises(DataError, match=message):
            open_alike(str(path), {}, seed=0)
    lines(tmp_path / "f" / "train.jsonl", rows)
    lines(tmp_path / "f" / "test.jsonl", [{"anchor": "a", "positive": "b"}])
    with pytest.raises(DataError, match="the test part has pairs"):
        open_alike(str(tmp_path / "f"), {}, seed=0)


def test_the_sts_benchmark_is_known_by_its_form(tmp_path):
    line = "main-captions\tMSRvid\t2012\t0001\t{}\tA \"man.\tA dog, it's.\n"
    (tmp_path / "sts-train.csv").write_text("".join(line.format(i % 6) for i in range(12)))
    (tmp_path / "sts-dev.csv").write_text(line.format("2.5"))
    found = open_alike(str(tmp_path), {}, seed=0)
    assert found.validation[0].score == 0.5 and found.validation[0].first == 'A "man.'


def test_the_files_of_the_data_folder(data_folder):
    sts = open_alike(str(data_folder / "stsbenchmark"), {}, seed=0)
    assert (len(sts.train), len(sts.validation), len(sts.test)) == (5749, 1500, 1379)
    papers = open_sources(str(data_folder / "scitldr_a"), {}, seed=0)
    assert (len(papers.train), len(papers.validation), len(papers.test)) == (1992, 619, 618)
    assert max(len(one.targets) for one in papers.test) > 1
