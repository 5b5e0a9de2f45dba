from __future__ import annotations

import random
import time

from hornbook.data.duplicates import find_duplicates, groups, normalised


def jaccard(a: str, b: str) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = normalised(text).split()
        return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))}

    one, other = shingles(a), shingles(b)
    return len(one & other) / len(one | other)


def test_finds_just_what_comparing_all_pairs_finds():
    rng = random.Random(0)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 80))) for _ in range(60)]
    for text in texts[:40]:  # variants with a few words changed
        changed = text.split()
        for _ in range(rng.randint(0, 2)):
            changed[rng.randrange(len(changed))] = rng.choice(words)
        texts.append(" ".join(changed))
    texts = list(dict.fromkeys(texts))
    for threshold in (0.5, 0.8):
        expected = {
            (i, j): jaccard(texts[i], texts[j])
            for i in range(len(texts))
            for j in range(i + 1, len(texts))
            if jaccard(texts[i], texts[j]) >= threshold
        }
        found = {(p.first, p.second): p.similarity for p in find_duplicates(texts, threshold)}
        assert len(expected) > 5
        assert found.keys() == expected.keys()
        assert all(abs(found[pair] - expected[pair]) < 1e-12 for pair in expected)


def test_a_pair_just_at_the_threshold_is_found():
    longer = " ".join(f"w{i}" for i in range(12))  # 10 shingles
    shorter = " ".join(f"w{i}" for i in range(10))  # 8 of them
    (pair,) = find_duplicates([longer, shorter], 0.8)
    assert pair.similarity == 0.8


def test_copies_pair_with_the_first_and_ignore_case_and_punctuation():
    pairs = find_duplicates(["The cat, sat.", "dogs run far", "the CAT sat", "The cat sat!", ""])
    assert [(p.first, p.second, p.exact) for p in pairs] == [(0, 2, True), (0, 3, True)]


def test_texts_without_words_are_compared_as_they_are():
    pairs = find_duplicates([":-)", ":-(", "", " ", ":-)"])
    assert [(p.first, p.second) for p in pairs] == [(0, 4)]


def test_chinese_is_compared_by_sign():
    text = "发票金额不正确请检查订单编号和付款日期谢谢"
    (pair,) = find_duplicates([text, text + "你"])
    assert not pair.exact and pair.similarity > 0.9


def test_form_letters_make_one_group_in_linear_time():
    letter = " ".join(f"word{i}" for i in range(100))
    texts = [f"{letter} customer number {i}" for i in range(4000)]
    start = time.process_time()  # another program's share of the processor is not ours
    pairs = find_duplicates(texts)
    assert time.process_time() - start < 5
    assert len(pairs) <= 4000 * 40
    assert len(set(groups(len(texts), pairs))) == 1


def test_all_the_same_text():
    pairs = find_duplicates(["same words here"] * 5000)
    assert len(pairs) == 4999
    assert set(groups(5000, pairs)) == {0}
