"""Corpora: what a name or a path means, how it is divided, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from hornbook.data import hub
from hornbook.data.corpora import CORPORA, corpus_cards, single_file
from hornbook.data.corpora.sherlock import without_gutenberg
from hornbook.data.corpus import FEW, by_document, joined, open_corpus
from hornbook.data.text_stats import corpus_stats, text_stats, unseen
from hornbook.data.textfiles import LONGEST, PIECE, after, before, cut_place, gathered
from hornbook.errors import (
    ConfigError,
    DataError,
    DownloadError,
    UnavailableError,
    UnknownNameError,
)


def whole(corpus) -> str:
    return "".join([*corpus.train(), *corpus.validation()])


@pytest.mark.parametrize(
    ("name", "n_train", "n_validation", "n_different"),
    [
        ("sherlock", 449_762, 112_441, 88),
        ("tinyshakespeare", 1_003_854, 111_540, 65),  # nanoGPT's division
        ("the_verdict", 18_431, 2_048, 62),
    ],
)
def test_single_texts_are_cut_as_their_cards_say(
    data_folder, name, n_train, n_validation, n_different
):
    corpus = open_corpus(name)
    [train], [validation] = corpus.train(), corpus.validation()
    assert (len(train), len(validation)) == (n_train, n_validation)
    assert len({*train, *validation}) == n_different
    assert corpus.one_text and corpus.n_bytes == len((train + validation).encode())
    half = open_corpus(name, validation_share=0.5)
    assert len(next(half.train())) == (n_train + n_validation) // 2


def test_sherlock_is_the_book_alone(data_folder):
    text = whole(open_corpus("sherlock"))
    assert text.startswith("The Adventures of Sherlock Holmes\n")
    assert text.endswith("considerable success.\n")
    assert "Gutenberg" not in text and "\r" not in text and "\ufeff" not in text
    with pytest.raises(DataError, match="START OF"):
        without_gutenberg("Once upon a time", "a.txt")


def test_cards_name_themselves():
    cards = corpus_cards()
    assert [card.name for card in cards] == list(CORPORA)
    for card in cards:
        assert card.licence and card.source and card.size and card.split
        assert len(card.sha256) in (0, 64)


def test_python_is_a_corpus_without_a_network(monkeypatch):
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    for name in ("pydocs", "pycode"):
        corpus = open_corpus(name)
        train, validation = list(corpus.train()), list(corpus.validation())
        assert len(train) > 5 * len(validation) > 50
        assert not {*train} & {*validation}
        assert train == list(corpus.train())  # anew at each call


def test_a_corpus_that_is_nowhere_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_OFFLINE", "1")
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path / "one"))
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "two"))
    for name in ("sherlock", "openwebtext"):
        with pytest.raises(UnavailableError) as error:
            open_corpus(name)
        assert str(tmp_path / "one") in error.value.message
        assert str(tmp_path / "two" / "data") in error.value.message
        assert "pydocs" in error.value.hint and "pycode" in error.value.hint


def test_a_single_file_is_checked_and_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path / "one"))
    monkeypatch.setenv("HORNBOOK_HOME", str(tmp_path / "two"))
    monkeypatch.delenv("HORNBOOK_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    source = tmp_path / "source.txt"
    source.write_text("a text\n")
    from hornbook.files import sha256

    right = {"url": source.as_uri(), "sha256": sha256(source)}
    found = single_file.single_file("folder", "text.txt", **right)
    assert found == tmp_path / "two" / "data" / "folder" / "text.txt"
    assert found.read_text() == "a text\n"
    found.write_text("another text\n")
    with pytest.raises(DataError, match="not the file expected"):
        single_file.single_file("folder", "text.txt", **right)
    found.unlink()
    with pytest.raises(UnavailableError, match="looked for"):
        single_file.single_file("folder", "text.txt", **right | {"sha256": "0" * 64})
    assert issubclass(DownloadError, UnavailableError) and not found.exists()


def test_a_large_corpus_is_read_from_its_folder(monkeypatch, tmp_path):
    """OpenWebText as published: archives in archives, xz."""
    folder = tmp_path / "openwebtext"
    folder.mkdir()
    for number in range(3):
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w") as archive:
            for page in range(4):
                data = f"Page {page} of part {number}: über alles Mögliche.\n".encode()
                member = tarfile.TarInfo(f"{page}.txt")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        (folder / f"part{number}_data.xz").write_bytes(lzma.compress(inner.getvalue()))
    monkeypatch.setenv("HORNBOOK_DATA", str(tmp_path))
    corpus = open_corpus("openwebtext", validation_share=0.25)
    train, validation = list(corpus.train()), list(corpus.validation())
    assert len(train) == 9 and len(validation) == 3
    assert {d[:6] for d in train + validation} == {f"Page {page}" for page in range(4)}
    assert corpus.source == str(folder) and corpus.licence


@pytest.mark.parametrize("form", ["txt", "gz", "bz2", "xz", "zst"])
def test_a_long_text_is_streamed_whole_whatever_its_packing(tmp_path, form):
    """Characters of one to four bytes, CRLF, longer than a piece and than a document."""
    line = "naïve – “quoted” 日本語 🙂 plain words to fill the line\r\n"
    n_lines = 5 * LONGEST // 4 // len(line)
    data = (line * n_lines).encode()
    path = tmp_path / f"text.{form}"
    if form == "zst":
        with pyarrow.output_stream(str(path), compression="zstd") as stream:
            stream.write(data)
    else:
        pack = {"txt": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        path.write_bytes(pack[form](data))
    assert len(data) > 3 * PIECE
    text = line.replace("\r\n", "\n") * n_lines
    corpus = open_corpus(path)
    train, validation = "".join(corpus.train()), "".join(corpus.validation())
    assert train + validation == text
    assert len(train) == int(0.9 * len(text)) and corpus.n_bytes == len(text.encode())
    documents = list(corpus.train())
    assert corpus.one_text and max(map(len, documents)) <= LONGEST
    assert all(document.endswith("\n") for document in documents[:-1])


def test_memory_stays_flat_however_long_a_text_is(tmp_path):
    path = tmp_path / "long.txt"
    with path.open("w") as file:
        for _ in range(400):
            file.write("all work and no play makes Jack a dull boy\n" * 1500)
    assert path.stat().st_size > 25_000_000
    tracemalloc.start()
    corpus = open_corpus(path)
    n = sum(map(len, corpus.train()))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == int(0.9 * path.stat().st_size)
    assert peak < 12_000_000


def test_pieces_cut_and_gather_without_loss():
    pieces = ["abc\n", "", "defg\nh", "i\n\nj", "klm"]
    text = "".join(pieces)
    for n in range(len(text) + 2):
        assert "".join(before(pieces, n)) + "".join(after(pieces, n)) == text
        assert "".join(before(pieces, n)) == text[:n]
    for longest in range(1, len(text) + 2):
        found = list(gathered(pieces, longest))
        assert "".join(found) == text and max(map(len, found)) <= longest
    assert list(gathered([" \n", "\n"])) == []
    text = "x" * 95 + "\nyy"
    assert cut_place(text, 97) == 96  # behind the line
    assert cut_place("x" * 50 + "\n\n" + "y" * 50, 60) == 60  # not between empty lines


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz", "jsonl.zst"])
def test_tables_of_all_forms_give_their_texts(tmp_path, form):
    texts = [f'the text, number {i} «quoted "twice"»\nsecond line' for i in range(30)]
    rows = [{"id": i, "body": text, "topic": "x" * 80} for i, text in enumerate(texts)]
    rows[3]["body"] = rows[7]["body"] = None
    kept = {text for i, text in enumerate(texts) if i not in (3, 7)}
    path = tmp_path / f"table.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        quoted = [[str(v if v is not None else "nan") for v in row.values()] for row in rows]
        separator = "\t" if form == "tsv" else ","
        lines = [separator.join('"' + v.replace('"', '""') + '"' for v in r) for r in quoted]
        content = {
            "csv": "\n".join(["id,body,topic", *lines]),
            "tsv": "\n".join(["id\tbody\ttopic", *lines]),
            "jsonl": "\n".join(json.dumps(row) for row in rows),
            "json": json.dumps(rows),
        }[form.split(".")[0]].encode()
        if form.endswith(".gz"):
            content = gzip.compress(content)
        if form.endswith(".zst"):
            content = pyarrow.Codec("zstd").compress(content, asbytes=True)
        path.write_bytes(content)
    corpus = open_corpus(path)
    found = [*corpus.train(), *corpus.validation()]
    assert {*found} == kept and len(found) == len(kept)
    assert any("'body'" in note for note in corpus.notes)
    assert any("2 row(s) without text" in note for note in corpus.notes)
    with pytest.raises(UnknownNameError) as error:
        open_corpus(path, text="bdy")
    assert "Did you mean 'body'?" in error.value.hint


def test_documents_are_divided_by_what_they_say():
    texts = [f"document number {i}" for i in range(2000)]
    corpus = by_document("many", lambda: iter(texts), 0.1)
    train, validation = list(corpus.train()), list(corpus.validation())
    assert sorted(train + validation) == sorted(texts)
    assert 140 < len(validation) < 260
    shuffled = by_document("again", lambda: iter([*reversed(texts), texts[0]]), 0.1)
    assert {*shuffled.validation()} == {*validation}  # a copy stays with its original
    assert {*by_document("x", lambda: iter(texts), 0.1, seed=1).validation()} != {*validation}


@pytest.mark.parametrize("n", [2, 3, 11, FEW])
def test_few_documents_are_divided_exactly(n):
    texts = [f"document {i}" for i in range(n)]
    corpus = by_document("few", lambda: iter(texts), 0.1)
    assert len(list(corpus.validation())) == max(1, round(0.1 * n))
    assert len(list(corpus.train())) + len(list(corpus.validation())) == n


def test_folders_and_globs(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.md", ".hidden.txt", "_build/d.txt"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is {name}.\n")
    corpus = open_corpus(tmp_path / "texts", validation_share=0.3)
    assert sorted([*corpus.train(), *corpus.validation()]) == [
        "This is a.txt.\n",
        "This is b.txt.\n",
        "This is sub/c.md.\n",
    ]
    assert not corpus.one_text and corpus.n_bytes == 15 + 15 + 18
    globbed = open_corpus(f"{tmp_path}/texts/*.txt")
    assert len([*globbed.train(), *globbed.validation()]) == 3
    (tmp_path / "texts" / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    tables = open_corpus(tmp_path / "texts")  # the others are its read-me files
    assert {*tables.train(), *tables.validation()} == {"one", "two"}


def test_labelled_sets_are_texts_too(data_folder):
    corpus = open_corpus("trec")
    assert len(list(corpus.train())) + len(list(corpus.validation())) == 5452
    assert "labelled" in corpus.notes[0]


def test_the_hub_is_read_in_a_stream(monkeypatch):
    """The library's answers are put in by hand: there is no network in tests."""
    taken = 0

    def rows():
        nonlocal taken
        for i in range(5000):
            taken += 1
            yield {"textbook": f"lesson {i}", "text": "a source", "idx": i}
        raise ConnectionError("the line is down")

    def load(name, *, streaming):
        assert streaming
        return {"test": [], "train": rows()}

    monkeypatch.setattr(hub, "_load", load)
    monkeypatch.setenv("HORNBOOK_DATA", "")
    monkeypatch.setattr("hornbook.files.data_folders", lambda: [])
    corpus = open_corpus("tiny-textbooks", validation_share=0.2)
    assert taken < 300  # no more than the division needs to know
    documents = corpus.train()
    assert next(documents).startswith("lesson ")
    assert open_corpus("hf://someone/some:part", text="text", validation_share=0.2).source == (
        "hf://someone/some:part"
    )
    with pytest.raises(UnavailableError, match="the line is down"):
        list(corpus.validation())


def test_several_corpora_become_one(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text(f"{name} text of its own. " * 10)
    parts = [open_corpus(tmp_path / f"{name}.txt") for name in ("a", "b")]
    both = joined(parts)
    assert whole(both) == "".join(
        [*parts[0].train(), *parts[1].train(), *parts[0].validation(), *parts[1].validation()]
    )
    assert both.n_bytes == sum(p.n_bytes for p in parts) and not both.one_text
    assert joined(parts[:1]) is parts[0]


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (b"", "a.txt", "is empty"),
        (b" \n\t\n", "a.txt", "white space only"),
        (b"", "a.csv", "holds no text"),
        (b"text,label\nnan,a\n,b\n", "a.csv", "holds no text"),
        (b"x", "a.txt", "too short to be divided"),
        (b"ab\0cd", "a.txt", "binary file"),
        (b"a" * PIECE + b"\0" * 9, "a.txt", "zero byte at position 524,288"),
        (b"\xe9\xe8" * PIECE, "a.txt", "is not UTF-8 text"),
        (gzip.compress(b"some words " * 1000, mtime=0)[:-20], "a.txt.gz", "cannot be read"),
        (b"not gzip", "a.txt.gz", "cannot be read"),
        (b"not zstd", "a.txt.zst", "cannot be read"),
        (lzma.compress(b"some words " * 1000)[:-30], "a.txt.xz", "cannot be read"),
        (b"PAR1 no parquet", "a.parquet", "cannot be read"),
        (b'{"text": "a"}\n{"text": \n', "a.jsonl", "line 2: not JSON"),
        (b'{"text": "a"}\n[1]\n', "a.jsonl", "line 2: not an object but list"),
        (b"text,n\nab,1\ncd\n", "a.csv", "line 3: 1 fields where the header has 2"),
        (b'{"n": 3}\n{"n": 4}\n', "a.jsonl", "no column with text"),
        (b'{"text": "a"}\n{"text": "a"}\n', "a.jsonl", "all 2 documents are the same"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(tmp_path, content, name, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as error:
        open_corpus(path)
    assert error.value.hint and name in error.value.message


def test_broken_characters_are_said(tmp_path):
    short = tmp_path / "short.txt"
    short.write_bytes("schöne Grüße, naïve Fräulein ".encode() * 20 + b"\xff and more\n")
    corpus = open_corpus(short)
    assert "\ufffd" in whole(corpus) and any("broken" in note for note in corpus.notes)
    long = tmp_path / "long.txt"
    long.write_bytes(b"plain words\n" * (PIECE // 6) + b"\xff and more\n")
    corpus = open_corpus(long)
    assert whole(corpus).count("\ufffd") == 1
    assert sum("1 broken character" in note for note in corpus.notes) == 1  # once, read thrice
    latin = tmp_path / "latin.txt"
    latin.write_bytes("Die schöne Müllerin wäscht für Fräulein Größe.\n".encode("latin-1") * 30)
    assert "schöne Müllerin" in whole(open_corpus(latin))


@pytest.mark.parametrize(
    ("source", "options", "type_", "said"),
    [
        ("sherlok", {}, UnknownNameError, "Did you mean 'sherlock'?"),
        ("./boook.txt", {}, DataError, "Did you mean 'book.txt'?"),
        ("nowhere/at/all.txt", {}, DataError, "no folder nowhere/at"),
        ("*.nothing", {}, DataError, "no file fits"),
        ("book.txt", {"validation_share": 1.5}, ConfigError, "between 0 and 1"),
        ("pydocs", {"text": "body"}, ConfigError, "no column 'body'"),
        ("empty", {}, DataError, "holds no files"),
    ],
)
def test_a_wrong_source_is_told(tmp_path, monkeypatch, source, options, type_, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "book.txt").write_text("A book. " * 100)
    (tmp_path / "empty").mkdir()
    with pytest.raises(type_) as error:
        open_corpus(source, **options)
    assert said in str(error.value)


def test_counts_of_a_text():
    documents = ["ab é\n", "日 🙂", "a" * 10]
    stats = text_stats(documents)
    joint = "".join(documents)
    assert (stats.n_documents, stats.n_characters) == (3, len(joint))
    assert stats.n_bytes == len(joint.encode()) and stats.n_words == 5 and stats.n_lines == 1
    assert stats.characters["a"] == 11 and next(iter(stats.characters)) == "a"
    assert stats.n_different == len({*joint}) and stats.lengths[3] == 10
    assert unseen(text_stats(["abc"]), stats) == {
        c: joint.count(c) for c in joint if c not in "abc"
    }
    empty = text_stats([])
    assert empty.n_documents == empty.n_bytes == 0


def test_counts_of_a_corpus(data_folder):
    train, validation = corpus_stats(open_corpus("tinyshakespeare"))
    assert train.n_different == 65 and train.n_characters == train.n_bytes == 1_003_854
    assert not unseen(train, validation)
