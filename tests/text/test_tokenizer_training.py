"""Training through the Rust library, from corpora of any size; adapting; measuring."""

from __future__ import annotations

import random

import pytest

from hornbook.errors import ConfigError, DataError, UnknownNameError
from hornbook.text import bpe, character, word
from hornbook.text.adapt import adapt
from hornbook.text.builtin import bert
from hornbook.text.measure import count_tokens, measure, words_of, worst_split
from hornbook.text.tokenizer import BERT_SPECIALS, END_OF_TEXT, UNKNOWN_CHARACTER, Tokenizer
from hornbook.text.train import ALGORITHMS, evenly, pieces_of, train_tokenizer
from hornbook.text.wordpiece import inside_words

rng = random.Random(0)
WORDS = ["".join(rng.choices("abcdefgh", k=rng.randrange(2, 8))) for _ in range(300)]
TEXTS = [" ".join(rng.choices(WORDS, k=40)) + ".\n" for _ in range(100)]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_trains_and_is_usable(algorithm):
    tokenizer = train_tokenizer(algorithm, lambda: TEXTS, 400)
    special = BERT_SPECIALS if algorithm == "wordpiece" else [END_OF_TEXT]
    assert tokenizer.tokens[: len(special)] == special
    assert tokenizer.vocab_size <= 400
    assert {tokenizer.tokens[i] for i in tokenizer.special_ids} == set(special)
    back = tokenizer.decode(tokenizer.encode(TEXTS[:1])[0])
    if algorithm == "wordpiece":
        assert back.replace(" ", "") == TEXTS[0].replace(" ", "").strip()
    else:
        assert back == TEXTS[0] or UNKNOWN_CHARACTER in back


def test_the_rust_path_gives_what_the_pages_give():
    rust = train_tokenizer("bpe", lambda: TEXTS, 500, min_frequency=3)
    page = bpe.train(TEXTS, 500, min_frequency=3).tokenizer()
    assert rust.tokens == page.tokens and rust.encode(TEXTS) == page.encode(TEXTS)
    assert train_tokenizer("character", lambda: TEXTS).tokens == list(character.train(TEXTS).tokens)
    rust = train_tokenizer("word", lambda: TEXTS, 200)
    assert set(rust.tokens[:150]) <= set(word.train(TEXTS, 200).tokens)
    assert rust.unknown_id == 1 and rust.special_ids == {0}


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "word", "unigram"])
def test_the_same_text_gives_the_same_vocabulary(algorithm):
    """Many pairs are equally frequent here, and are taken in an order that is always the same."""
    sizes = {"bpe": 600, "wordpiece": 300, "word": 150, "unigram": 400}
    found = [train_tokenizer(algorithm, lambda: TEXTS, sizes[algorithm]).tokens for _ in range(4)]
    assert all(tokens == found[0] for tokens in found)


def test_only_pieces_that_go_on_with_a_word_are_known_beforehand():
    assert inside_words(["Ab, c-d é1", "日本 x"]) == ["##1", "##b"]
    tokens = train_tokenizer("wordpiece", lambda: ["ab ab, cb! 日本"], 40).tokens
    assert {t for t in tokens if t.startswith("##")} == {"##b"}


def test_a_large_corpus_is_read_in_part_evenly_and_that_is_said():
    said: list[str] = []
    marked = [f"{i // 10:03d} " * 25 for i in range(1000)]  # 100 bytes each
    train_tokenizer("word", lambda: marked, 200, sample=20_000, say=said.append)
    assert "Read 0 MB of 0 MB, evenly" in said[0]
    taken = list(evenly(marked, 0.2))
    assert 190 <= len(taken) <= 200
    assert len({text[:3] for text in taken}) == 100  # from every tenth of every hundredth


def test_only_the_sample_is_learnt_from():
    """Ever new words, made on the way: the vocabulary has those of a tenth."""

    def stream():
        return (" ".join(f"w{i * 1000 + j}" for j in range(1000)) for i in range(100))

    tokenizer = train_tokenizer("word", stream, 200_000, sample=80_000, min_frequency=1)
    assert 5_000 < tokenizer.vocab_size < 12_000


def test_a_long_document_is_cut_between_words():
    text = " ".join(WORDS * 50)
    pieces = list(pieces_of([text, "", "short"], 1000))
    assert "".join(pieces) == text + "short" and max(map(len, pieces)) <= 1000
    assert all(piece.startswith(" ") for piece in pieces[1:-1])
    assert list(pieces_of(["x" * 2500], 1000)) == ["x" * 1000, "x" * 1000, "x" * 500]


def test_a_long_document_gives_the_same_vocabulary_as_its_parts():
    text = "".join(TEXTS * 30)
    whole = bpe.train([text], 400)
    assert train_tokenizer("bpe", lambda: [text], 400).tokens == list(whole.tokens)


def test_bad_input_is_told():
    with pytest.raises(UnknownNameError, match="'bpa'") as error:
        train_tokenizer("bpa", lambda: TEXTS, 400)
    assert "Did you mean 'bpe'?" in error.value.hint
    with pytest.raises(ConfigError, match="too small") as size_error:
        train_tokenizer("bpe", lambda: TEXTS, 200)
    assert "257" in size_error.value.hint
    for empty in ([], [""], ["", ""]):
        with pytest.raises(DataError, match="no text"):
            train_tokenizer("bpe", lambda empty=empty: empty, 400)
    said: list[str] = []
    small = train_tokenizer("bpe", lambda: ["ab ab ab"], 5000, say=said.append)
    assert small.vocab_size < 300 and "5,000 were asked for" in said[0]


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "word", "unigram"])
def test_adapting_keeps_the_pipeline_and_shortens_the_new_text(algorithm):
    old = train_tokenizer(algorithm, lambda: TEXTS, 420)
    other = [text.translate(str.maketrans("abcdefgh", "stuvwxyz")) for text in TEXTS]
    new = adapt(old, lambda: other, 420)
    before, after = measure(old, other), measure(new, other)
    if old.unknown_id is None:
        assert after.n_tokens < 0.9 * before.n_tokens
    else:
        assert after.n_unknown < 0.5 * before.n_unknown
    kept = ("normalizer", "pre_tokenizer", "decoder", "added_tokens")
    assert {k: new.description[k] for k in kept} == {k: old.description[k] for k in kept}
    assert new.unknown_id == old.unknown_id and new.special_ids == old.special_ids
    assert new.decode(new.encode(other)[0]) == (
        " ".join(other[0].replace(".", " .").split()).replace(" .", ".")
        if algorithm == "wordpiece"
        else other[0]
    ) or UNKNOWN_CHARACTER in new.decode(new.encode(other)[0])


def test_adapting_gives_the_template_its_new_ids():
    old = Tokenizer(bert("\n".join([*"abc", *BERT_SPECIALS]) + "\n"))
    assert old.encode(["a"]) == [[5, 0, 6]]
    new = adapt(old, lambda: TEXTS, 300)
    ids = new.encode(["a"])[0]
    assert (ids[0], ids[-1]) == (new.id_of("[CLS]"), new.id_of("[SEP]")) == (2, 3)


def test_measures_are_counts():
    tokenizer = train_tokenizer("character", lambda: ["abc "])
    found = measure(tokenizer, ["ab ab", "cΩ"])
    assert (found.n_tokens, found.n_words, found.n_bytes, found.n_unknown) == (7, 3, 8, 1)
    assert found.tokens_per_word == 7 / 3 and found.bytes_per_token == 8 / 7
    assert found.unknown_share == 1 / 7 and found.used_share == 1.0  # a, b, c, space and �
    assert measure(tokenizer, []).bytes_per_token == 0


def test_the_worst_words_are_those_whose_own_token_would_save_most():
    tokenizer = train_tokenizer("bpe", lambda: TEXTS, 600)
    text = "XJ-4410-B, (XJ-4410-B) zzzzzzzz--XJ-4410-B aa"
    found = worst_split(tokenizer, words_of([text]), n=2)
    assert [(s.word, s.count) for s in found] == [("XJ-4410-B", 3), ("zzzzzzzz", 1)]
    assert "".join(found[0].pieces) == " XJ-4410-B"
    larger = tokenizer.with_tokens(["XJ-4410-B"])
    before, after = (count_tokens(t, [" XJ-4410-B" * 3]) for t in (tokenizer, larger))
    assert before - after == found[0].saved
    assert worst_split(larger, words_of(["XJ-4410-B"]), n=5) == []
