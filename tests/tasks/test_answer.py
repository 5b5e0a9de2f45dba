"""Questions: windows, the loss over their tokens, the best spans, SQuAD's metrics."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hornbook.data.questions import Answer as Place
from hornbook.data.questions import Question
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import SpanFinder
from hornbook.recipes.preflight import check_copies
from hornbook.tasks.answer import Answer, marked
from hornbook.tasks.answer_metrics import answer_metrics, exact_match, overlap_f1
from hornbook.tasks.task import Parts
from hornbook.text.builtin import bert
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'-.,!?"
VOCABULARY = [*BERT_SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), *(f"w{i}" for i in range(80))]
TOKENIZER = Tokenizer(bert("\n".join(VOCABULARY)))
CONTEXT = " ".join(f"w{i}" for i in range(80))


def make_bundle(seed=0):
    torch.manual_seed(seed)
    sizes = BertConfig(len(VOCABULARY), 128, n_layers=2, n_heads=4, d_model=32, d_ff=48)
    return SimpleNamespace(model=Bert(sizes), tokenizer=TOKENIZER)


def task_of(**settings):
    return Answer(TOKENIZER, **{"max_tokens": 32, "stride": 8, **settings})


def question(first, last, context=CONTEXT):
    text = " ".join(f"w{i}" for i in range(first, last + 1))
    return Question("who w3?", context, (Place(text, context.index(text)),), id=f"q{first}")


@pytest.fixture(scope="module")
def model():
    built = task_of().build(make_bundle())
    with torch.no_grad():
        built.head.out.weight.mul_(40)
    return built.eval()


def test_windows_are_those_of_transformers_tokenizer():
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.rust)
    asked = question(20, 22)
    expected = theirs(
        asked.question, CONTEXT, truncation="only_second", max_length=32, stride=8,
        return_overflowing_tokens=True, return_token_type_ids=True,
    )  # fmt: skip
    theirs._tokenizer.no_truncation()
    items = task_of().items([asked])
    assert [item.tokens for item in items] == expected["input_ids"]
    assert [item.segments for item in items] == expected["token_type_ids"]


def test_an_answer_is_learnt_where_it_stands_and_elsewhere_the_first_token():
    asked = [question(first, first + 2) for first in range(0, 78, 7)]
    items = task_of().items(asked)
    for item in items:
        answer = asked[item.source].answers[0]
        if item.start:
            start, end = (
                item.places[item.start - item.first][0],
                item.places[item.end - item.first][1],
            )
            assert CONTEXT[start:end] == answer.text and start == answer.start
        else:
            assert answer.text not in CONTEXT[item.places[0][0] : item.places[-1][1]]
            assert (item.start, item.end) == (0, 0)
    assert {item.source for item in items if item.start} == set(range(len(asked)))
    shown = task_of().show(next(item for item in items if item.start))
    assert [s.target for s in shown if s.target] == ["start", "end"]


def test_the_loss_is_the_mean_of_both_cross_entropies(model):
    task = task_of()
    items = task.items([question(2, 2), question(40, 44)])[:4]
    together = task.loss(model, task.collate(items))
    by_hand = 0.0
    for item in items:
        logits = model(task.collate([item]))
        start, end = -logits.log_softmax(0)[[item.start, item.end], [0, 1]]
        by_hand += (start + end).item() / 2
    assert together.n_targets == 4
    assert float(together.total.detach()) == pytest.approx(by_hand, rel=1e-5)
    together.total.backward()
    assert all(torch.isfinite(p.grad).all() for p in model.head.parameters())
    model.zero_grad()


def test_the_best_answer_is_that_of_a_search_through_all(model):
    task = task_of(longest=4, n_best=3)
    items = task.items([question(20, 22), question(5, 6, CONTEXT[:40])])
    predictions = task.predict(model, items)
    assert len(predictions) == 2
    for number, prediction in enumerate(predictions):
        best = {}
        for item in (item for item in items if item.source == number):
            rows = model(task.collate([item])).detach().numpy()[item.first :][: len(item.places)]
            for i in range(len(rows)):
                for j in range(i, min(i + 4, len(rows))):
                    span = (item.places[i][0], item.places[j][1])
                    best[span] = max(best.get(span, -1e9), rows[i, 0] + rows[j, 1])
        top = sorted(best.items(), key=lambda pair: -pair[1])[:3]
        assert [(n["start"], n["end"]) for n in prediction["n_best"]] == [s for s, _ in top]
        shares = np.exp([v - top[0][1] for _, v in top])
        assert [n["score"] for n in prediction["n_best"]] == pytest.approx(
            shares / shares.sum(), abs=1e-4
        )
        assert prediction["answer"] == items[0].context[prediction["start"] : prediction["end"]]


def test_no_answer_is_given_when_it_is_likelier_by_the_margin(model):
    asked = question(20, 22)
    sure = task_of(no_answer=True, margin=1e6)
    given = sure.predict(model, sure.items([asked]))[0]
    assert given["start"] >= 0 and given["n_best"][-1]["answer"] == ""
    never = task_of(no_answer=True, margin=-1e6)
    none = never.predict(model, never.items([asked]))[0]
    assert (none["answer"], none["start"], none["end"]) == ("", -1, -1)
    assert none["no_answer"] == given["no_answer"]
    # Likelier by exactly as much as is said.
    edge = given["no_answer"]
    for margin, answers in ((edge + 0.01, True), (edge - 0.01, False)):
        task = task_of(no_answer=True, margin=margin)
        assert bool(task.predict(model, task.items([asked]))[0]["answer"]) is answers
    assert "no_answer" not in task_of().predict(model, task_of().items([asked]))[0]


def test_an_empty_context_has_no_answer(model):
    (prediction,) = task_of().predict(model, task_of().items([Question("who?", "")]))
    assert (prediction["answer"], prediction["start"]) == ("", -1)


def test_metrics_are_squads():
    assert exact_match("The  Broncos!", "broncos") == 1
    assert overlap_f1("Denver Broncos", "the Denver Broncos team") == pytest.approx(0.8)
    assert overlap_f1("b b a", "b c") == pytest.approx(2 * 1 / (2 + 2))  # "a" is an article
    assert overlap_f1("x", "y") == 0 and overlap_f1("", "") == 1 and overlap_f1("x", "") == 0
    f1, exact, with_answer, without = answer_metrics(
        [["Rome", "old Rome"], [], ["a b c"]], ["old Rome", "", "c"]
    )
    assert exact.value == pytest.approx(2 / 3)
    assert f1.value == pytest.approx((1 + 1 + 2 / 3) / 3)  # "a" is an article: 1 of 1 and of 2
    assert without.value == 1 and with_answer.value == pytest.approx((1 + 2 / 3) / 2)


def test_an_answer_is_marked_in_its_source():
    before, answer, after = marked("one two three four five", 8, 13, around=6)
    assert (before, answer, after) == ("…two ", "three", " four…")
    assert marked("one", 0, 3) == ("", "one", "") and marked("one", -1, -1) == ("", "", "")


# What can go wrong


def codes(task, train, validation=()):
    return {f.code: f for f in task.check(Parts("x", train, validation))}


def test_misplaced_answers_stop_or_are_moved():
    good = question(20, 22)
    text, place = good.answers[0]
    off = Question(good.question, CONTEXT, (Place(text, place + 1),), "q1")
    lost = Question("who?", CONTEXT, (Place("Paris", 0),), "q2")
    with pytest.raises(DataError, match=f"nearest 'w20 w21 w22' begins at {place}"):
        task_of().items([good, off])
    assert codes(task_of(), [good, off])["answer-misplaced"].level == "stop"
    moving = task_of(misplaced="move")
    assert codes(moving, [good, off])["answer-misplaced"].level == "note"
    ours, moved = moving.items([good]), moving.items([off])
    assert [(i.start, i.end) for i in ours] == [(i.start, i.end) for i in moved]
    with pytest.raises(DataError, match="'Paris' of question 'q2' does not stand in"):
        moving.items([lost])
    assert "'Paris'" in codes(moving, [good, lost])["answer-not-in-context"].what


def test_findings_on_windows_contexts_and_lengths():
    long = question(10, 29)
    found = codes(task_of(longest=10), [question(3, 4), long], [question(50, 51)])
    assert "(such as 'q10')" in found["answer-in-no-window"].what
    assert found["context-on-both-sides"].what.startswith("1 of 1")
    found = codes(task_of(longest=10, max_tokens=64), [question(3, 4), long])
    assert found["answer-too-long"].mend == "--set longest=20."
    assert "answer-in-no-window" not in found
    none = Question("who?", "other", ())
    assert "no-answer-unseen" in codes(task_of(), [long], [none])


def test_questions_on_one_text_are_no_copies_of_one_another():
    words = ("who built it", "when did he die", "what does a tower weigh", "where is that")
    asked = [Question(w, CONTEXT, (Place("w1", 3),), str(i)) for i, w in enumerate(words)]
    assert not list(check_copies(Parts("x", asked, [])))
    (found,) = check_copies(Parts("x", [*asked, asked[0], asked[0]], []))
    assert found.what.startswith("2 of 6")


def test_settings_and_card():
    bundle = make_bundle()
    parts = Parts("x", [question(3, 4), Question("q", "c")], [])
    task = Answer.make(bundle, parts, n_best=2)
    assert (task.max_tokens, task.stride, task.no_answer) == (128, 42, True)
    again = Answer.reopen(task.card(), bundle)
    assert again.card() == task.card() and again.n_best == 2
    assert isinstance(again.build(bundle), SpanFinder)
    with pytest.raises(ConfigError, match="stride of 100"):
        task_of(stride=100)
    with pytest.raises(ConfigError, match="no setting 'strde'"):
        Answer.make(bundle, parts, strde=3)
