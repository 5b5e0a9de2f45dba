"""Pairs of texts: from tables, parallel files and running text."""

from __future__ import annotations

import gzip
import json

import pytest

from hornbook.data.pairs import open_pairs
from hornbook.errors import ConfigError, DataError, UnknownNameError
from hornbook.text.sentences import sentences

ROWS = [(f"a dog number {i}", f"ein Hund Nummer {i}") for i in range(30)]


def written(path, rows, header=None):
    path.write_text(
        "".join("\t".join(row) + "\n" for row in [*([header] if header else []), *rows])
    )
    return str(path)


def all_of(pairs):
    return sorted(pairs.train + pairs.validation)


def test_columns_are_named_guessed_or_taken_in_their_order(tmp_path):
    table = written(tmp_path / "a.tsv", [(*row, "x") for row in ROWS], ("de", "English", "target"))
    named = open_pairs(table, source="English", target="de")
    assert all_of(named) == sorted((b, a) for a, b in ROWS)
    assert not any("is written" in note for note in named.notes)
    known = open_pairs(written(tmp_path / "b.tsv", ROWS, ("Source", "TARGET")))
    unknown = open_pairs(written(tmp_path / "c.tsv", ROWS, ("english", "german")))
    assert all_of(known) == all_of(unknown) == sorted(ROWS)
    assert "from column 'english' column 'german' is written" in " ".join(unknown.notes)
    other = open_pairs(str(tmp_path / "c.tsv"), source="german")
    assert all_of(other) == sorted((b, a) for a, b in ROWS)


def test_a_file_without_a_header_loses_no_pair(tmp_path):
    found = open_pairs(written(tmp_path / "a.tsv", ROWS))
    assert all_of(found) == sorted(ROWS)
    assert any("no header" in note for note in found.notes)


def test_the_hubs_nested_translations_and_missing_texts(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"id": i, "translation": {"en": a, "de": b}} for i, (a, b) in enumerate(ROWS)]
    rows[3]["translation"]["de"] = None
    rows[4]["translation"]["en"] = rows[4]["translation"]["en"].split()  # a list of pieces
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_pairs(str(path), source="en", target="de")
    assert all_of(found) == sorted(ROWS[:3] + ROWS[4:])
    assert any("1 pair(s) without a text" in note for note in found.notes)


@pytest.mark.parametrize(
    ("columns", "asked", "kind", "says"),
    [
        (("source", "target"), {"source": "sorce"}, UnknownNameError, "Did you mean 'source'"),
        (("a", "b", "c"), {}, DataError, "--source and --target"),
        (("text", "b", "c"), {"target": "text"}, DataError, "--source and --target"),
    ],
)
def test_columns_that_are_not_clear_are_asked_for(tmp_path, columns, asked, kind, says):
    rows = [(*row, "x")[: len(columns)] for row in ROWS]
    with pytest.raises(kind, match=says):
        open_pairs(written(tmp_path / "a.tsv", rows, columns), **asked)


def test_parallel_files_by_ending_by_stem_and_by_name(tmp_path):
    for part, rows in (("train", ROWS[:20]), ("val", ROWS[20:25]), ("test", ROWS[25:])):
        for side, ending in enumerate(("en", "de")):
            text = "".join(row[side] + "\n" for row in rows)
            with gzip.open(tmp_path / f"{part}.{ending}.gz", "wt") as file:
                file.write(text)
    found = open_pairs(str(tmp_path), source="en", target="de")
    assert (found.train, found.validation) == (ROWS[:20], ROWS[20:25])
    assert any("test" in note for note in found.notes)
    stem = open_pairs(str(tmp_path / "train"), source="de", target="en")
    assert all_of(stem) == sorted((b, a) for a, b in ROWS[:20])
    both = f"{tmp_path / 'train.en.gz'},{tmp_path / 'train.de.gz'}"
    assert all_of(open_pairs(both)) == sorted(ROWS[:20])
    with pytest.raises(DataError, match=r"which is source(.|\n)*there are de, en"):
        open_pairs(str(tmp_path))
    with pytest.raises(DataError, match=r"20 lines and .* 5"):
        open_pairs(f"{tmp_path / 'train.en.gz'},{tmp_path / 'val.de.gz'}")
    with pytest.raises(DataError, match=r"no file \*.fr"):
        open_pairs(str(tmp_path), source="en", target="fr")


def test_running_text_teaches_the_next_sentence_and_has_no_columns(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"It is {i} o'clock. Is it late? “No!” said she.\n" for i in range(40)))
    found = open_pairs(str(path))
    assert ("It is 7 o'clock.", "Is it late?") in found.train
    assert ("said she.", "It is 8 o'clock.") in found.train
    assert any("the next one is written" in note for note in found.notes)
    with pytest.raises(ConfigError, match="running text and has no en"):
        open_pairs(str(path), source="en")


def test_sentences_end_where_they_end():
    text = "One.  Two goes\non! “Three?” he said.\n\nA heading\n\n* * *\n\nFour"
    expected = ["One.", "Two goes on!", "“Three?”", "he said.", "A heading", "Four"]
    assert sentences(text) == expected


def test_equal_sources_stay_together_and_the_seed_divides(tmp_path):
    rows = [(f"source {i % 40}", f"target {i}") for i in range(120)]
    path = written(tmp_path / "a.tsv", rows, ("source", "target"))
    found, again, other = (open_pairs(path, seed=seed) for seed in (0, 0, 1))
    sides = [{source for source, _ in part} for part in (found.train, found.validation)]
    assert not sides[0] & sides[1] and len(sides[1]) == 4
    assert found == again and found.validation != other.validation
