"""Tagged texts: every form read alike, words where they stand, and what is wrong named."""

from __future__ import annotations

import json

import pytest

from hornbook.data import bio
from hornbook.data.roles import files_by_role, hold_out, role_of
from hornbook.data.tagged import from_spans, open_tagged, placed, read_tagged
from hornbook.errors import DataError, UnknownNameError

CONLL = "EU B-ORG\nrejects O\n\nPeter B-PER\nBlackburn I-PER\n"
CONLL_U = """# sent_id = a-1
# text = I don't know (C#).
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tknow\tknow\tVERB\tVB\t_\t0\troot\t_\t_
4.1\tit\tit\tPRON\tPRP\t_\t_\t_\t_\t_
5\t(\t(\tPUNCT\t-LRB-\t_\t6\tpunct\t_\t_
6\tC#\tC#\tPROPN\tNNP\t_\t4\tobj\t_\t_
7\t)\t)\tPUNCT\t-RRB-\t_\t6\tpunct\t_\t_
8\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

"""


def read(folder, name, text, columns=()):
    (folder / name).write_text(text, encoding="utf-8")
    return read_tagged(folder / name, dict(columns), [])


def test_conll_columns_with_spaces_tabs_comments_and_a_hash_as_a_word(tmp_path):
    old = "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\n"
    assert read(tmp_path, "a.txt", old)[0].tags == ("B-ORG", "O")
    tabs = "#\tO\nRome\tB-loc\n\t\n#rome\tO\n"
    found = read(tmp_path, "b.conll", tabs)
    assert [e.words for e in found] == [("#", "Rome"), ("#rome",)]
    assert [e.id for e in found] == ["line 1", "line 4"]
    numbered = (
        "# sent_id = s1\n# text = Al's.\n1\tAl\tB-PER\t-\tann\n2\t's\tO\t-\tann\n3\t.\tO\t-\tbob\n"
    )
    (example,) = read(tmp_path, "c.iob2", numbered)
    assert (example.id, example.tags) == ("s1", ("B-PER", "O", "O"))
    assert example.places == ((0, 2), (2, 4), (4, 5))


def test_conll_u_leaves_out_what_is_no_word_of_its_own(tmp_path):
    (example,) = read(tmp_path, "a.conllu", CONLL_U)
    assert example.words == ("I", "do", "n't", "know", "(", "C#", ")", ".")
    assert example.tags[1:4] == ("AUX", "PART", "VERB")
    assert [example.text[s:e] for s, e in example.places] == list(example.words)
    assert read(tmp_path, "a.conllu", CONLL_U, {"tags": "xpos"})[0].tags[4] == "-LRB-"
    with pytest.raises(UnknownNameError, match="no column 'ner'"):
        read(tmp_path, "a.conllu", CONLL_U, {"tags": "ner"})


def test_a_row_of_too_few_columns_is_named(tmp_path):
    with pytest.raises(DataError, match=r"line 2: 1 column\(s\) where 2 are expected: 'rejects'"):
        read(tmp_path, "a.txt", "EU B-ORG\nrejects\n")


def test_tables_of_words_and_of_marked_spans_agree(tmp_path):
    words = {"tokens": ["In", "New", "York", "."], "ner_tags": ["O", "B-loc", "I-loc", "O"]}
    text = {"text": "In New York.", "entities": [{"start": 3, "end": 11, "type": "loc"}]}
    listed = {"text": "In New York.", "entities": [[3, 11, "loc"]]}
    by_words = read(tmp_path, "a.jsonl", json.dumps(words))[0]
    by_spans, by_lists = (read(tmp_path, "b.jsonl", json.dumps(t))[0] for t in (text, listed))
    assert by_words.tags == by_spans.tags == by_lists.tags
    assert by_spans.text[slice(*by_spans.places[2])] == "York"
    words["ner_tags"].pop()
    with pytest.raises(DataError, match=r"line 1: .*4 words and 3 tags"):
        read(tmp_path, "a.jsonl", json.dumps(words))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        ({"start": 4, "end": 12}, r"cuts a word[^?]*The nearest place is 3 to 12, 'New York.'"),
        ({"start": 3, "end": 10}, r"cuts a word[^?]*The nearest place is 3 to 11, 'New York'"),
        ({"start": 2, "end": 10, "text": "New York"}, r"nearest place of 'New York' is 3 to 11"),
        ({"start": 3, "end": 40}, "outside of 0 to 12"),
        ({"start": 3, "end": 11, "text": "Boston"}, "'Boston' stands nowhere"),
    ],
)
def test_spans_off_by_one_are_said_with_the_nearest_place(span, said):
    with pytest.raises(DataError, match=f"(?s)line 3: the span.*{said}"):
        from_spans("In New York.", [span | {"label": "loc"}], "line 3")


def test_overlapping_spans_are_refused():
    spans = [{"start": 0, "end": 8, "label": "a"}, {"start": 4, "end": 8, "label": "b"}]
    with pytest.raises(DataError, match="overlaps"):
        from_spans("New York", spans)


def test_words_that_the_text_does_not_have_stand_in_themselves():
    example = placed(["do", "not"], ["A", "B"], text="don't")
    assert example.text == "do not" and example.places == ((0, 2), (3, 6))


# BIO


def test_every_form_of_bio_becomes_one_and_repairs_are_said(tmp_path):
    assert bio.as_bio(["S-a", "B-b", "I-b", "E-b", "O", "U-a"])[0] == [
        "B-a", "B-b", "I-b", "I-b", "O", "B-a",
    ]  # fmt: skip
    repaired, changed = bio.as_bio(["I-a", "I-a", "B-a", "I-b", "O", "I-b"])
    assert repaired == ["B-a", "I-a", "B-a", "B-b", "O", "B-b"]
    assert changed == {"orphan": 3}
    (tmp_path / "train.txt").write_text("a I-PER\nb I-PER\nc O\n\nd B-PER\ne O\n")
    (tmp_path / "dev.txt").write_text("a B-PER\n")
    data = open_tagged(tmp_path, {}, seed=0)
    assert data.train[0].tags == ("B-PER", "I-PER", "O")
    assert "1 of 4 tags are an I- that goes on with no entity" in data.notes[0]


@pytest.mark.parametrize("tag", ["B_PER", "PER-B", "b-PER", "B"])
def test_unknown_forms_of_bio_are_refused_with_their_place(tag):
    with pytest.raises(DataError, match=f"line 7: the tag '{tag}' is no form of BIO"):
        bio.kind_of([("O", "line 1"), (tag, "line 7")])


def test_plain_tags_are_told_from_entities():
    assert bio.kind_of([("NN", ""), ("-LRB-", ""), ("B", "")]) == "plain"
    assert bio.kind_of([("O", ""), ("B-x", "")]) == "entities"
    with pytest.raises(DataError, match="'NN' has no B- or I-"):
        bio.kind_of([("B-x", "here"), ("NN", "there")])
    assert bio.labels(["O", "I-b", "B-a"], "entities") == ("O", "B-a", "I-a", "B-b", "I-b")


# Parts


def test_a_folder_is_read_by_its_names_and_a_file_divided(tmp_path):
    for name in ("x.train.conll", "x.testa", "x.testb", "README.md"):
        (tmp_path / name).write_text(CONLL)
    roles = files_by_role(tmp_path)
    assert {role: p.name for role, p in roles.items()} == {
        "train": "x.train.conll", "validation": "x.testa", "test": "x.testb",
    }  # fmt: skip
    (tmp_path / "one.conll").write_text("".join(f"w{i} B-x\nv O\n\n" for i in range(50)) * 2)
    data = open_tagged(tmp_path / "one.conll", {}, seed=3)
    parts = [{e.text for e in part} for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == 50 and all(parts)  # equal sentences lie on one side
    assert len(data.notes) == 2
    (tmp_path / "x.train.conll").unlink()
    with pytest.raises(DataError, match="no file whose name has the word 'train'"):
        files_by_role(tmp_path)


def test_the_tags_column_is_that_of_the_training_file(tmp_path):
    (tmp_path / "train.txt").write_text("Al NNP B-PER\nsat VBD O\n")
    (tmp_path / "dev.txt").write_text("He B-x O\nsat I-x O\n")
    data = open_tagged(tmp_path, {}, seed=0)
    assert data.validation[0].tags == ("O", "O")


def test_a_line_with_a_tab_is_a_word(tmp_path):
    found = read(tmp_path, "a.conll", "# a comment\n#a=b\tO\nRome\tB-loc\n")
    assert [e.words for e in found] == [("#a=b", "Rome")]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"spans": []}, "line 2: 'text' is no text but None"),
        ({"text": None, "spans": []}, "line 2: 'text' is no text but None"),
        ({"text": "Al", "spans": 3}, "line 2: no list of marked spans but 3"),
    ],
)
def test_a_row_without_a_text_or_with_no_spans_is_named(row, says, tmp_path):
    rows = [{"text": "Al sat.", "spans": [[0, 2, "person"]]}, row]
    with pytest.raises(DataError, match=says):
        read(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))


def test_a_word_that_is_missing_is_not_the_text_none(tmp_path):
    with pytest.raises(DataError, match="line 1: word 2 is missing"):
        read(tmp_path, "a.jsonl", '{"tokens": ["Al", null], "tags": ["B-x", "O"]}\n')


def test_held_out_groups_are_whole_and_about_the_share():
    groups = [i // 10 for i in range(300)]
    out = hold_out(groups, 0.1, seed=1)
    assert 20 <= sum(out) <= 40
    assert all(len({out[i] for i in range(300) if groups[i] == g}) == 1 for g in set(groups))
    assert out == hold_out(groups, 0.1, seed=1) != hold_out(groups, 0.1, seed=2)
    with pytest.raises(DataError, match="belong together"):
        hold_out(["a", "a"], 0.5, seed=0)


def test_a_group_larger_than_the_share_is_held_out_only_where_there_is_no_other():
    for seed in range(8):
        out = hold_out(["a"] * 990 + ["b"] * 10 + ["c"], 0.1, seed)
        assert 0 < sum(out) <= 11
        assert sum(hold_out(["a"] * 60 + ["b"] * 40, 0.1, seed)) == 40
        assert sum(hold_out(["a", "b", "c"], 0.9, seed, n_left=2)) == 1


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("train-v1.1.json", "train"),
        ("en_ewt-ud-dev.conllu", "validation"),
        ("eng.testa", "validation"),
        ("eval.jsonl", "validation"),
        ("test_eval.jsonl", "test"),
        ("semeval-test.tsv", "test"),
        ("wnut17test.conll", "test"),
        ("latest.jsonl", None),
        ("devices.csv", None),
        ("strained.txt", None),
    ],
)
def test_a_file_is_for_what_a_whole_word_of_its_name_says(name, role):
    assert role_of(name) == role


def test_public_data_are_read_whole(data_folder):
    wnut = open_tagged(data_folder / "wnut17", {}, seed=0)
    counts = [len(part) for part in (wnut.train, wnut.validation, wnut.test)]
    assert counts == [3394, 1009, 1287] and not wnut.notes
    assert sum(len(e.words) for e in wnut.test) == 23394
    assert sum(len(bio.spans(e.tags)) for e in wnut.test) == 1079
    dev = read_tagged(data_folder / "ud_english_ewt" / "en_ewt-ud-dev.conllu", {}, [])
    assert (len(dev), sum(len(e.words) for e in dev)) == (2001, 25147)
    assert all(e.text[slice(*p)] == w for e in dev for w, p in zip(e.words, e.places, strict=True))
