"""What pyarrow, pandas and `datasets` leave on the disk is read as any other table."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pyarrow.feather
import pytest

from hornbook.data.corpus import open_corpus
from hornbook.data.labelled import open_labelled
from hornbook.data.roles import hint_for_missing
from hornbook.data.rows import read_rows
from hornbook.data.tagged import open_tagged
from hornbook.data.written import open_sources
from hornbook.errors import DataError
from hornbook.recipes.kinds import KINDS

ROWS = {
    "text": [f"the {what} number {i}" for i in range(20) for what in ("cat", "dog")],
    "label": ["cat", "dog"] * 20,
}


@pytest.mark.parametrize("form", ["stream", "file", "feather"])
def test_arrow_in_each_form(tmp_path, form):
    table = pyarrow.table(ROWS)
    path = tmp_path / ("t.feather" if form == "feather" else "t.arrow")
    if form == "feather":
        pyarrow.feather.write_feather(table, str(path))
    else:
        new = pyarrow.ipc.new_stream if form == "stream" else pyarrow.ipc.new_file
        with pyarrow.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    read = read_rows(path)
    assert read.columns == ["text", "label"]
    assert read.rows == table.to_pylist()
    assert read.places[0] == "row 1"


def test_what_is_no_arrow_is_named(tmp_path):
    (tmp_path / "t.arrow").write_bytes(b"text,label\na,b\n" * 9)
    with pytest.raises(DataError, match=r"t\.arrow cannot be read as Arrow"):
        read_rows(tmp_path / "t.arrow")


@pytest.fixture
def saved(tmp_path):
    """A set of two parts, mapped and shuffled by `datasets`, with named classes, and saved."""
    datasets = pytest.importorskip("datasets")
    kinds = datasets.ClassLabel(names=["cat", "dog"])
    whole = datasets.Dataset.from_dict(ROWS).cast_column("label", kinds)
    whole = whole.map(lambda row: {"text": row["text"].upper()}).shuffle(seed=1)
    parts = whole.train_test_split(8, seed=0)
    parts.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 3, "test": 1})
    return tmp_path / "saved", parts


def test_a_saved_set_of_parts_is_divided_as_it_was(saved):
    path, parts = saved
    opened = open_labelled(str(path))
    texts = [e.document.text for e in [*opened.train, *opened.validation]]
    assert sorted(texts) == sorted(parts["train"]["text"])
    assert opened.test is not None
    assert [e.document.text for e in opened.test] == list(parts["test"]["text"])
    assert set(opened.label_names) == {"cat", "dog"}  # the names, not the numbers


def test_a_saved_set_is_one_table(saved):
    path, parts = saved
    assert [row["text"] for row in read_rows(path / "train").rows] == list(parts["train"]["text"])
    both = read_rows(path)
    assert both.splits is not None
    assert both.splits.count("train") == 32
    assert both.splits.count("test") == 8


def test_a_saved_set_is_a_corpus_without_its_test_part(saved):
    path, parts = saved
    corpus = open_corpus(str(path), seed=0)
    read = [*corpus.train(), *corpus.validation()]
    assert sorted(read) == sorted(parts["train"]["text"])


def test_a_saved_validation_part_validates(tmp_path):
    datasets = pytest.importorskip("datasets")
    parts = {
        name: datasets.Dataset.from_dict({"text": [f"{name} {i}" for i in range(5)]})
        for name in ("train", "validation", "test")
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    corpus = open_corpus(str(tmp_path / "saved"))
    assert list(corpus.train()) == list(parts["train"]["text"])
    assert list(corpus.validation()) == list(parts["validation"]["text"])
    assert corpus.notes == ["Left out: test."]


def test_saved_parts_of_tags_and_of_texts_with_their_target(tmp_path):
    datasets = pytest.importorskip("datasets")
    words = datasets.Dataset.from_dict(
        {"words": [["Ada", "sings"]] * 12, "tags": [["B-PER", "O"]] * 12}
    )
    datasets.DatasetDict(train=words, validation=words).save_to_disk(str(tmp_path / "tags"))
    tagged = open_tagged(tmp_path / "tags", {}, seed=0)
    assert len(tagged.train) == len(tagged.validation) == 12

    pairs = datasets.Dataset.from_dict({"source": list("abcdefghi"), "target": ["b"] * 9})
    pairs.save_to_disk(str(tmp_path / "pairs"))
    written = open_sources(str(tmp_path / "pairs"), {}, seed=0)
    assert len(written.train) + len(written.validation) == 9


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.arrow"])
def test_a_table_that_is_not_there_is_said_to_be_missing(tmp_path, name):
    with pytest.raises(DataError, match="there is no file"):
        open_sources(str(tmp_path / name), {}, seed=0)


@pytest.mark.parametrize("task", ["chat", "tag", "answer", "choose", "dpo", "embed", "pairs"])
def test_a_name_of_the_hub_is_told_the_way_round(task):
    with pytest.raises(DataError, match="there is no file") as caught:
        KINDS.load(task).open_data("owner/some-name", {}, seed=0)
    way = "datasets.load_dataset('owner/some-name').save_to_disk('some-name')"
    assert way in caught.value.hint and caught.value.hint.endswith("give the folder some-name.")


HUB = {
    "chat": {"prompt": "{}?", "completion": "yes"},
    "answer": {"question": "who {}?", "context": "{} came", "answers": "{}"},
    "choose": {"question": "{}?", "options": ["yes", "no"], "answer": 0},
    "dpo": {"prompt": "{}?", "chosen": "yes", "rejected": "no"},
    "embed": {"anchor": "{}?", "positive": "yes {}"},
    "pairs": {"sentence1": "{}?", "sentence2": "yes {}", "label": "yes"},
}


@pytest.mark.parametrize("task", HUB)
def test_the_way_round_is_one(task, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [
        {n: v.format(f"name{i}") if isinstance(v, str) else v for n, v in HUB[task].items()}
        for i in range(24)
    ]
    if task == "pairs":
        rows[1]["label"] = rows[5]["label"] = rows[9]["label"] = "no"
    part = datasets.Dataset.from_list(rows)
    datasets.DatasetDict(train=part, validation=part).save_to_disk(str(tmp_path / "some-name"))
    found = KINDS.load(task).open_data(str(tmp_path / "some-name"), {}, seed=0)
    assert len(found.validation) == 24 and len(found.train) >= 20


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("wikiann", "load_dataset('wikiann')"),
        ("hf://owner/name:de", "load_dataset('owner/name', 'de')"),
        ("here/name", None),  # a folder is there: a path was meant
        ("owner/name.csv", None),
        ("/owner/name", None),
        ("a/b/c", None),
    ],
)
def test_what_may_be_a_name_of_the_hub(data, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    hint = hint_for_missing(Path(data))
    assert told in hint if told else hint == "Check the path."
