"""Hidden words: which, behind what, and that it never depends on the company they are in."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as RustTokenizer

from hornbook.bundle import Bundle
from hornbook.data.examples import Document
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.fill import Fill, guesses
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer

TEXTS = ["unhappiness is the happiest unhappy thing", "the cat sat", "a happy cat is a thing"]
DOCUMENTS = [Document(t) for t in TEXTS]


@pytest.fixture(scope="module")
def bundle():
    tokenizer = train_tokenizer("wordpiece", lambda: TEXTS * 5, 40)
    torch.manual_seed(0)
    return Bundle(Bert(BertConfig(tokenizer.vocab_size, 64, 1, 2, 16, 32)), tokenizer, "bert")


@pytest.fixture(scope="module")
def task(bundle):
    return Fill.make(bundle, Parts("x", DOCUMENTS, DOCUMENTS), share=0.3)


def hidden(task, item, epoch=0):
    task.epoch = epoch
    found = np.array([bool(s.target) for s in task.show(item)])
    task.epoch = 0
    return found


def test_words_are_hidden_whole(task):
    item = task.items(DOCUMENTS)[0]
    assert len(item.tokens) > len(set(item.words)) + 1  # words of several tokens
    seen = set()
    for epoch in range(40):
        places = hidden(task, item, epoch)
        assert places.any() and not places[item.words < 0].any()
        for word in set(item.words):
            assert len(set(places[item.words == word])) == 1
            seen |= {word} if places[item.words == word].all() else set()
    assert seen == set(item.words) - {-1}


def test_tokens_may_be_hidden_alone(bundle):
    task = Fill.make(bundle, Parts("x", DOCUMENTS, []), share=0.3, whole_words=False)
    item = task.items(DOCUMENTS)[0]
    split = 0
    for epoch in range(40):
        places = hidden(task, item, epoch)
        split += any(len(set(places[item.words == w])) == 2 for w in set(item.words))
    assert split > 5


def test_share_and_fates(bundle):
    text = Document(" ".join(["the cat sat"] * 15))
    task = Fill.make(bundle, Parts("x", [text], []), share=0.15, max_tokens=64)
    n = n_hidden = n_masked = n_kept = 0
    for item in task.items([text] * 200):
        shown, places = task._hidden(item, 3)
        n += (item.words >= 0).sum()
        n_hidden += places.sum()
        n_masked += (shown[places] == task.mask).sum()
        n_kept += (shown[places] == item.tokens[places]).sum()
        assert (shown[~places] == item.tokens[~places]).all()
    assert n_hidden / n == pytest.approx(0.15, abs=0.02)
    assert n_masked / n_hidden == pytest.approx(0.8, abs=0.03)
    assert n_kept / n_hidden == pytest.approx(0.1, abs=0.03)


def test_what_is_hidden_is_the_items_own(task):
    items = task.items(DOCUMENTS)
    whole = task.collate(items)
    alone = [task.collate([item]) for item in items]
    assert len(whole.targets) == sum(len(b.targets) for b in alone)
    again = task.collate(items[::-1])
    assert torch.equal(whole.tokens.sort().values, again.tokens.sort().values)
    assert not np.array_equal(hidden(task, items[0], 1), hidden(task, items[0], 2))


def test_perplexity_is_of_all_hidden_tokens(task, bundle):
    model = task.build(bundle).eval()
    items = task.items(DOCUMENTS)
    found = task.predict(model, items)
    assert task.predict(model, items) == found  # the same words every time
    batch = task.collate(items)
    with torch.inference_mode():
        loss = task.loss(model, batch)
    assert sum(p["hidden"] for p in found) == loss.n_targets
    perplexity, accuracy = task.metrics(DOCUMENTS, found)
    assert perplexity.value == pytest.approx(
        float(torch.exp(loss.total / loss.n_targets)), rel=1e-4
    )
    assert not perplexity.higher_is_better and 0 <= accuracy.value <= 1


def test_long_texts_become_windows_and_empty_ones_nothing(bundle):
    task = Fill.make(bundle, Parts("x", [], []), max_tokens=8)
    items = task.items([Document(TEXTS[0]), Document(""), Document("the cat")])
    assert [i.source for i in items][-1] == 2 and 1 not in [i.source for i in items]
    assert max(len(i.tokens) for i in items) == 8
    assert len({i.number for i in items}) == len(items)
    model = task.build(bundle).eval()
    assert len(task.predict(model, items)) == 3
    with pytest.raises(DataError, match="no text has a token"):
        task.items([Document(""), Document(" ")])


def test_a_card_makes_the_task_again(task, bundle):
    again = Fill.reopen(task.card(), bundle)
    assert again.card() == task.card()
    item = task.items(DOCUMENTS)[0]
    assert np.array_equal(hidden(task, item), hidden(again, item))


def test_guesses_for_an_open_place(bundle):
    tokenizer = bundle.tokenizer
    model = MaskedLM(bundle.model).eval()
    rows = guesses(model, tokenizer, "the [MASK] sat ___", k=3)
    assert [len(row) for row in rows] == [3, 3]
    best = rows[0][0]
    assert best.probability >= rows[0][1].probability
    assert best.text == f"the {best.token} sat [MASK]"
    assert rows[1][2].text == f"the [MASK] sat {rows[1][2].token}"
    with pytest.raises(DataError, match="no place is left open"):
        guesses(model, tokenizer, "the cat sat")


def test_special_tokens_fill_no_place(bundle):
    """They have no words, though the model may find them likelier than any; its numbers stay."""
    tokenizer = train_tokenizer("wordpiece", lambda: TEXTS * 5, 60)
    tokenizer = type(tokenizer)(RustTokenizer.from_str(_with_free_place(tokenizer)))
    torch.manual_seed(0)
    model = MaskedLM(Bert(BertConfig(tokenizer.vocab_size, 64, 1, 2, 16, 32))).eval()
    no_words = [*tokenizer.special_ids, tokenizer.id_of("[unused7]")]
    with torch.no_grad():
        model.head.bias[no_words] = 9.0
    (row,) = guesses(model, tokenizer, "the [MASK] sat", k=1000)
    offered = {guess.token for guess in row}
    assert not offered & {"[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "[unused7]"}
    assert len(row) == tokenizer.vocab_size - len(no_words)
    assert 0 < sum(guess.probability for guess in row) < 0.1  # the rest is what those were given


def _with_free_place(tokenizer) -> str:
    """The tokenizer's file with a place that is held free, which is not marked as special."""
    said = json.loads(tokenizer.rust.to_str())
    said["model"]["vocab"]["[unused7]"] = len(said["model"]["vocab"])
    return json.dumps(said)


def test_a_new_head_is_said_and_a_decoder_refused(task, bundle):
    assert [f.code for f in task.check(Parts("x", [], []))] == ["head-is-new"]
    ready = Bundle(MaskedLM(bundle.model), bundle.tokenizer, "bert")
    old = Fill.make(ready, Parts("x", [], []))
    assert not old.check(Parts("x", [], [])) and old.build(ready) is ready.model
    decoder = Bundle(GPT(GPTConfig(50, 16, 1, 2, 16, 32)), bundle.tokenizer, "gpt2")
    with pytest.raises(ConfigError, match="reads from left to right"):
        Fill.make(decoder, Parts("x", [], [])).build(decoder)
    letters = train_tokenizer("character", lambda: TEXTS, 40)
    with pytest.raises(ConfigError, match="vocabulary has no"):
        Fill(letters)
    with pytest.raises(ConfigError, match=r"a share of 1\.5"):
        Fill(bundle.tokenizer, share=1.5)
