from __future__ import annotations

import random

import pytest

from hornbook.data.audit import audit
from hornbook.data.examples import Document, Example
from hornbook.data.label_issues import find_label_issues
from hornbook.data.splits import Splits

TOPICS = {
    "sport": "goal match team player coach league season score referee stadium",
    "cooking": "oven butter flour sugar recipe boil fry pan taste salt",
    "money": "bank loan interest account credit invoice payment tax debt salary",
    "chess": "knight bishop rook pawn castle opening mate gambit",
}
FILLER = [f"filler{i}" for i in range(200)]


def text(rng: random.Random, *topics: str) -> str:
    words = [w for t in topics for w in rng.choices(TOPICS[t].split(), k=6)] + rng.choices(
        FILLER, k=8
    )
    rng.shuffle(words)
    return " ".join(words)


def corpus(n: int, seed: int = 0, topics=("sport", "cooking", "money")) -> list[Example]:
    rng = random.Random(seed)
    names = [rng.choice(topics) for _ in range(n)]
    return [Example(Document(text(rng, t)), (t,), f"{seed}-{i}") for i, t in enumerate(names)]


def splits(train, test) -> Splits:
    labels = sorted({label for e in train for label in e.labels})
    return Splits(train[:-20], train[-20:], test, labels)


def test_planted_copies_leaks_and_gaps_are_found():
    train, test = corpus(200), corpus(60, seed=1)
    leaked = Example(train[3].document, train[3].labels, "leak")
    near = Example(Document(train[5].document.text + " indeed"), train[5].labels, "near")
    twin = Example(test[0].document, ("other",), "twin")
    empty = Example(Document("  "), ("sport",), "empty")
    record = audit(splits([empty, *train], [*test, leaked, near, twin, near]), multi_label=False)
    assert record.n_texts == 265 and record.n_labels == 4 and record.n_empty == 1
    assert record.n_exact_duplicates == 3 and record.n_near_duplicates == 1
    assert record.n_leaks == 3  # the copy, and the one with a word more twice
    assert {leak.second_id for leak in record.leaks} == {"leak", "near"}
    assert all(leak.first_split in ("train", "validation") for leak in record.leaks)
    assert record.duplicates[0].second_id == "twin" and not record.duplicates[0].same_labels
    assert sum(c.train for c in record.label_counts) == 181
    other = next(c for c in record.label_counts if c.label == "other")
    assert (other.train, other.validation, other.test) == (0, 0, 1)
    said = " ".join(record.findings)
    for words in ("3 test text(s)", "different labels", "no word", "no training text (other)"):
        assert words in said


def test_sound_data_gives_no_findings():
    record = audit(splits(corpus(300), corpus(80, seed=1)), multi_label=False)
    assert record.findings == []
    assert record.label_issues == [] and record.co_occurrence == []


def test_planted_label_errors_come_first():
    train = corpus(300)
    names = list(TOPICS)[:3]
    wrong = {i: names[(names.index(train[i].labels[0]) + 1) % 3] for i in range(0, 100, 10)}
    mixed = [Example(e.document, (wrong.get(i, e.labels[0]),), e.id) for i, e in enumerate(train)]
    doubts = find_label_issues(mixed, multi_label=False)
    assert {d.row for d in doubts[:10]} == set(wrong)
    assert all(d.suggested == list(train[d.row].labels) for d in doubts[:10])
    assert len(doubts) <= 12


def test_a_rare_label_can_be_doubted():
    rng = random.Random(3)
    rare = [Example(Document(text(rng, "chess")), ("chess",), f"c{i}") for i in range(4)]
    wrong = Example(Document(text(rng, "sport")), ("chess",), "wrong")
    doubts = find_label_issues([*corpus(200), *rare, wrong], multi_label=False)
    assert [(d.row, d.suggested) for d in doubts] == [(204, ["sport"])]


def test_labels_too_many_and_missing_are_found_where_there_may_be_several():
    rng = random.Random(4)
    names = list(TOPICS)
    rows = []
    for i in range(400):
        topics = tuple(sorted(rng.sample(names, k=rng.choice([1, 1, 2]))))
        rows.append(Example(Document(text(rng, *topics)), topics, str(i)))
    planted = {}
    for i in range(0, 60, 6):
        absent = next(n for n in names if n not in rows[i].labels)
        given = (*rows[i].labels, absent) if i % 4 else rows[i].labels[:-1] or (absent,)
        planted[i] = sorted(rows[i].labels)
        rows[i] = Example(rows[i].document, tuple(given), rows[i].id)
    doubts = find_label_issues(rows, multi_label=True)
    first = doubts[: len(planted)]
    assert len(doubts) <= 2 * len(planted)
    assert len(set(planted) & {d.row for d in first}) >= 9
    right = [d for d in first if d.row in planted and sorted(d.suggested) == planted[d.row]]
    assert len(right) >= 8


def test_a_labels_only_text_is_not_doubted():
    once = Example(Document(text(random.Random(1), "sport")), ("once",), "once")
    assert not find_label_issues([*corpus(100), once], multi_label=False)


@pytest.mark.parametrize("rows", [[], corpus(5), corpus(50, topics=("sport",))])
def test_too_little_to_judge(rows):
    assert find_label_issues(rows, multi_label=False) == []


def test_co_occurrence_and_lengths():
    rows = [Example(Document("one two three", "title"), ("a", "b"), "1")] * 3
    rows += [Example(Document("one"), ("b",), "2")]
    record = audit(Splits(rows, [], [], ["a", "b"]), multi_label=True)
    assert record.co_occurrence == [("a", "b", 3)]
    assert (record.words_max, record.words_median, record.labels_per_text) == (4, 4.0, 7 / 4)


def test_reuters_is_audited_completely(data_folder):
    from hornbook.data.datasets import reuters
    from hornbook.data.splits import make_splits

    dataset = reuters.load()
    record = audit(make_splits(dataset, seed=0), multi_label=True)
    assert record.n_texts == 10_789 and record.n_labels == 90
    assert 2 <= record.n_leaks <= 30
    assert sum(c.test for c in record.label_counts) == 3_744
    assert len(record.label_issues) == 50 and record.findings


def test_texts_that_all_have_all_labels_hold_no_issue():
    rows = [Example(e.document, ("a", "b"), e.id) for e in corpus(40)]
    assert find_label_issues(rows, multi_label=True) == []
