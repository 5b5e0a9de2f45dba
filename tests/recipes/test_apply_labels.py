"""Labels of one's own, untrained: scores of three kinds of model, and what becomes of them."""

from __future__ import annotations

import csv
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

from hornbook.errors import ConfigError, DataError
from hornbook.recipes.apply_labels import Labelling, calibrated
from hornbook.recipes.label_scores import by_cosines, by_entailment, by_likelihood, ends_of
from hornbook.tasks.label_bias import CONTENT_FREE

ASKED = [("gold fell", ("metal", "corn")), ("it rained", ("rain",))]
LOGITS = np.array([[0.0, 1.0, 3.0], [2.0, 5.0, 1.0], [1.0, 0.0, 0.5]])


def entailed(names=("contradiction", "neutral", "entailment"), **more):
    """The scores of ASKED, and the pairs that were asked."""
    pairs = []
    task = SimpleNamespace(
        label_names=names, items=pairs.extend, logits=lambda *_, **__: LOGITS[:, : len(names)]
    )
    found = by_entailment(nn.Identity(), task, **more)(ASKED)
    return [scores.tolist() for scores in found], pairs


def test_one_label_is_scored_by_entailment():
    scores, pairs = entailed()
    assert [(p.first, p.second) for p in pairs] == [
        ("gold fell", "This text is about metal."),
        ("gold fell", "This text is about corn."),
        ("it rained", "This text is about rain."),
    ]
    assert scores == [[3, 1], [0.5]]


def test_several_labels_are_each_against_contradiction():
    scores, pairs = entailed(several=True, hypothesis="{label}!")
    assert pairs[0].second == "metal!"
    assert scores == [[3, -1], [-0.5]]


def test_labels_are_known_by_their_names():
    assert ends_of(("CONTRADICTION", "NEUTRAL", "ENTAILMENT")) == (2, 0)
    assert ends_of(("entailment", "not_entailment")) == (0, 1)
    assert ends_of(("not_entailment", "entailment")) == (1, 0)
    assert ends_of(("entailment", "neutral"))[1] is None
    assert ends_of(("grain", "metal"))[0] == -1
    with pytest.raises(ConfigError, match="is contradiction"):
        entailed(("entailment", "neutral", "other"), several=True)


def test_cosines_are_sharpened():
    vectors = {"gold fell": [1, 0], "it rained": [0, 1], "metal": [0.6, 0.8], "corn": [0, 1]}
    encoder = SimpleNamespace(
        encode=lambda texts: np.array([vectors.get(text, [0.8, 0.6]) for text in texts])
    )
    first, second = by_cosines(encoder)(ASKED)
    assert (first.tolist(), second.tolist()) == ([12, 0], [12])


def test_a_decoder_goes_on_with_the_sentence_up_to_the_label():
    questions = []
    task = SimpleNamespace(
        items=questions.extend,
        predict=lambda *_, **__: [{"log_probs": [-1.0, -2.0]}, {"log_probs": [-3.0]}],
    )
    scores = by_likelihood(nn.Identity(), task, hypothesis="It is on {label}, clearly.")(ASKED)
    assert [(q.context, q.options) for q in questions] == [
        ("gold fell\nIt is on", ("metal", "corn")),
        ("it rained\nIt is on", ("rain",)),
    ]
    assert [one.tolist() for one in scores] == [[-1, -2], [-3]]
    with pytest.raises(ConfigError, match="nothing before its label"):
        by_likelihood(nn.Identity(), task, hypothesis="{label}: that is it")


# What becomes of scores


def counted(scores, asked=None):
    """A scorer of a text's score for each label: 0 where none is named."""

    def scorer(rows):
        if asked is not None:
            asked.extend(rows)
        return [np.array([scores.get((t, label), 0.0) for label in labels]) for t, labels in rows]

    return scorer


def row(text, *labels):
    return {"text": text, "labels": list(labels)}


def test_what_is_left_as_it_is_are_shares():
    (found,) = Labelling(counted({("t", "a"): math.log(3)}), content_free=False)(
        [row("t", "a", "b", "a")]
    )
    assert found == {"text": "t", "label": "a", "shares": {"a": 0.75, "b": 0.25}}


def test_what_a_label_gets_of_nothing_is_taken_off_and_asked_once():
    """3 to 1 of the text, 9 to 1 of nothing: 1 to 3."""
    asked = []
    scores = {(text, "a"): math.log(9) for text in CONTENT_FREE} | {("t", "a"): math.log(3)}
    labelling = Labelling(counted(scores, asked))
    assert [one["shares"] for one in labelling([row("t", "a", "b"), row("u", "b", "c")])] == [
        {"b": 0.75, "a": 0.25},
        {"b": 0.5, "c": 0.5},
    ]
    list(labelling([row("t", "a", "c")]))
    assert [text for text, _ in asked] == ["t", "u", *CONTENT_FREE, "t"]


def test_of_several_labels_the_level_stays():
    """Of nothing the log-odds are 1 and -3: 2 above and below their mean."""
    scores = {(text, "a"): 1.0 for text in CONTENT_FREE} | {
        (text, "b"): -3.0 for text in CONTENT_FREE
    }
    labelling = Labelling(counted(scores | {("t", "a"): 1.5, ("t", "b"): -1.5}), several=True)
    (found,) = labelling([row("t", "a", "b")])
    share = {gap: round(1 / (1 + math.exp(-gap)), 4) for gap in (-0.5, 0.5)}
    assert found == {
        "text": "t",
        "labels": ["b"],
        "shares": {"b": share[0.5], "a": share[-0.5]},
    }


# By labelled texts


@pytest.fixture
def sure(tmp_path):
    """A file with 40 texts, and a scorer that is sure of its label and right in three of four."""
    names, scores = ("no", "yes"), {}
    with (tmp_path / "some.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        for i in range(40):
            said = i % 2
            writer.writerow((f"text {i}", names[said if i % 8 < 6 else 1 - said]))
            scores[f"text {i}", names[said]] = 10.0
    return str(tmp_path / "some.csv"), counted(scores)


def test_labelled_texts_make_shares_what_they_say(sure):
    data, scorer = sure
    labelling = calibrated(Labelling(scorer), data)
    (found,) = labelling([row("text 0", "yes", "no")])
    assert found["label"] == "no" and found["shares"]["no"] == pytest.approx(0.75, abs=0.01)
    (note,) = labelling.notes
    assert "on 40 labelled texts" in note and "error 0.250 before" in note
    assert float(note.split(" before, ")[1].split()[0]) < 0.15  # of 40 texts, no less by chance


def test_shares_of_other_labels_are_not_said_to_be_calibrated(sure):
    data, scorer = sure
    with pytest.raises(ConfigError, match="calibrated were the shares of no, yes, not those of a"):
        list(calibrated(Labelling(scorer), data)([row("text 0", "a", "no")]))
    with pytest.raises(ConfigError, match="each by itself"):
        calibrated(Labelling(scorer, several=True), data)


@pytest.mark.parametrize(
    ("n", "labels", "said"), [(9, "ab", "9 texts"), (12, ("a|b", "c"), "12 texts with several")]
)
def test_too_little_calibrates_nothing(n, labels, said, tmp_path):
    rows = [{"text": f"text number {i}", "label": labels[i % 2].split("|")} for i in range(n)]
    file = tmp_path / "few.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        calibrated(Labelling(counted({})), str(file))
