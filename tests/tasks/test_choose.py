"""Multiple choice by likelihood: what it scores, whatever lies beside it, and what it learns."""

from __future__ import annotations

import copy

import pytest
import torch

from hornbook.bundle import Bundle
from hornbook.data.choices import Question
from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.choose import Choose
from hornbook.tasks.choose_likelihood import ByLikelihood, ChoiceItem
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

QUESTIONS = [
    Question("a plain", ("text", "user, assistant", "system"), 0, "line 1"),
    Question("user, ", (" assistant", "text. text. text"), 1, "line 2"),
    Question("system", ("a plain", "user", "plain, plain", "text, a"), 2, "line 3"),
    Question("text", ("a", "assistant"), 0, "line 4"),
]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    text = "a plain text, user, assistant, system. " * 20
    tokenizer = train_tokenizer("bpe", lambda: [text], 300)
    torch.manual_seed(0)
    model = Llama(
        LlamaConfig(
            vocab_size=len(tokenizer.tokens), context_length=48, n_layers=2, n_heads=2, d_model=16,
            d_ff=24,
        )
    )  # fmt: skip
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return Bundle(model, tokenizer, "llama")


@pytest.fixture(scope="module")
def task(bundle) -> ByLikelihood:
    return Choose.make(bundle, Parts("choose", (), ()))


def test_scores_are_the_log_probabilities_of_the_whole_texts(task, bundle):
    found = task.predict(bundle.model, task.items(QUESTIONS))
    for question, said in zip(QUESTIONS, found, strict=True):
        context = bundle.tokenizer.encode([question.context.rstrip()], special=False)[0]
        for option, score in zip(question.options, said["log_probs"], strict=True):
            ending = bundle.tokenizer.encode([" " + option.strip()], special=False)[0]
            tokens = torch.tensor(context + ending)
            with torch.inference_mode():
                logits = bundle.model.logits(bundle.model(tokens[:-1], Ragged([len(tokens) - 1])))
            rows = logits.log_softmax(-1)[len(context) - 1 :]
            expected = rows.gather(1, torch.tensor(ending)[:, None]).sum().item()
            assert score == pytest.approx(expected, rel=1e-4)
        assert said["n_bytes"] == [len(option.strip().encode()) for option in question.options]


def test_what_lies_beside_a_question_changes_nothing(task, bundle):
    items = task.items(QUESTIONS * 5)
    together = task.predict(bundle.model, items)
    alone = [task.predict(bundle.model, task.items([q]))[0] for q in QUESTIONS * 5]
    for one, other in zip(together, alone, strict=True):
        assert (one["option"], one["option_norm"]) == (other["option"], other["option_norm"])
        assert one["log_probs"] == pytest.approx(other["log_probs"], rel=1e-5)


def test_metrics_by_hand(task, monkeypatch):
    """Sums -4 and -6 choose the first; -4 over 2 bytes and -6 over 6 are -2 and -1: the second."""
    items = [
        ChoiceItem(0, (1,), ((2,), (3,)), 1, (2, 6)),
        ChoiceItem(1, (1,), ((2,), (3,)), 0, (1, 1)),
    ]
    sums = torch.tensor([-4.0, -6.0, -1.0, -2.0])
    monkeypatch.setattr("hornbook.tasks.choose_likelihood.branch_log_probs", lambda *_: sums)
    found = task.predict(torch.nn.Identity(), items)
    assert [(p["option"], p["option_norm"]) for p in found] == [(0, 1), (0, 0)]
    questions = [Question("c", ("aa", "bbbbbb"), 1), Question("c", ("a", "b"), 0)]
    assert {m.name: m.value for m in task.metrics(questions, found)} == {"acc": 0.5, "acc_norm": 1}


def test_it_learns_to_choose(task, bundle):
    model, items = copy.deepcopy(bundle.model), task.items(QUESTIONS)
    batch = task.collate(items)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    first = None
    for _ in range(60):
        optimizer.zero_grad()
        loss = task.loss(model, batch)
        first = first or loss.total.item()
        loss.total.backward()
        optimizer.step()
    assert loss.n_targets == 4 and loss.total.item() < 0.1 * first
    found = {m.name: m.value for m in task.metrics(QUESTIONS, task.predict(model, items))}
    assert found["acc"] == 1


def test_a_batch_is_the_sum_of_its_questions(task, bundle):
    items = task.items(QUESTIONS)
    whole = task.loss(bundle.model, task.collate(items)).total.item()
    apart = [task.loss(bundle.model, task.collate([item])).total.item() for item in items]
    assert whole == pytest.approx(sum(apart), rel=1e-5)


def test_a_card_makes_the_task_again(task, bundle):
    assert Choose.reopen(task.card(), bundle).card() == {"task": "choose", "max_tokens": 48}


def test_what_is_too_long_is_said_and_loses_the_contexts_beginning(bundle):
    task = Choose.make(bundle, Parts("choose", QUESTIONS, ()), max_tokens=4)
    for item in task.items(QUESTIONS):
        assert len(item.stem) + max(map(len, item.branches)) <= 4 and item.stem
    (finding,) = task.check(Parts("choose", QUESTIONS, ()))
    assert finding.code == "truncation" and "4 tokens" in finding.what
    with pytest.raises(ConfigError, match="reads 48"):
        Choose.make(bundle, Parts("choose", QUESTIONS, ()), max_tokens=49)


def test_an_answer_always_in_one_place_is_said(task):
    (finding,) = task.check(Parts("choose", [QUESTIONS[0]] * 30, ()))
    assert finding.code == "one-place" and "option 0" in finding.what


def test_an_encoder_is_refused(task, bundle):
    bert = Bundle(Bert(BertConfig(8, 16, 1, 2, 16, 16)), bundle.tokenizer, "bert")
    with pytest.raises(ConfigError, match="a Bert doesn't say"):
        task.build(bert)


def test_shown_options_carry_the_loss(task):
    shown = task.show(task.items(QUESTIONS)[0])
    assert "".join(s.target for s in shown) == " text user, assistant system"
    assert any("(right)" in s.text for s in shown)
