"""Labelled texts and pairs are found in a table or in a folder with a file a part."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from hornbook.data.labelled import is_scale, open_labelled, open_labelled_pairs
from hornbook.data.open import open_dataset
from hornbook.errors import DataError, UnknownNameError


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def glue(tmp_path):
    """A folder as GLUE's SST-2: an unlabelled test part, and files that are not a part."""
    rows = "".join(f"sentence number {i} {'good' if i % 2 else 'bad'}\t{i % 2}\n" for i in range(9))
    write(tmp_path / "train.tsv", "sentence\tlabel\n" + rows)
    write(tmp_path / "dev.tsv", 'sentence\tlabel\n"so" it is\t1\nthat " is bad\t0\n')
    write(tmp_path / "test.tsv", "index\tsentence\n0\tan unlabelled one\n")
    write(tmp_path / "stsa.binary.train", "1 another form\n")
    return tmp_path


def test_a_file_a_part(glue):
    found = open_labelled(str(glue))
    assert (len(found.train), len(found.validation), found.test) == (9, 2, None)
    assert found.validation[0].document.text == '"so" it is'
    assert found.label_names == ("0", "1") and not found.multi_label
    assert any("test.tsv has no labels" in note for note in found.notes)


def test_parts_that_are_missing_are_made(glue):
    (glue / "dev.tsv").unlink()
    write(glue / "test.tsv", "sentence\tlabel\na wholly different text\t1\nand one more\t0\n")
    found = open_labelled(str(glue))
    assert len(found.train) + len(found.validation) == 9 and found.validation
    assert len(found.test) == 2


def rows_of(n, start=0):
    words = ["apple", "river", "stone", "cloud", "lamp", "horse", "paper", "green", "seven", "wind"]
    return [
        {"text": f"{words[i % 10]} {words[i // 10 % 10]} {i}", "label": "ab"[i % 2]}
        for i in range(start, start + n)
    ]


def lines_of(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_the_shards_of_a_part_are_all_read(tmp_path):
    for i in range(3):
        write(tmp_path / f"train-0000{i}-of-00003.jsonl", lines_of(rows_of(10, 10 * i)))
    write(tmp_path / "validation-00000-of-00002.jsonl", lines_of(rows_of(6, 40)))
    write(tmp_path / "test.jsonl", lines_of(rows_of(6, 50)))
    found = open_labelled(str(tmp_path))
    assert (len(found.train), len(found.validation), len(found.test)) == (30, 6, 6)
    assert len({e.id for e in found.train}) == 30
    assert any("validation part has 1 of its 2 files" in note for note in found.notes)
    assert not any("left out" in note for note in found.notes)


def test_of_several_files_of_a_part_it_is_said_which_is_read(glue):
    write(glue / "dev_mismatched.tsv", "sentence\tlabel\nother\t1\nmore\t0\n")
    (glue / "dev.tsv").rename(glue / "dev_matched.tsv")
    found = open_labelled(str(glue))
    assert found.validation[0].document.text == '"so" it is'
    left_out = "dev_mismatched.tsv is left out: dev_matched.tsv is read for validation."
    assert left_out in found.notes


def test_rows_marked_as_validation_validate(tmp_path):
    parts = ["train"] * 40 + ["validation"] * 8 + ["test"] * 6
    rows = [row | {"split": part} for row, part in zip(rows_of(54), parts, strict=True)]
    write(tmp_path / "a.jsonl", lines_of(rows))
    found = open_labelled(str(tmp_path / "a.jsonl"))
    assert {e.document.text for e in found.validation} == {row["text"] for row in rows[40:48]}
    assert (len(found.train), len(found.test)) == (40, 6)
    assert not any("count as training" in note for note in found.notes)
    write(tmp_path / "b.jsonl", lines_of(rows[:48]))
    found = open_labelled(str(tmp_path / "b.jsonl"))
    assert (len(found.validation), len(found.train) + len(found.test)) == (8, 40)
    write(tmp_path / "c.jsonl", lines_of(rows[40:]))
    with pytest.raises(DataError, match="belong to the validation split"):
        open_labelled(str(tmp_path / "c.jsonl"))
    for row in rows:
        row |= {"sentence1": row["text"], "sentence2": "another"}
    write(tmp_path / "d.jsonl", lines_of(rows))
    pairs = open_labelled_pairs(str(tmp_path / "d.jsonl"))
    assert [len(part) for part in (pairs.train, pairs.validation, pairs.test)] == [40, 8, 6]


def test_a_score_that_is_no_number_is_missing_and_an_infinite_one_refused(tmp_path):
    def sts(scores):
        return "".join(
            f"g\tf\t2012\t{i}\t{score}\tone {i}\ttwo {i}\n" for i, score in enumerate(scores)
        )

    write(tmp_path / "sts-train.csv", sts([0.5, 1, 4.2, "nan"]))
    write(tmp_path / "sts-dev.csv", sts([0.5, 2]))
    found = open_labelled_pairs(str(tmp_path))
    assert [pair.label for pair in found.train] == ["0.5", "1", "4.2"]
    assert any(note.startswith("1 pairs of sts-train.csv have no label") for note in found.notes)
    write(tmp_path / "sts-train.csv", sts([0.5, 1, "inf"]))
    with pytest.raises(DataError, match=r"sts-train.csv, line 3: the score is inf"):
        open_labelled_pairs(str(tmp_path))


def test_a_single_table_is_divided(tmp_path):
    words = ["apple", "river", "stone", "cloud", "lamp", "horse", "paper", "green", "seven", "wind"]
    rows = "".join(f"{words[i % 10]} {words[i // 4]} {i}\t{i % 2}\n" for i in range(40))
    write(tmp_path / "t.tsv", "text\tlabel\n" + rows)
    found = open_labelled(str(tmp_path / "t.tsv"))
    assert len(found.train) + len(found.validation) + len(found.test) == 40


def test_pairs_of_a_task_of_glue(tmp_path):
    header = "index\tquestion\tsentence\tlabel\n"
    rows = "".join(
        f"{i}\twhy {i}?\tbecause of {i}\t{'not_' * (i % 2)}entailment\n" for i in range(8)
    )
    write(tmp_path / "train.tsv", header + rows)
    write(tmp_path / "dev.tsv", header + "0\twho?\the\tentailment\n")
    found = open_labelled_pairs(str(tmp_path))
    assert not found.numbers and found.label_names == ("entailment", "not_entailment")
    first = found.train[0]
    assert (first.first, first.second, first.label) == ("why 0?", "because of 0", "entailment")
    assert len(found.validation) == 1 and found.test is None


def test_pairs_with_a_number_in_the_form_of_the_sts_benchmark(tmp_path):
    for part, n in (("train", 6), ("dev", 3), ("test", 2)):
        rows = [f"g\tf\t2012\t{i}\t{i / 2:.3f}\tone {i}\ttwo {i}" for i in range(n)]
        rows[0] += "\ta source\tanother"
        write(tmp_path / f"sts-{part}.csv", "\n".join(rows) + "\n")
    found = open_labelled_pairs(str(tmp_path))
    assert found.numbers and found.label_names == ()
    assert [len(found.train), len(found.validation), len(found.test)] == [6, 3, 2]
    assert (found.train[1].first, found.train[1].label) == ("one 1", "0.500")


def test_pairs_of_one_table_are_divided_and_columns_may_be_named(tmp_path):
    lines = [f'{{"a": "one {i} x", "b": "two {i} y", "told": {i % 2}}}' for i in range(40)]
    write(tmp_path / "t.jsonl", "\n".join(lines))
    found = open_labelled_pairs(str(tmp_path / "t.jsonl"), first="a", second="b", label="told")
    assert len(found.train) + len(found.validation) + len(found.test) == 40
    with pytest.raises(DataError, match="which columns are the two texts"):
        open_labelled_pairs(str(tmp_path / "t.jsonl"))
    with pytest.raises(UnknownNameError, match="no column 'c'"):
        open_labelled_pairs(str(tmp_path / "t.jsonl"), first="a", second="c")


def test_a_missing_text_is_named(tmp_path):
    write(tmp_path / "t.csv", "text1,text2,label\na,b,0\n,b,1\n")
    with pytest.raises(DataError, match="line 3: a text of the pair is missing"):
        open_labelled_pairs(str(tmp_path / "t.csv"))


def test_numbers_are_a_scale_when_there_are_halves_or_many():
    assert is_scale(["0.5", "1", "2"]) and is_scale([str(i) for i in range(11)])
    assert not is_scale(["0", "1", "2"]) and not is_scale(["yes", "no"])


def test_cola_as_published(data_folder):
    if not (data_folder / "cola").is_dir():
        pytest.skip("cola is not in HORNBOOK_DATA")
    found = open_dataset("cola")
    assert (len(found.train), len(found.test)) == (8551, 1043)
    assert {label for e in found.train for label in e.labels} == set(found.label_descriptions)
    assert all(e.document.text for e in found.test)


def test_imdb_is_read_from_its_archives(tmp_path, monkeypatch):
    (tmp_path / "imdb").mkdir()
    for part in ("train", "test"):
        with tarfile.open(tmp_path / "imdb" / f"aclImdb_{part}.tar.gz", "w:gz") as archive:
            for name in ("neg/0_1.txt", "pos/7_9.txt"):
                text = b"One line.<br /><br />Another \xc3\xa9."
                member = tarfile.TarInfo(f"aclImdb/{part}/{name}")
                member.size = len(text)
                archive.addfile(member, io.BytesIO(text))
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    found = open_dataset("imdb")
    assert [e.labels for e in found.test] == [("negative",), ("positive",)]
    assert found.train[1].document.text == "One line.\n\nAnother \u00e9."
    assert found.train[1].id == "train/pos/7_9"
