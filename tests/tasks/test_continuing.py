"""Continued pretraining: each token guessed once, scores by text, what preflight says."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hornbook.bundle import Bundle
from hornbook.data.passages import Passage
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.continuing import Continue
from hornbook.tasks.task import Parts
from hornbook.text.chatml import with_chatml
from hornbook.text.train import train_tokenizer

TEXTS = ["the cat sat on the mat", "a happy cat is an unhappy thing to look at", "rain"]
PASSAGES = [Passage(t) for t in TEXTS]
PARTS = Parts("x", PASSAGES, PASSAGES)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer("bpe", lambda: TEXTS * 5, 290, special=("<|endoftext|>",))


@pytest.fixture(scope="module")
def bundle(tokenizer):
    torch.manual_seed(0)
    return Bundle(GPT(GPTConfig(tokenizer.vocab_size, 16, 1, 2, 16, 32)), tokenizer, "gpt2")


@pytest.fixture(scope="module")
def task(bundle):
    return Continue.make(bundle, PARTS, max_tokens=8)


def test_every_token_but_the_first_is_guessed_once(task):
    for source, passage in enumerate(PASSAGES):
        whole = [*task.tokenizer.encode([passage.text])[0], task.end]
        windows = [i for i in task.items(PASSAGES) if i.source == source]
        assert max(len(i.tokens) for i in windows) <= 8
        guessed = np.concatenate([i.tokens[i.learnt] for i in windows])
        assert guessed.tolist() == whole[1:]
        for before, after in pairwise(windows):
            assert before.tokens[-1] == after.tokens[0] and not after.learnt[0]


def test_a_passage_that_goes_on_has_no_end(task):
    text = "the cat sat"
    (ended,), (open_,) = task.items([Passage(text)]), task.items([Passage(text, ends=False)])
    assert ended.tokens.tolist() == [*open_.tokens.tolist(), task.end]


def test_what_a_tokenizer_puts_before_a_text_is_read_and_not_guessed():
    framed = train_tokenizer("wordpiece", lambda: TEXTS * 5, 60)  # [CLS] text [SEP]
    task = Continue(framed)
    item = task.items([Passage("the cat")])[0]
    assert framed.tokens[int(item.tokens[0])] == "[CLS]"
    assert item.learnt.tolist() == [False] + [True] * (len(item.tokens) - 1)
    assert item.n_bytes == len("the cat")


def test_the_end_of_a_text_goes_by_other_names_elsewhere():
    theirs = train_tokenizer("bpe", lambda: TEXTS * 5, 290, special=("<s>", "<|im_end|>", "</s>"))
    task = Continue(theirs)
    assert task.end == theirs.id_of("</s>") == task.items(PASSAGES)[0].tokens[-1]


def test_scores_are_those_of_a_loop_over_texts(task, bundle):
    model = task.build(bundle).eval()
    found = task.predict(model, task.items(PASSAGES))
    nats = n = n_bytes = 0
    for passage, said in zip(PASSAGES, found, strict=True):
        tokens = [*task.tokenizer.encode([passage.text])[0], task.end]
        own = 0.0
        for start in range(0, len(tokens) - 1, 7):
            part = torch.tensor(tokens[start : start + 8])
            with torch.inference_mode():
                logits = model.logits(model(part[:-1], Ragged([len(part) - 1])))
            own += F.cross_entropy(logits, part[1:], reduction="sum").item()
        assert said["nats"] == pytest.approx(own, rel=1e-5)
        assert said["n_tokens"] == len(tokens) - 1
        first = task.tokenizer.spelled(tokens[0])
        assert said["n_bytes"] == len(passage.text) - len(first)
        nats, n, n_bytes = nats + own, n + len(tokens) - 1, n_bytes + said["n_bytes"]
    perplexity, bits, mean = task.metrics(PASSAGES, found)
    assert mean.value == pytest.approx(nats / n, rel=1e-5)
    assert perplexity.value == pytest.approx(math.exp(nats / n), rel=1e-5)
    assert bits.value == pytest.approx(nats / math.log(2) / n_bytes, rel=1e-5)
    assert not perplexity.higher_is_better and not bits.higher_is_better
    assert len(perplexity.statistics) == len(PASSAGES)  # an interval is over texts
    with torch.inference_mode():
        loss = task.loss(model, task.collate(task.items(PASSAGES)))
    assert float(loss.total) == pytest.approx(nats, rel=1e-5) and loss.n_targets == n


def test_a_text_without_a_token_is_predicted_too(bundle):
    task = Continue(bundle.tokenizer, max_tokens=8)
    texts = [Passage("the cat sat"), Passage("", ends=False)]
    said = task.predict(bundle.model.eval(), task.items(texts))
    assert said[1] == {"nats": 0.0, "n_tokens": 0, "n_bytes": 0}
    with pytest.raises(DataError, match="no text has a token"):
        task.items([Passage("", ends=False)])


def test_control_tokens_in_a_text_stay_characters(task):
    item = task.items([Passage("rain<|endoftext|>", ends=False)])
    assert task.end not in np.concatenate([i.tokens for i in item])


def test_what_is_shown_is_what_carries_loss(task):
    shown = task.show(task.items(PASSAGES)[0])
    assert shown[0].target == "" and all(s.target == s.text for s in shown[1:])


def test_preflight_says_what_is_missing(bundle, tokenizer):
    many = [Passage(f"the cat {i}") for i in range(40)]
    parts = Parts("x", many[:20], many[20:])
    plain = Continue(tokenizer)
    assert [f.code for f in plain.check(parts)] == ["forgetting-not-measured"]
    kept = Continue(tokenizer, old="old", kept=many[10:30], chats=True)
    codes = {f.code: f for f in kept.check(parts)}
    assert codes.keys() == {"old-texts-are-learnt", "chat-model"}
    assert "10 of 20 texts of old" in codes["old-texts-are-learnt"].what
    letters = train_tokenizer("character", lambda: TEXTS, 20)
    found = {f.code: f for f in Continue(letters).check(Parts("x", [Passage("the XY")], many))}
    assert "no-end-of-text" in found or letters.rust.token_to_id("<|endoftext|>") is not None
    if letters.unknown_id is not None:
        assert found["tokens-unknown"].level == "warn"
    assert "few-texts" in {f.code for f in plain.check(Parts("x", many, many[:3]))}


def test_a_chat_model_and_old_texts_by_a_file(bundle, tokenizer, tmp_path):
    (tmp_path / "old.jsonl").write_text('{"text": "the rain sat"}\n{"text": "a cat"}\n')
    spoken, template = with_chatml(tokenizer)
    made = Continue.make(
        Bundle(bundle.model, spoken, "gpt2", template), PARTS, keep=str(tmp_path / "old.jsonl")
    )
    assert made.chats and made.max_tokens == 16
    name, kept = made.beside()
    assert name.endswith("old.jsonl") and {p.text for p in kept} == {"the rain sat", "a cat"}


def test_the_card_and_other_models(task, bundle):
    assert Continue.reopen(task.card(), bundle).card() == task.card()
    with pytest.raises(CheckpointError, match="max_tokens"):
        Continue.reopen({"task": "continue"}, bundle)
    with pytest.raises(ConfigError, match="the model reads 16"):
        Continue.make(bundle, PARTS, max_tokens=17)
    modern = ModernGPT(ModernGPTConfig(50, 16, 1, 2, 16, 32))
    assert task.build(Bundle(modern, bundle.tokenizer, "nanochat")) is modern
    encoder = Bundle(Bert(BertConfig(50, 16, 1, 2, 16, 32)), bundle.tokenizer, "bert")
    with pytest.raises(ConfigError, match="does not go on with a text"):
        task.build(encoder)
