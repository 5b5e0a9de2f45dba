from __future__ import annotations

import pytest

from hornbook.data.datasets import DATASETS, cards
from hornbook.data.hub import _table, load_hub
from hornbook.data.open import open_dataset
from hornbook.data.tables import Columns, dataset_of
from hornbook.errors import ConfigError, DataError, UnavailableError, UnknownNameError


def test_a_path_and_a_name(tmp_path):
    path = tmp_path / "pydocs"
    for label in ("a", "b"):
        for i in range(2):
            (path / label).mkdir(parents=True, exist_ok=True)
            (path / label / f"{i}.txt").write_text(f"text {label} {i}")
    assert len(open_dataset(path).train) == 4
    with pytest.raises(ConfigError, match="takes no columns"):
        open_dataset("pydocs", label="topic")
    with pytest.raises(DataError, match="there is no file"):
        open_dataset(tmp_path / "none.csv")


def test_a_wrong_name_has_a_near_one():
    with pytest.raises(UnknownNameError) as caught:
        open_dataset("reuter")
    assert "Did you mean 'reuters'" in caught.value.hint


def test_each_corpus_has_a_card_of_its_name():
    assert [card.name for card in cards()] == list(DATASETS)


@pytest.mark.parametrize(
    ("name", "n_train", "n_test", "n_labels"),
    [("sms-spam", 5574, None, 2), ("sst2", 7792, 1821, 2), ("trec", 5452, 500, 6)],
)
def test_local_corpora(data_folder, name, n_train, n_test, n_labels):
    dataset = open_dataset(name)
    assert len(dataset.train) == n_train
    assert (dataset.test and len(dataset.test)) == n_test
    labels = {label for e in dataset.examples for label in e.labels}
    assert len(labels) == n_labels and labels == dataset.label_descriptions.keys()


def test_a_local_corpus_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path))
    with pytest.raises(UnavailableError, match="SMSSpamCollection") as caught:
        open_dataset("sms-spam")
    assert "pydocs" in caught.value.hint


def test_the_hub_offline_says_what_works(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    with pytest.raises(UnavailableError, match="owner/name") as caught:
        load_hub("hf://owner/name")
    assert "pydocs" in caught.value.hint


def test_hub_tables_have_names_for_classes_and_a_labelled_test_split():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )

    def part(texts, labels):
        return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)

    found = datasets.DatasetDict(
        train=part(["one", "two"], [0, 1]),
        validation=part(["three"], [1]),
        test=part(["four"], [-1]),
    )
    dataset = dataset_of(_table("hf://x/y", found, Columns()), "y", Columns())
    assert [(e.document.text, e.labels) for e in dataset.train] == [
        ("one", ("neg",)),
        ("two", ("pos",)),
    ]
    assert [e.document.text for e in dataset.test] == ["three"]
