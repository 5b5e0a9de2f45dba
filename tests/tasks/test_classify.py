"""Classifying texts and pairs: targets, losses, the decision, and what is kept of them."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from hornbook import bundle as bundles
from hornbook.bundle import Bundle
from hornbook.data.examples import Document, Example
from hornbook.data.labelled import TextPair
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig, Pooler
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.heads import SequenceClassifier
from hornbook.nn.losses import IGNORE
from hornbook.tasks import TASKS
from hornbook.tasks.classify import Classify
from hornbook.tasks.classify_pairs import ClassifyPairs
from hornbook.tasks.task import Parts
from hornbook.tasks.text_heads import log_odds
from hornbook.text.train import train_tokenizer
from hornbook.training.optimizers import adamw, decay_groups

TEXTS = ["wheat prices fell", "the ship left", "wheat by ship", "prices of ships", "corn fell"]
LABELS = [("grain",), ("ship",), ("grain", "ship"), ("ship",), ("grain",)]
NAMES = ("grain", "ship")


@pytest.fixture(scope="module")
def bundle():
    tokenizer = train_tokenizer("wordpiece", lambda: TEXTS * 20, 120)
    torch.manual_seed(0)
    trunk = Bert(BertConfig(tokenizer.vocab_size, 16, 2, 2, 32, 32))
    return Bundle(trunk, tokenizer, "bert")


def examples(texts=TEXTS, labels=LABELS):
    rows = enumerate(zip(texts, labels, strict=True))
    return [Example(Document(t), names, str(i)) for i, (t, names) in rows]


def parts(rows=None, **more):
    rows = examples() if rows is None else rows
    return Parts("x", rows, rows[:2], label_names=NAMES, **more)


def single(bundle, **settings):
    return Classify.make(bundle, parts(), **settings)


def several(bundle):
    return Classify.make(bundle, parts(multi_label=True))


def test_the_registry_finds_both():
    assert TASKS.load("classify") is Classify and TASKS.load("pairs") is ClassifyPairs


def test_targets_lie_with_their_texts(bundle):
    task = single(bundle)
    items = task.items(examples()[:2] + examples(["a new thing"], [()]))
    batch = task.collate(items)
    lengths = [len(i.tokens) for i in items]
    order = sorted(range(3), key=lambda i: -lengths[i])
    assert batch.targets.tolist() == [[0, 1, IGNORE][i] for i in order]
    assert batch.layout.lengths == [lengths[i] for i in order]
    rows = several(bundle).collate(several(bundle).items(examples()[:3])).targets
    assert sorted(rows.tolist()) == [[0, 1], [1, 0], [1, 1]]


def test_losses_are_means_over_what_transformers_divides_by(bundle):
    def logits(batch):
        return torch.tensor([[0.0, 1.0], [2.0, 0.0]])[: len(batch.targets)]

    task = single(bundle)
    batch = task.collate(task.items(examples()[:1]))
    loss = task.loss(logits, batch)
    assert float(loss.total) == pytest.approx(math.log(1 + math.e)) and loss.n_targets == 1
    task = several(bundle)
    loss = task.loss(logits, task.collate(task.items(examples()[:1])))
    assert float(loss.total) == pytest.approx(math.log(2) + math.log(1 + math.e))
    assert loss.n_targets == 2  # a yes or no of each label


def test_predictions_come_back_in_order_and_are_plain(bundle):
    import json

    task = single(bundle)
    torch.manual_seed(0)
    model = task.build(bundle).eval()
    with torch.no_grad():
        model.head.out.weight.mul_(100)
    items = task.items(examples())
    found = task.predict(model, items)
    alone = [task.predict(model, [item])[0] for item in items]
    assert [p["label"] for p in found] == [p["label"] for p in alone]
    assert all(sum(p["probabilities"].values()) == pytest.approx(1, abs=1e-5) for p in found)
    assert json.loads(json.dumps(found)) == found
    accuracy = task.metrics(examples(), found)[0]
    right = [p["label"] == e.labels[0] for p, e in zip(found, examples(), strict=True)]
    assert accuracy.name == "accuracy" == task.best
    assert accuracy.value == pytest.approx(np.mean(right))


def test_the_pooler_of_the_file_is_the_heads(bundle, tmp_path):
    from hornbook.interop.huggingface import save_bert

    pooler = Pooler(32)
    extras = {f"pooler.{name}": tensor for name, tensor in pooler.state_dict().items()}
    save_bert(tmp_path, bundle.model, extras)
    bundle.tokenizer.save(tmp_path / "tokenizer.json")
    opened = bundles.load(tmp_path)
    head = single(opened).build(opened).head
    torch.testing.assert_close(head.pooler.dense.weight, pooler.dense.weight)


def test_a_classifier_is_kept_and_opened_with_its_task(bundle, tmp_path):
    task = several(bundle)
    model = task.build(bundle).eval()
    task.settle(model, examples() * 4)
    assert task.decision is not None
    bundles.save(tmp_path, model, bundle.tokenizer)
    opened = bundles.load(tmp_path)
    again = Classify.reopen(task.card(), opened)
    reopened = again.build(opened).eval()
    assert again.card() == task.card()
    before = task.predict(model, task.items(examples()))
    assert again.predict(reopened, again.items(examples())) == before
    assert all(p["labels"] for p in before) or not task.decision.rule.at_least_one
    # The same labels in another order: the model's order, and so its head, stay.
    turned = Classify.make(opened, Parts("x", [], [], label_names=NAMES[::-1], multi_label=True))
    assert turned.label_names == NAMES and turned.build(opened) is opened.model
    other = Classify.make(opened, Parts("x", [], [], label_names=("a", "b", "c")))
    assert other.build(opened).head.out.out_features == 3


def test_thresholds_come_from_the_validation_part(bundle):
    """A label that the model always puts at 30 % is given, once that is known to mean yes."""
    task = several(bundle)

    class Scores:
        def __call__(self, batch):
            return torch.where(batch.targets > 0, -1.0, -3.0)

    rows = examples() * 6
    items = task.items(rows)
    before = {m.name: m.value for m in task.metrics(rows, task.predict(Scores(), items))}
    task.settle(Scores(), rows)
    after = {m.name: m.value for m in task.metrics(rows, task.predict(Scores(), items))}
    assert before["micro_f1"] < after["micro_f1"] == 1.0


def test_a_few_steps_learn_it(bundle):
    task = single(bundle)
    torch.manual_seed(0)
    model = task.build(Bundle(Bert(bundle.model.config), bundle.tokenizer, "bert")).train()
    optimizer = adamw(decay_groups(model.named_parameters(), lr=3e-3, weight_decay=0.0))
    batch = task.collate(task.items(examples()))
    losses = []
    for _ in range(30):
        loss = task.loss(model, batch)
        losses.append(float(loss.total.detach()) / loss.n_targets)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[-1] < 0.1 < losses[0]


def test_what_the_head_has_not_is_said(bundle):
    task = single(bundle)
    with pytest.raises(DataError, match="no label of these 1 examples is one of the model's"):
        task.items(examples(["wheat"], [("coffee",)]))
    rows = examples(TEXTS[:2], [("grain",), ("coffee",)])
    assert task.items(rows)[1].target == IGNORE
    gone = Parts("x", examples(), rows, label_names=NAMES)
    codes = {f.code: f.level for f in task.check(gone)}
    assert codes["label-not-in-training"] == "warn"
    assert codes["label-vanished"] == "warn"  # no ship in validation
    one = Parts("x", examples(TEXTS[:1], [("grain",)]), [], label_names=NAMES)
    assert {f.code: f.level for f in task.check(one)}["one-label"] == "stop"
    beyond = Parts("x", rows, [], label_names=NAMES)
    assert {f.code: f.level for f in task.check(beyond)}["label-beyond-head"] == "stop"


def test_long_texts_are_cut_and_it_is_said(bundle):
    task = single(bundle, max_tokens=4)
    assert max(len(i.tokens) for i in task.items(examples())) == 4
    assert any(f.code == "cut-short" for f in task.check(parts()))
    with pytest.raises(ConfigError, match="the model reads 16"):
        single(bundle, max_tokens=17)


def test_the_target_is_shown_where_the_head_reads(bundle):
    task = single(bundle)
    shown = task.show(task.items(examples())[1])
    assert [s.target for s in shown if s.target] == ["ship"] and shown[0].target == "ship"
    tokenizer = train_tokenizer("bpe", lambda: TEXTS * 20, 300)
    decoder = Bundle(GPT(GPTConfig(tokenizer.vocab_size, 16, 1, 2, 16, 32)), tokenizer, "gpt2")
    task = single(decoder)
    shown = task.show(task.items(examples())[1])
    assert shown[-1].target == "ship" and not shown[0].target
    assert isinstance(task.build(decoder), SequenceClassifier)


def test_an_empty_text_is_named(bundle):
    tokenizer = train_tokenizer("bpe", lambda: TEXTS * 20, 300)
    decoder = Bundle(GPT(GPTConfig(tokenizer.vocab_size, 16, 1, 2, 16, 32)), tokenizer, "gpt2")
    with pytest.raises(DataError, match="example 0 has no token"):
        single(decoder).items(examples([""], [("grain",)]))


def test_a_metric_that_there_is_not_is_refused(bundle):
    with pytest.raises(ConfigError, match="no metric 'acuracy'"):
        single(bundle, best="acuracy")


# Pairs

PAIRS = [TextPair("wheat fell", "prices fell", "yes", "1"), TextPair("the ship", "corn", "no", "2")]


def test_pairs_carry_segments(bundle):
    task = ClassifyPairs.make(bundle, Parts("x", PAIRS, PAIRS, label_names=("no", "yes")))
    items = task.items(PAIRS)
    assert [i.target for i in items] == [1, 0]
    item = items[0]
    separator = bundle.tokenizer.id_of("[SEP]")
    border = item.tokens.index(separator) + 1
    assert item.segments == [0] * border + [1] * (len(item.tokens) - border)
    batch = task.collate(items)
    assert len(batch.segments) == len(batch.inputs)
    model = task.build(bundle).eval()
    assert len(task.predict(model, items)) == 2


def test_a_fresh_head_for_several_labels_begins_at_their_log_odds(bundle):
    targets = np.array([[1, 0], [1, 0], [0, 0], [1, 0]], bool)
    assert log_odds(targets) == pytest.approx([math.log(3.5 / 1.5), math.log(0.5 / 4.5)])
    own = Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "bert")
    model = several(own).build(own)
    assert model.head.out.bias.tolist() == pytest.approx([math.log(3.5 / 2.5)] * 2)
    with torch.no_grad():
        model.head.out.bias.fill_(7.0)  # learnt, as far as anybody knows
    again = Bundle(model, bundle.tokenizer, "bert")
    assert several(again).build(again).head.out.bias.tolist() == [7.0, 7.0]
    one_label = Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, "bert")
    assert not single(one_label).build(one_label).head.out.bias.any()


def test_numbers_on_a_scale(bundle):
    rows = [TextPair("a ship", "the ship", "4.5", "1"), TextPair("corn", "ship", "0.0", "2")]
    task = ClassifyPairs.make(bundle, Parts("x", rows, rows))
    assert (task.problem, task.best, task.label_names) == ("regression", "pearson", ("score",))
    batch = task.collate(task.items(rows))
    loss = task.loss(lambda batch: torch.ones(2, 1), batch)
    assert float(loss.total) == pytest.approx(3.5**2 + 1) and loss.n_targets == 2
    model = task.build(bundle).eval()
    assert float(model.head.out.bias.detach()) == 2.25  # begins at the mean
    found = task.predict(model, task.items(rows))
    assert set(found[0]) == {"number"}
    assert [m.name for m in task.metrics(rows, found)][:2] == ["pearson", "spearman"]
    with pytest.raises(DataError, match="is no number"):
        task.items([TextPair("a", "b", "good", "7")])


def test_a_decoder_reads_a_pair_with_a_line_break_between():
    tokenizer = train_tokenizer("bpe", lambda: TEXTS * 20, 300)
    decoder = Bundle(GPT(GPTConfig(tokenizer.vocab_size, 16, 1, 2, 16, 32)), tokenizer, "gpt2")
    task = ClassifyPairs.make(decoder, Parts("x", PAIRS, PAIRS, label_names=("no", "yes")))
    assert tokenizer.decode(task.items(PAIRS)[1].tokens) == "the ship\ncorn"
