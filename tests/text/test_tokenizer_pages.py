"""The algorithms' own pages: against brute force, worked by hand, and against the Rust library."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, trainers

from hornbook.text import bpe, character, unigram, word, wordpiece
from hornbook.text.byte_level import ALPHABET, byte_level, count_words, text_of, words
from hornbook.text.suffix_array import repeated_substrings, suffix_array
from hornbook.text.tokenizer import END_OF_TEXT, UNKNOWN_CHARACTER, Tokenizer

TEXT = (
    """How much wood would a woodchuck chuck, if a woodchuck could chuck wood?
As much wood as a woodchuck could chuck, if a woodchuck could chuck wood: 42 logs!

    naïve café — 漢字 🙂 it's they'll\tthe   end
"""
    * 4
)
STRANGE = [
    "",
    " ",
    "\n\n a",
    "chuck\r\nwood",
    "ü" * 40,
    "👩‍🚀 x\u0301y",
    "\u200b\ufeff\x00z",
    "a" * 200,
]
PAGES = [character, word, bpe, wordpiece, unigram]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.__name__.rpartition(".")[2])
def test_a_page_and_its_saved_file_give_the_same_ids(page, tmp_path):
    learnt = page.train([TEXT], 340)
    learnt.save(tmp_path / "tokenizer.json")
    opened = Tokenizer.load(tmp_path / "tokenizer.json")
    for text in [TEXT, *STRANGE]:
        ids = learnt.encode(text)
        assert ids == opened.encode([text], special=False)[0]
        assert learnt.decode(ids) == opened.decode(ids)
    assert opened.vocab_size <= 340


@pytest.mark.parametrize("page", [bpe, unigram])
def test_byte_vocabularies_lose_nothing(page):
    learnt = page.train([TEXT], 300)
    for text in [TEXT, *STRANGE]:
        assert learnt.decode(learnt.encode(text)) == text


@pytest.mark.parametrize("page", [character, word])
def test_known_text_comes_back_and_unknown_is_marked(page):
    learnt = page.train([TEXT], 500)
    assert learnt.decode(learnt.encode(TEXT)) == TEXT
    ids = learnt.encode("How Ω wood")
    shown = "How � wood" if page is character else "How� wood"
    assert learnt.decode(ids) == shown
    assert ids.count(learnt.encode(UNKNOWN_CHARACTER)[0]) == 1


def test_unknown_characters_are_named():
    learnt = character.train(["abc"])
    assert learnt.unknown("abΩΩé") == {"Ω": 2, "é": 1}
    assert list(learnt.tokens) == [END_OF_TEXT, UNKNOWN_CHARACTER, "a", "b", "c"]


def test_words_are_gpt2s():
    assert words("It's 2 o'clock,  now\n") == [
        "It",
        "'s",
        "Ġ2",
        "Ġo",
        "'",
        "clock",
        ",",
        "Ġ",
        "Ġnow",
        "Ċ",
    ]
    assert text_of("".join(words(TEXT))) == TEXT
    assert len(set(ALPHABET)) == 256


def test_bpe_by_hand():
    """aa occurs 4 times; then ab and aa+a twice each, of which ab has smaller ids; then aa+ab."""
    learnt = bpe.train(["aaabdaaabac"], 300)
    assert list(learnt.tokens[257:]) == ["aa", "ab", "aaab"]
    assert [learnt.tokens[i] for i in learnt.encode("aaabdaaabac")] == [
        "aaab",
        "d",
        "aaab",
        "a",
        "c",
    ]


def merges_of_rust(texts: list[str], vocab_size: int, min_frequency: int):
    rust = byte_level(RustTokenizer(models.BPE()))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    rust.train_from_iterator(texts, trainer)
    model = json.loads(rust.to_str())["model"]
    return [tuple(merge) for merge in model["merges"]], model["vocab"]


def assert_same_merges(texts: list[str], vocab_size: int, min_frequency: int) -> None:
    learnt = bpe.train(texts, vocab_size, min_frequency=min_frequency)
    ours = [(learnt.tokens[left], learnt.tokens[right]) for left, right in learnt.merges]
    theirs, vocabulary = merges_of_rust(texts, vocab_size, min_frequency)
    assert ours == theirs
    assert {token: i for i, token in enumerate(learnt.tokens)} == vocabulary


def test_bpe_finds_the_merges_of_the_rust_trainer_on_made_up_texts():
    """Few letters make ties, overlaps ("aaa") and one token by two ways ("aa"+"a", "a"+"aa")."""
    rng = random.Random(0)
    for _ in range(150):
        letters = rng.choice(["a", "ab", "abc", " a", "-= ", "éa漢"])
        texts = ["".join(rng.choices(letters, k=rng.randrange(1, 150))) for _ in range(8)]
        assert_same_merges(texts, rng.choice([260, 300, 2000]), rng.choice([0, 2, 5]))


@pytest.mark.parametrize(
    "file",
    [
        "tinyshakespeare/input.txt",
        "sherlock_holmes/pg1661.txt",
        "xquad_en/xquad.en.json",
        "ud_english_ewt/en_ewt-ud-dev.conllu",
        "reuters21578/reut2-000.sgm",
    ],
)
def test_bpe_finds_the_merges_of_the_rust_trainer_on_real_texts(data_folder, file):
    text = (data_folder / file).read_text(encoding="utf-8", errors="replace")[:300_000]
    assert_same_merges([text], 20_000, 2)


def test_wordpiece_joins_the_best_score():
    """Every join, followed with counts made anew: no pair had a higher score than the one taken."""
    learnt = wordpiece.train([TEXT.lower(), "abab abba baab bbab aab " * 3], 120, min_frequency=2)
    counts = Counter(
        w for t in [TEXT.lower(), "abab abba baab bbab aab " * 3] for w in wordpiece.words(t)
    )
    spelled = {w: [w[0], *("##" + c for c in w[1:])] for w in counts}
    first = learnt.n_special + len({piece for pieces in spelled.values() for piece in pieces})
    assert len(learnt.tokens) > first + 20
    for token in learnt.tokens[first:]:
        of_token, of_pair = Counter(), Counter()
        for w, pieces in spelled.items():
            of_token.update({p: counts[w] * n for p, n in Counter(pieces).items()})
            of_pair.update(
                {p: counts[w] * n for p, n in Counter(itertools.pairwise(pieces)).items()}
            )
        score = {p: n / (of_token[p[0]] * of_token[p[1]]) for p, n in of_pair.items() if n >= 2}
        chosen = [p for p in score if p[0] + p[1].removeprefix("##") == token]
        pair = max(chosen, key=score.__getitem__)
        assert score[pair] == pytest.approx(max(score.values()))
        for pieces in spelled.values():
            for _ in bpe.join(pieces, pair, token):
                pass


def test_wordpiece_takes_the_longest_piece():
    vocabulary = [*wordpiece.BERT_SPECIALS, "un", "u", "##n", "##aff", "##able", "##a", "##ff"]
    page = wordpiece.WordPiece(vocabulary)
    assert [page.tokens[i] for i in page.encode("Unaffable")] == ["un", "##aff", "##able"]
    assert page.encode("unx " + "u" + "n" * 100) == [page.tokens.index("[UNK]")] * 2


def cut_all_ways(word: str):
    for n in range(len(word)):
        for places in itertools.combinations(range(1, len(word)), n):
            yield [word[a:b] for a, b in itertools.pairwise([0, *places, len(word)])]


def some_pieces(rng: random.Random) -> dict[str, float]:
    pieces = {"".join(rng.choices("abc", k=rng.randrange(2, 5))) for _ in range(12)} | set("abc")
    shares = {piece: rng.random() for piece in sorted(pieces)}
    return {piece: math.log(share / sum(shares.values())) for piece, share in shares.items()}


def test_the_likeliest_cut_and_the_expected_counts_are_those_of_all_ways_to_cut():
    rng = random.Random(1)
    for _ in range(40):
        log_p = some_pieces(rng)
        word = "".join(rng.choices("abc", k=rng.randrange(1, 9)))
        ways = [way for way in cut_all_ways(word) if all(piece in log_p for piece in way)]
        logs = [sum(log_p[piece] for piece in way) for way in ways]
        edges = unigram.cuts(word, log_p)
        highest, best = unigram.best_cut(edges, log_p)
        assert highest == pytest.approx(max(logs)) and best in ways
        assert sum(log_p[piece] for piece in best) == pytest.approx(max(logs))
        expected: Counter[str] = Counter()
        for way, log in zip(ways, logs):
            for piece in way:
                expected[piece] += math.exp(log)
        new, nats = unigram.em_step({word: 3}, {word: edges}, log_p)
        assert nats == pytest.approx(-3 * math.log(sum(map(math.exp, logs))))
        for piece, n in expected.items():
            assert math.exp(new[piece]) == pytest.approx(n / expected.total())


def test_em_never_makes_the_text_less_likely():
    counts = count_words([TEXT])
    log_p = unigram.seed(counts, 1000)
    edges = {w: unigram.cuts(w, log_p) for w in counts}
    told = []
    for _ in range(8):
        log_p, nats = unigram.em_step(counts, edges, log_p)
        told.append(nats)
    assert all(after <= before + 1e-6 for before, after in itertools.pairwise(told))
    assert told[-1] < 0.9 * told[0]


def test_each_prune_makes_text_and_vocabulary_shorter_together():
    rng = random.Random(3)
    syllables = ["ba", "chuck", "wood", "in", "ter", "est", "ing", "o", "qu"]
    text = " ".join("".join(rng.choices(syllables, k=rng.randrange(1, 5))) for _ in range(1000))
    rounds: list[unigram.Round] = []
    learnt = unigram.train([text], 290, listen=rounds.append)
    assert len(rounds) > 3
    lengths = [r.text_nats + r.vocabulary_nats for r in rounds]
    assert lengths == sorted(lengths, reverse=True)
    assert len(learnt.log_p) == 289 and set(ALPHABET) <= learnt.log_p.keys()


def test_pruning_keeps_what_the_text_needs():
    counts = count_words(["aardvark\n" * 50])
    log_p = unigram.seed(counts, 500)
    for _ in range(3):
        log_p, _ = unigram.em_step(counts, {w: unigram.cuts(w, log_p) for w in counts}, log_p)
    edges = {w: unigram.cuts(w, log_p) for w in counts}
    kept = unigram.prune(counts, edges, log_p, 258)
    assert "aardvark" in kept and len(kept) == 258


def test_repeated_substrings_are_those_counted_one_by_one():
    rng = random.Random(2)
    for _ in range(30):
        counts = {
            "".join(rng.choices("ab", k=rng.randrange(1, 12))): rng.randrange(1, 4)
            for _ in range(6)
        }
        naive: Counter[str] = Counter()
        follows: dict[str, set[str]] = {}
        for w, times in counts.items():
            for a, b in itertools.combinations(range(len(w) + 1), 2):
                if 2 <= b - a <= 5:
                    naive[w[a:b]] += times
                    follows.setdefault(w[a:b], set()).add(w[b : b + 1])
        wanted = {
            piece: n
            for piece, n in naive.items()
            if n >= 2 and (len(piece) == 5 or len(follows[piece]) > 1 or "" in follows[piece])
        }
        assert dict(repeated_substrings(counts, 5)) == wanted


def test_the_suffix_array_is_sorted():
    import numpy as np

    words = ["banana", "ban", "nab", "a"]
    text = np.array([ord(c) for w in words for c in w])
    left = np.concatenate([np.arange(len(w), 0, -1) for w in words])
    suffixes = [w[i:] for w in words for i in range(len(w))]
    order = suffix_array(text, left, 8)
    assert [suffixes[i] for i in order] == sorted(suffixes)
