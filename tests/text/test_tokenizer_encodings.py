"""What a tokenizer says of each token: its characters, its word, its window, its padding."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer

from hornbook.errors import ConfigError
from hornbook.text import bpe, character, unigram, word, wordpiece
from hornbook.text.byte_level import BYTE_OF
from hornbook.text.tokenizer import BERT_SPECIALS, END_OF_TEXT, Tokenizer

TEXT = (
    """The quick brown fox jumps over the lazy dog. İstanbul'da naïve cafés, Straße, 漢字 and ﬁne
words: they'll do it's own thing, 3.14 times — the fox, the dog, and the other 🙂 ones.
"""
    * 3
)
TOKENIZERS = {
    "character": character.train([TEXT]).tokenizer(),
    "word": word.train([TEXT], 300).tokenizer(),
    "bpe": bpe.train([TEXT], 330).tokenizer(),
    "wordpiece": wordpiece.train([TEXT], 130, min_frequency=2).tokenizer(),
    "unigram": unigram.train([TEXT], 330).tokenizer(),
}
each = pytest.mark.parametrize("name", TOKENIZERS)
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40) | st.text(
    alphabet=TEXT + "e\u0301 \t\n\u200d👩🚀İΣ", max_size=60
)


@pytest.mark.parametrize("name", ["bpe", "unigram"])
@given(text=texts)
@example(text="👩‍🚀 é漢")
@settings(deadline=None, max_examples=150)
def test_byte_tokens_map_to_their_exact_characters(name, text):
    """Those that hold its bytes: followed byte by byte, where tokens cut characters in two."""
    encoding = TOKENIZERS[name]([text], special=False)[0]
    owner = [i for i, c in enumerate(text) for _ in c.encode()]  # of each byte
    place = 0
    for token, offsets in zip(encoding.tokens, encoding.offsets):
        spelled = bytes(BYTE_OF[c] for c in token)
        assert text.encode()[place : place + len(spelled)] == spelled
        place += len(spelled)
        assert offsets == (owner[place - len(spelled)], owner[place - 1] + 1)
    assert place == len(owner)


@given(text=texts)
@settings(deadline=None, max_examples=100)
def test_words_follow_each_other_without_a_gap(text):
    offsets = TOKENIZERS["word"]([text])[0].offsets
    assert "".join(text[start:end] for start, end in offsets) == text


@given(text=texts)
@settings(deadline=None, max_examples=150)
def test_characters_map_to_themselves(text):
    encoding = TOKENIZERS["character"]([text])[0]
    assert encoding.offsets == [(i, i + 1) for i in range(len(text))]


@given(text=texts)
@settings(deadline=None, max_examples=150)
def test_wordpieces_map_to_the_characters_they_were_made_from(text):
    """Normalizing the characters of a token gives the token; what no token has says nothing."""
    normalize = BertNormalizer(lowercase=True).normalize_str
    encoding = TOKENIZERS["wordpiece"]([text], special=False)[0]
    reached = 0
    for token, (start, end) in zip(encoding.tokens, encoding.offsets):
        assert reached <= start < end
        assert not normalize(text[reached:start]).strip()
        if token not in BERT_SPECIALS:  # [UNK], or one spelled out in the text
            assert normalize(text[start:end]).strip() == token.removeprefix("##")
        reached = end
    assert not normalize(text[reached:]).strip()


@each
def test_word_ids_count_words(name):
    encoding = TOKENIZERS[name](["the fox"], special=False)[0]
    words: dict[int, str] = {}
    for i, (start, end) in zip(encoding.word_ids, encoding.offsets):
        words[i] = words.get(i, "") + "the fox"[start:end]
    wanted = list("the fox") if name == "character" else ["the", "fox"]
    assert [w.strip() or " " for w in words.values()] == wanted
    assert list(words) == list(range(len(words)))


@each
@pytest.mark.parametrize("stride", [0, 3])
def test_windows_cover_every_token_and_overlap_by_the_stride(name, stride):
    tokenizer = TOKENIZERS[name]
    given_texts = [TEXT, "short", TEXT[:90]]
    whole = tokenizer(given_texts)
    windows = tokenizer(given_texts, max_tokens=12, windows=True, stride=stride)
    for source, text in enumerate(given_texts):
        mine = [w for w in windows if w.source == source]
        assert all(len(w) <= 12 for w in mine)
        ids: list[int] = []
        covered = set()
        for w in mine:
            inner = [i for i, s in zip(w.ids, w.special) if not s]
            if ids and stride:
                assert ids[-stride:] == inner[:stride]
            ids += inner[stride:] if ids else inner
            covered |= {c for start, end in w.offsets for c in range(start, end)}
        assert ids == [i for i, s in zip(whole[source].ids, whole[source].special) if not s]
        assert covered == {c for s, e in whole[source].offsets for c in range(s, e)}
        if name != "wordpiece":
            assert covered == set(range(len(text)))


@each
def test_a_batch_is_a_loop_of_singles(name):
    tokenizer = TOKENIZERS[name]
    batch = [TEXT, "", "a dog", "\ud83d half an emoji"]
    assert [e.ids for e in tokenizer(batch)] == [tokenizer([text])[0].ids for text in batch]
    assert tokenizer.encode(batch) == [tokenizer.encode([text])[0] for text in batch]
    assert tokenizer.encode(batch) == [e.ids for e in tokenizer(batch)]
    if name != "wordpiece":
        cut = tokenizer.encode(batch, max_tokens=5)
        assert cut == [ids[:5] for ids in tokenizer.encode(batch)]


@each
def test_padding_is_masked_and_changes_nothing_else(name):
    tokenizer = TOKENIZERS[name]
    plain = tokenizer(["the lazy dog", "a"])
    padded = tokenizer(["the lazy dog", "a"], pad=True)
    assert len({len(e) for e in padded}) == 1
    for before, after in zip(plain, padded):
        n = len(before)
        assert after.ids[:n] == before.ids and after.mask == [True] * n + [False] * (len(after) - n)
        assert set(after.tokens[n:]) <= {"[PAD]", END_OF_TEXT}
        assert set(after.offsets[n:]) <= {(0, 0)} and all(after.special[n:])
    assert {len(e) for e in tokenizer(["a"], pad=64)} == {64}


def test_pairs_tell_the_first_text_from_the_second():
    encoding = TOKENIZERS["wordpiece"](["the dog"], ["the fox"], pad=24)[0]
    assert [t for t in encoding.tokens if t in ("[CLS]", "[SEP]")] == ["[CLS]", "[SEP]", "[SEP]"]
    assert {encoding.sequences[i] for i, t in enumerate(encoding.type_ids) if t} == {1, None}
    for sequence, text in enumerate(["the dog", "the fox"]):
        spans = [o for o, s in zip(encoding.offsets, encoding.sequences) if s == sequence]
        assert (spans[0][0], spans[-1][1]) == (0, len(text))


def test_room_that_is_too_small_is_refused():
    for options in (
        {"max_tokens": 2},
        {"max_tokens": 5, "stride": 3},
        {"max_tokens": 9, "stride": -1},
    ):
        with pytest.raises(ConfigError, match="no room"):
            TOKENIZERS["wordpiece"]([TEXT], windows=True, **options)


def test_added_words_stay_whole_and_come_back(tmp_path):
    base = TOKENIZERS["bpe"]
    larger = base.with_tokens(["XJ-4410-B", "fox"])
    text = "the XJ-4410-B, a fox and a foxglove XJ-4410-Bis"
    tokens = larger([text])[0].tokens
    assert tokens.count("XJ-4410-B") == 1 and tokens.count("fox") == 1
    assert larger.decode(larger.encode([text])[0]) == text
    assert larger.tokens[: base.vocab_size] == base.tokens
    assert larger.n_bytes(larger.encode([text])[0]) == len(text)
    assert base.vocab_size + 2 == larger.vocab_size and "fox" not in base.tokens
    larger.save(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path / "tokenizer.json").encode([text]) == larger.encode([text])
    with pytest.raises(ConfigError, match="café"):
        base.with_tokens(["café"])


@pytest.mark.parametrize("name", ["bpe", "unigram", "character", "word"])
def test_bytes_of_tokens_add_up_to_those_of_the_text(name):
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode([TEXT])[0]
    assert tokenizer.n_bytes(ids) == len(TEXT.encode())
    assert tokenizer.n_bytes([tokenizer.id_of(END_OF_TEXT)]) == 0


def test_special_tokens_are_known():
    assert TOKENIZERS["bpe"].special_ids == {0} and TOKENIZERS["bpe"].unknown_id is None
    assert TOKENIZERS["wordpiece"].special_ids == {0, 1, 2, 3, 4}
    assert TOKENIZERS["wordpiece"].unknown_id == 1
    assert TOKENIZERS["character"].unknown_id == 1 and TOKENIZERS["character"].special_ids == {0}


def test_what_is_unknown_is_named():
    assert TOKENIZERS["character"].unknown("the Ωmega Ω ЖΩ") == {"Ω": 3, "Ж": 1}
    assert TOKENIZERS["character"].unknown("the \ufffd") == {}
    assert TOKENIZERS["word"].unknown("The quick zebra") == {" zebra": 1}
    assert TOKENIZERS["wordpiece"].unknown("the ΩΩ fox") == {"ΩΩ": 1}
    assert TOKENIZERS["bpe"].unknown("Ω") == {}
