from __future__ import annotations

import random
from collections import Counter

import pytest

from hornbook.data.duplicates import find_duplicates
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.data.splits import make_splits, validation_split
from hornbook.errors import ConfigError, DataError


def text(rng: random.Random) -> str:
    return " ".join(f"w{rng.randrange(500)}" for _ in range(12))


def single(n_by_label: dict[str, int], seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    labels = [label for label, n in n_by_label.items() for _ in range(n)]
    rng.shuffle(labels)
    return [Example(Document(text(rng)), (label,), str(i)) for i, label in enumerate(labels)]


def multi(n: int) -> list[Example]:
    rng = random.Random(1)
    chance = {"often": 0.6, "half": 0.4, "seldom": 0.1, "rare": 0.02}
    rows = []
    for i in range(n):
        labels = tuple(name for name, p in chance.items() if rng.random() < p) or ("often",)
        rows.append(Example(Document(text(rng)), labels, str(i)))
    return rows


def ids(examples: list[Example]) -> list[str]:
    return [e.id for e in examples]


def count(examples: list[Example]) -> Counter[str]:
    return Counter(label for e in examples for label in e.labels)


@pytest.mark.parametrize(
    "dataset",
    [
        TextDataset("single", single({"a": 300, "b": 100, "c": 40})),
        TextDataset("multi", multi(400), multi_label=True),
    ],
    ids=lambda d: d.name,
)
def test_parts_are_disjoint_complete_stratified_and_seeded(dataset):
    s = make_splits(dataset, seed=3)
    parts = [s.train, s.validation, s.test]
    assert sorted(i for part in parts for i in ids(part)) == sorted(ids(dataset.train))
    n = len(dataset.train)
    assert abs(len(s.test) - 0.2 * n) <= 0.02 * n
    assert abs(len(s.validation) - 0.08 * n) <= 0.02 * n
    whole, test = count(dataset.train), count(s.test)
    for label in s.label_names:
        assert abs(test[label] - 0.2 * whole[label]) <= 0.03 * whole[label] + 2
    again, other = make_splits(dataset, seed=3), make_splits(dataset, seed=4)
    assert [ids(again.train), ids(again.validation), ids(again.test)] == [ids(p) for p in parts]
    assert ids(other.test) != ids(s.test)


def test_near_duplicates_stay_on_one_side():
    rng = random.Random(5)
    rows = []
    for family in range(60):
        words = [f"f{family}w{i}" for i in range(30)]
        for member in range(rng.randint(1, 6)):
            body = " ".join([*words, f"copy{member}"])
            rows.append(Example(Document(body), ("ab"[family % 2],), f"{family}-{member}"))
    rng.shuffle(rows)
    s = make_splits(TextDataset("families", rows), seed=0)
    sides = [{i.partition("-")[0] for i in ids(part)} for part in (s.train, s.validation, s.test)]
    assert all(sides)
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    families = [i.partition("-")[0] for i in ids(s.train + s.validation)]
    pairs = set(zip(families, s.groups.tolist()))
    assert len(pairs) == len(set(families)) == len(set(s.groups))  # a number for each family


def test_a_given_test_split_is_kept_and_its_leaks_are_said():
    rows = single({"a": 50, "b": 50})
    test = [Example(rows[0].document, rows[0].labels, "leak"), *single({"a": 5, "b": 5}, seed=9)]
    s = make_splits(TextDataset("given", rows, test=test), seed=0)
    assert s.test == test
    assert any("1 of its texts are near-duplicates" in note for note in s.notes)


def test_repeats_draw_other_validation_sets_with_the_same_labels():
    pool = single({"a": 80, "b": 30, "c": 2, "once": 1})
    draws = [validation_split(pool, seed, 0.2) for seed in range(6)]
    assert len({tuple(ids(validation)) for _, validation in draws}) == 6
    for train, validation in draws:
        assert sorted(ids(train) + ids(validation)) == sorted(ids(pool))
        assert set(count(train)) == {"a", "b", "c", "once"}


@pytest.mark.parametrize("seed", range(5))
def test_a_labels_only_text_is_learnt_from(seed):
    rows = single({"a": 20, "b": 20, **{f"once{i}": 1 for i in range(8)}})
    s = make_splits(TextDataset("rare", rows), seed=seed)
    assert len(s.label_names) == 10
    assert set(count(s.train)) == set(s.label_names) == set(count(rows))


def test_more_labels_than_test_texts():
    rows = single({f"label{i:02}": 3 for i in range(20)})
    s = make_splits(TextDataset("wide", rows), seed=0, test_share=0.1)
    assert s.test and set(count(s.train)) == set(count(rows))


def test_a_label_unseen_in_training_is_said_and_counted():
    test = [Example(Document("one two three"), ("new",), "t1"), *single({"a": 4, "b": 4}, seed=2)]
    s = make_splits(TextDataset("unseen", single({"a": 30, "b": 30}), test=test), seed=0)
    assert s.label_names == ["a", "b"] and len(s.test) == 9
    assert any("no training text (new; 1 test texts)" in note for note in s.notes)


def test_what_a_small_test_split_cannot_tell_is_said():
    data = TextDataset("few", single({"a": 30, "b": 30, "rare": 1}), test=single({"a": 4, "b": 1}))
    notes = " ".join(make_splits(data, seed=0).notes)
    assert "1 label(s) have no test text (rare): each counts as 0 in macro-F1" in notes
    assert "only 5 test texts: each of them moves a score by 0.20" in notes
    data = TextDataset("more", single({"a": 30, "b": 30}), test=single({"a": 20, "b": 20}, seed=2))
    assert len(make_splits(data, seed=0).notes) == 1


def test_all_duplicates_cannot_be_divided():
    rows = [Example(Document("the same text again"), ("ab"[i % 2],), str(i)) for i in range(30)]
    with pytest.raises(DataError, match="near-duplicates of one another"):
        make_splits(TextDataset("same", rows), seed=0)


def test_one_class_and_wrong_shares_are_refused():
    with pytest.raises(DataError, match="the same label"):
        make_splits(TextDataset("one", single({"a": 20})), seed=0)
    with pytest.raises(DataError, match="all 20 training texts carry the same label"):
        make_splits(TextDataset("one", single({"a": 20}), test=single({"a": 5, "b": 5})), seed=0)
    both = [Example(e.document, ("a", "b"), e.id) for e in single({"a": 20})]
    with pytest.raises(DataError, match="the same label"):
        make_splits(TextDataset("both", both, multi_label=True), seed=0)
    with pytest.raises(ConfigError, match="test_share"):
        make_splits(TextDataset("two", single({"a": 20, "b": 20})), seed=0, test_share=1.5)
    with pytest.raises(DataError, match="too few"):
        make_splits(TextDataset("tiny", single({"a": 1, "b": 1})), seed=0)


def test_max_train_bounds_what_is_learnt_from():
    rows = single({"a": 300, "b": 100, "once": 1})
    s = make_splits(TextDataset("some", rows), seed=0, max_train=100)
    assert abs(len(s.train) + len(s.validation) - 100) <= 3
    assert s.label_names == ["a", "b", "once"]
    assert len(s.test) == pytest.approx(80, abs=2)


def test_no_pair_crosses_the_splits_of_pydocs(pydocs):
    s = make_splits(pydocs, seed=0)
    rows = s.train + s.validation + s.test
    side = [0] * len(s.train) + [1] * len(s.validation) + [2] * len(s.test)
    pairs = find_duplicates([e.document.full for e in rows])
    assert all(side[p.first] == side[p.second] for p in pairs)
