from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornbook.data.rows import read_rows
from hornbook.data.tables import MISSING_LABELS, MISSING_TEXTS, load_table
from hornbook.errors import DataError, UnknownNameError

ROWS = [(f"this is text number {i}", "ab"[i % 2]) for i in range(6)]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)


@pytest.fixture
def put(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def pairs(dataset):
    return [(e.document.text, e.labels[0]) for e in dataset.examples]


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


JSONL = "".join(json.dumps({"text": t, "label": lb}) + "\n" for t, lb in ROWS)
FORMS = {
    "a.csv": CSV,
    "a.tsv": CSV.replace(",", "\t"),
    "semicolons.csv": CSV.replace(",", ";"),
    "a.jsonl": JSONL,
    "a.json": json.dumps([{"text": t, "label": lb} for t, lb in ROWS]),
    "inside.json": json.dumps({"v": 1, "data": [{"text": t, "label": lb} for t, lb in ROWS]}),
    "lines.json": JSONL,
    "a.csv.gz": gzip.compress(CSV.encode()),
    "a.csv.bz2": bz2.compress(CSV.encode()),
    "a.jsonl.xz": lzma.compress(JSONL.encode()),
    "a.csv.zst": zst(CSV.encode()),
    "mark.csv": CSV.encode("utf-8-sig"),
    "wide.csv": CSV.encode("utf-16"),
    "windows.csv": CSV.replace("\n", "\r\n"),
    "blank-lines.csv": CSV.replace("\n", "\n\n"),
}


@pytest.mark.parametrize("kind", ["Sequence", "List"])
def test_class_numbers_in_lists_of_parquet_have_names_too(tmp_path, kind):
    feature = {"feature": {"names": ["O", "B-PER"], "_type": "ClassLabel"}, "_type": kind}
    about = {
        "info": {"features": {"ner_tags": feature, "tokens": {"feature": {"dtype": "string"}}}}
    }
    table = pa.table({"tokens": [["Al", "sat"]], "ner_tags": [[1, 0]]})
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), path
    )
    assert read_rows(path).rows == [{"tokens": ["Al", "sat"], "ner_tags": ["B-PER", "O"]}]


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(put, name):
    assert pairs(load_table(put(name, FORMS[name]))) == ROWS


def test_parquet_with_lists_and_class_numbers(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"text": ["one", "two", "three"], "topics": [["a", "b"], ["a"], []]})
    pyarrow.parquet.write_table(table, path)
    dataset = load_table(path)
    assert dataset.multi_label and [e.labels for e in dataset.train] == [("a", "b"), ("a",)]
    about = {"info": {"features": {"label": {"names": ["neg", "pos"], "_type": "ClassLabel"}}}}
    table = pa.table({"text": ["one", "two", "three"], "label": [0, 1, -1]})
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(about)}), path
    )
    dataset = load_table(path)
    assert pairs(dataset) == [("one", "neg"), ("two", "pos")]
    assert "1 row(s) without a label were dropped." in dataset.notes


def test_a_folder_a_label(put, tmp_path):
    for label in ("ham", "spam"):
        for i in range(2):
            put(f"mail/{label}/{i}.txt", f"{label} text {i}")
            put(f"split/train/{label}/{i}.txt", f"{label} text {i}")
        put(f"split/test/{label}/9.txt", f"{label} text 9")
    dataset = load_table(tmp_path / "mail")
    assert dataset.train[2].labels == ("spam",) and dataset.train[2].id == "spam/0.txt"
    dataset = load_table(tmp_path / "split")
    assert (len(dataset.train), len(dataset.test)) == (4, 2)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
words = cells.map(str.strip).filter(lambda t: t not in MISSING_TEXTS | MISSING_LABELS)


@given(st.lists(st.tuples(words, st.sampled_from(["a", "b;c", 'say "x"', "d,e"])), min_size=5))
def test_what_the_csv_module_writes_is_read(tmp_path_factory, rows):
    rows += [("one", "a"), ("two", "a"), ("three", "b;c"), ("four", "b;c")]
    path = tmp_path_factory.mktemp("tables") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    assert pairs(load_table(path)) == rows


def test_several_labels_a_field(put):
    text = "body;topics\none two;a|b\nthree;a\nfour;b | a | b\n"
    dataset = load_table(put("a.csv", text), label_separator="|")
    assert [e.labels for e in dataset.train] == [("a", "b"), ("a",), ("b", "a")]
    assert dataset.multi_label and any("Several labels" in n for n in dataset.notes)
    for written in ('"[""a"", ""b""]"', "\"['a', 'b']\""):  # JSON, and what pandas writes
        lists = f"text,tags\none,{written}\ntwo,[]\nthree,\"['a']\"\n"
        dataset = load_table(put("b.csv", lists))
        assert [e.labels for e in dataset.train] == [("a", "b"), ("a",)]


def test_a_separator_is_proposed(put):
    labels = ["a;b", "a", "b;c", "c", "a;c", "b"]
    text = "text,label\n" + "".join(f"text {i},{lb}\n" for i, lb in enumerate(labels * 3))
    assert any("--label-separator ';'" in note for note in load_table(put("a.csv", text)).notes)


def test_columns_are_guessed_and_the_guess_is_said(put):
    rows = "".join(f"{i},s{i},a longer piece of prose {i},{'xy'[i % 2]}\n" for i in range(8))
    dataset = load_table(put("a.csv", "nr,Subject,Body,Queue\n" + rows))
    assert dataset.train[0].document.text == "a longer piece of prose 0"
    assert dataset.train[0].document.title == "s0" and dataset.train[0].labels == ("x",)
    assert any("title 'Subject', text 'Body', label 'Queue'" in note for note in dataset.notes)
    dataset = load_table(put("b.csv", "nr,Was,Wie,Art\n" + rows), label="Art")
    assert dataset.train[0].document.text == "a longer piece of prose 0"


def test_a_split_column_is_followed(put):
    rows = "one,a,train\ntwo,b,train\nthree,a,test\nfour,b,dev\n"
    dataset = load_table(put("a.csv", "text,label,split\n" + rows))
    assert [e.document.text for e in dataset.train] == ["one", "two", "four"]
    assert [e.document.text for e in dataset.test] == ["three"]
    with pytest.raises(DataError, match="line 5: the split 'later'"):
        load_table(put("b.csv", "text,label,when\n" + rows.replace("dev", "later")),
                   split_column="when")  # fmt: skip


ERRORS = {
    "ragged": ("a.csv", CSV + "x,y,z\n", "line 8: 3 fields where the header has 2"),
    "open quote": ("a.csv", CSV + '"open,b\nmore,c\n', "line 8: unexpected end of data"),
    "after a long row": ("a.csv", 'text,label\n"two\nlines",a\nx\n', "line 4: 1 fields"),
    "broken JSON": ("a.jsonl", '{"text": "x", "label": "a"}\n\n{"text": \n', "line 3: not JSON"),
    "not an object": ("a.jsonl", '{"text": "x", "label": "a"}\n[1]\n', "line 2: not an object"),
    "broken JSON file": ("a.json", '[{"text": "x"},\n{"text" 1}]', "line 2: not JSON"),
    "binary": ("a.csv", b"PK\x03\x04\0\0", "binary file"),
    "not parquet": ("a.parquet", b"PAR1 nothing", "cannot be read as parquet"),
    "not compressed": ("a.csv.gz", CSV, "cannot be read"),
    "cut short": ("a.csv.xz", lzma.compress(CSV.encode())[:-9], "cannot be read"),
    "cut zst": ("a.csv.zst", zst(CSV.encode())[:20], "cannot be read"),
    "empty": ("a.csv", "", "is empty"),
    "header only": ("a.csv", "text,label\n", "no rows"),
    "one column": ("a.csv", "text\nx\n", "one column only"),
    "same name twice": ("a.csv", "text,text\nx,y\n", "line 1: two columns are named 'text'"),
    "one class": ("a.csv", "text,label\nfoo bar,a\nbar foo,a\n", "all 2 texts have the label 'a'"),
    "ids for labels": ("a.csv", "text,label\none,1\ntwo,2\nthree,3\n", "labels .* are different"),
    "nothing left": ("a.csv", "text,label\n,a\nfoo,\n", "no row has both"),
    "which column": ("a.csv", "p,q\n1,2\n3,4\n", "which column is the text"),
    "spreadsheet": ("a.xlsx", b"x", "not known by its name"),
    "label object": ("a.jsonl", '{"text": "x", "label": {"a": 1}}\n', "line 1: the label"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_place(put, case):
    name, content, message = ERRORS[case]
    with pytest.raises(DataError, match=message) as caught:
        load_table(put(name, content))
    assert name in str(caught.value) and caught.value.hint


def test_a_missing_file_and_a_missing_column_have_a_near_name(put):
    path = put("tickets.csv", CSV)
    with pytest.raises(DataError) as caught:
        load_table(path.with_name("ticket.csv"))
    assert "Did you mean 'tickets.csv'" in caught.value.hint
    with pytest.raises(UnknownNameError) as caught:
        load_table(path, label="lable")
    assert "Did you mean 'label'" in caught.value.hint


def test_what_is_missing_is_dropped_and_counted(put):
    rows = "id,text,label\n1,foo,a\n2,nan,b\n3,,b\n4,bar,\n5,baz,b\n6,boo,a\n7,bim,b\n"
    dataset = load_table(put("a.csv", rows))
    assert [e.id for e in dataset.train] == ["1", "5", "6", "7"]
    assert "2 row(s) without text were dropped." in dataset.notes
    assert "1 row(s) without a label were dropped." in dataset.notes
    lines = [{"text": None, "label": "a"}, {"text": float("nan"), "label": "a"}]
    lines += [{"text": t, "label": lb} for t, lb in ROWS] + [{"text": "x", "label": float("nan")}]
    dataset = load_table(put("b.jsonl", "\n".join(map(json.dumps, lines))))
    assert pairs(dataset) == ROWS and len(dataset.notes) == 2


def test_duplicate_ids_are_said_and_made_different(put):
    dataset = load_table(put("a.csv", "id,text,label\n1,foo,a\n1,bar,b\n2,baz,a\n"))
    assert [e.id for e in dataset.train] == ["1 (line 2)", "1 (line 3)", "2"]
    assert any("1 id(s) in column 'id' stand in several rows" in note for note in dataset.notes)


def test_a_class_with_one_text_is_kept_and_its_cost_said(put):
    dataset = load_table(put("a.csv", CSV + "lonely text,rare\n"))
    assert len(dataset.train) == 7
    assert any("have a single text (rare)" in note for note in dataset.notes)


def test_a_very_long_text_is_read_and_the_csv_limit_put_back(put):
    limit = csv.field_size_limit()
    long = "word " * 40_000
    dataset = load_table(put("a.csv", CSV + f"{long},a\n"))
    assert dataset.train[-1].document.text == long.strip()
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("text", "encoding", "read_as"),
    [
        ("Die Rechnung über fünfzig Euro für März ist falsch bitte prüfen", "cp1252", "cp1252"),
        ("La facture reçue est erronée où ça coûte très cher à Noël", "latin-1", "cp1252"),
        ("zażółć gęślą jaźń; kwota się nie zgadza i dziękuję za pomoc", "cp1250", "cp1250"),
    ],
)
def test_other_encodings_are_found_and_said(put, text, encoding, read_as):
    table = CSV.replace("text number", text)
    dataset = load_table(put("a.csv", table.encode(encoding)))
    assert text in dataset.train[0].document.text
    assert f"line 2: not valid UTF-8; it was read as {read_as}" in dataset.notes[0]


def test_broken_utf8_is_replaced_counted_and_placed(put):
    data = (CSV + "café à Noël,a\n").encode() + b"a bad \xff byte,a\n"
    dataset = load_table(put("a.csv", data))
    assert dataset.train[-1].document.text == "a bad \ufffd byte"
    assert dataset.train[-2].document.text == "café à Noël"
    assert "line 9: not valid UTF-8; 1 broken character(s)" in dataset.notes[0]


def test_a_tsv_with_stray_quotes_is_read_as_it_stands(put):
    dataset = load_table(put("a.tsv", 'text\tlabel\n"quoted" start\ta\nan 11" pipe\tb\n"open\ta\n'))
    assert [e.document.text for e in dataset.train] == ['"quoted" start', 'an 11" pipe', '"open']
    dataset = load_table(put("b.tsv", 'text\tlabel\n"a tab\tinside"\ta\nfoo\tb\nbar\tb\n'))
    assert dataset.train[0].document.text == "a tab\tinside"


def test_numbers_are_labels(put):
    rows = [{"text": f"text {i}", "label": float(i % 2)} for i in range(4)]
    assert {e.labels for e in load_table(put("a.json", json.dumps(rows))).train} == {("0",), ("1",)}


def test_half_an_emoji_is_replaced_since_no_file_could_hold_it(put):
    cut = '{"text": "see you \\ud83d", "label": "a\\ud83d"}\n'
    dataset = load_table(put("a.jsonl", JSONL + cut))
    assert dataset.train[-1].document.text == "see you ?" and dataset.train[-1].labels == ("a?",)
