"""Multiple choice with an encoder: what it reads, whatever lies beside it, and what it learns."""

from __future__ import annotations

import pytest
import torch

from hornbook.bundle import Bundle
from hornbook.data.choices import Question
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import ChoiceScorer
from hornbook.tasks.choose import Choose
from hornbook.tasks.choose_pairs import ByPairs
from hornbook.tasks.task import Parts
from hornbook.tasks.text_heads import text_classifier
from hornbook.text.train import train_tokenizer

QUESTIONS = [
    Question("a plain", ("text", "user, assistant", "system"), 0, "line 1"),
    Question("user,", ("assistant", "text. text. text"), 1, "line 2"),
    Question("system", ("a plain", "user", "plain, plain", "text, a"), 2, "line 3"),
    Question("text", ("a", "assistant"), 0, "line 4"),
]
PARTS = Parts("choose", QUESTIONS, ())


@pytest.fixture
def bundle() -> Bundle:
    text = "a plain text, user, assistant, system. " * 20
    tokenizer = train_tokenizer("wordpiece", lambda: [text], 90)
    torch.manual_seed(0)
    model = Bert(BertConfig(tokenizer.vocab_size, 48, 2, 2, 32, 48))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return Bundle(model.eval(), tokenizer, "bert")


@pytest.fixture
def task(bundle) -> ByPairs:
    return Choose.make(bundle, PARTS)


def marking(task, bundle):
    """With a head whose marks are far apart; a fresh one's are nearly alike."""
    model = task.build(bundle).eval()
    torch.nn.init.normal_(model.head.out.weight, std=1.0)
    torch.nn.init.normal_(model.head.pooler.dense.weight, std=0.3)
    return model


def test_each_pair_is_what_the_tokenizer_makes_of_it(task, bundle):
    for question, item in zip(QUESTIONS, task.items(QUESTIONS), strict=True):
        n = len(question.options)
        expected = bundle.tokenizer([question.context] * n, list(question.options))
        assert item.pairs == tuple(e.ids for e in expected)
        assert item.segments == tuple(e.type_ids for e in expected)
        assert item.n_cut == 0 and task.length(item) == sum(len(e.ids) for e in expected)


def test_what_lies_beside_a_question_changes_nothing(task, bundle):
    """Questions of two, three and four options in a batch."""
    model = marking(task, bundle)
    items = task.items(QUESTIONS)
    together = task.predict(model, items)
    for question, found in zip(QUESTIONS, together, strict=True):
        (alone,) = task.predict(model, task.items([question]))
        assert len(found["marks"]) == len(question.options)
        assert found["marks"] == pytest.approx(alone["marks"], abs=1e-5)
        assert sum(found["probabilities"]) == pytest.approx(1)
        assert found["option"] == max(range(len(found["marks"])), key=found["marks"].__getitem__)
    marks = [m for found in together for m in found["marks"]]
    assert max(marks) - min(marks) > 1e-3


def test_the_loss_is_of_questions_and_segments_are_read(task, bundle):
    model = marking(task, bundle)
    items = task.items(QUESTIONS)
    whole = task.loss(model, task.collate(items))
    assert whole.n_targets == len(QUESTIONS)
    by_hand = 0.0
    for question, found in zip(QUESTIONS, task.predict(model, items), strict=True):
        by_hand -= torch.tensor(found["marks"]).log_softmax(0)[question.answer].item()
    assert whole.total.item() == pytest.approx(by_hand, rel=1e-5)
    batch = task.collate(items)
    batch.segments.zero_()
    assert task.loss(model, batch).total.item() != pytest.approx(by_hand, rel=1e-3)


def test_it_learns_to_choose(task, bundle):
    model = task.build(bundle)
    batch = task.collate(task.items(QUESTIONS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(model, batch).total
        loss.backward()
        optimizer.step()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    (acc,) = task.metrics(QUESTIONS, task.predict(model.eval(), task.items(QUESTIONS)))
    assert loss.item() < 0.1 and acc.name == "acc" and acc.value == 1


def test_metrics_by_hand(task):
    said = [{"option": i} for i in (0, 1, 1, 1)]
    (acc,) = task.metrics(QUESTIONS, said)
    assert acc.value == 0.5


def test_of_what_is_too_long_the_context_loses_its_beginning(bundle):
    task = Choose.make(bundle, PARTS, max_tokens=9)
    long = Question("text " * 7 + "user", ("plain", "a, a"), 0)
    (item,) = task.items([long])
    assert max(map(len, item.pairs)) == 9
    user = bundle.tokenizer.encode(["user"], special=False)[0]
    separator = item.pairs[0].index(bundle.tokenizer.id_of("[SEP]"))
    assert item.pairs[0][separator - len(user) : separator] == user
    ((_, *expected),) = bundle.tokenizer.encode(["plain"])
    assert item.pairs[0][-len(expected) :] == expected  # the option is whole
    whole = Choose.make(bundle, PARTS).items([long])[0]
    kept = sum(map(len, whole.pairs)) - sum(map(len, item.pairs))
    assert item.n_cut == kept / 2  # the context is counted once
    (finding,) = task.check(Parts("choose", [long] * 3, ()))
    assert finding.code == "truncation" and "9 tokens" in finding.what
    with pytest.raises(ConfigError, match="reads 48"):
        Choose.make(bundle, PARTS, max_tokens=49)
    with pytest.raises(ConfigError, match="3 tokens are special"):
        Choose.make(bundle, PARTS, max_tokens=4)


def test_an_option_without_a_token_is_named(task):
    with pytest.raises(DataError, match="line 9: the shortest option comes to no token"):
        task.items([Question("user", ("a", "\u200d"), 0, "line 9")])


def test_a_card_makes_the_task_again(task, bundle):
    assert Choose.reopen(task.card(), bundle).card() == {"task": "choose", "max_tokens": 48}
    assert isinstance(Choose.reopen(task.card(), bundle), ByPairs)
    with pytest.raises(CheckpointError, match="does not say how options were read"):
        Choose.reopen({"task": "choose"}, bundle)


def test_the_right_option_is_shown_where_the_head_reads(task):
    shown = task.show(task.items(QUESTIONS)[1])
    assert [s.text for s in shown if s.target] == ["[CLS]"]
    second = next(i for i, s in enumerate(shown) if s.text.strip() == "1:")
    assert shown[second + 1].target == "right"


def test_heads_are_exchanged_on_one_trunk(task, bundle):
    """A classifier's trunk and pooler stay as they were; its labels go."""
    classifier = text_classifier(bundle, ("no", "yes"), "single_label_classification")
    before = {n: p.clone() for n, p in classifier.trunk.state_dict().items()}
    scorer = task.build(Bundle(classifier, bundle.tokenizer, "bert"))
    assert isinstance(scorer, ChoiceScorer) and scorer.head.out.weight.shape == (1, 32)
    torch.testing.assert_close(scorer.head.pooler.state_dict(), classifier.head.pooler.state_dict())
    again = text_classifier(
        Bundle(scorer, bundle.tokenizer, "bert"), ("a", "b", "c"), "single_label_classification"
    )
    assert again.head.out.weight.shape == (3, 32)
    torch.testing.assert_close(dict(again.trunk.state_dict()), before, rtol=0, atol=0)
    assert task.build(Bundle(scorer, bundle.tokenizer, "bert")) is scorer
