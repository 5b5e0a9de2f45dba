"""Tagging: which sub-word carries the tag, windows, spans as transformers' pipeline finds them,
metrics as seqeval and scikit-learn have them."""

from __future__ import annotations

import json
import random
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hornbook import bundle
from hornbook.data.tagged import TaggedText, placed
from hornbook.errors import ConfigError, DataError
from hornbook.files import write_text
from hornbook.interop.huggingface import save_model
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import TokenClassifier
from hornbook.nn.losses import IGNORE
from hornbook.recipes.adapted import open_task
from hornbook.tasks.sub_words import grouped
from hornbook.tasks.tag import Tag
from hornbook.tasks.tag_metrics import entity_metrics, macro_f1, word_accuracy
from hornbook.tasks.task import Parts
from hornbook.text.builtin import bert
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'-.,!?"
VOCABULARY = [*BERT_SPECIALS, *LETTERS, *(f"##{c}" for c in LETTERS), "in", "york", "##berg", "new"]
TOKENIZER = Tokenizer(bert("\n".join(VOCABULARY)))
LABELS = ("O", "B-loc", "I-loc", "B-per", "I-per")
NOT_READ = "\u200d"  # BERT's normalizer drops it


def make_bundle(seed=0, context_length=64):
    torch.manual_seed(seed)
    sizes = BertConfig(len(VOCABULARY), context_length, n_layers=2, n_heads=4, d_model=32, d_ff=48)
    return SimpleNamespace(model=Bert(sizes), tokenizer=TOKENIZER)


def task_of(**settings):
    return Tag(TOKENIZER, LABELS, "entities", **{"max_tokens": 64, **settings})


EXAMPLES = [
    placed(["In", "Newberg", ",", "Al", "do", "n't"], ["O", "B-loc", "O", "B-per", "O", "O"],
           text="In Newberg, Al don't", id="one"),
    placed(["new", NOT_READ, "york"], ["B-loc", "O", "I-loc"], id="two"),
]  # fmt: skip


@pytest.fixture(scope="module")
def model():
    built = task_of().build(make_bundle())
    with torch.no_grad():
        built.head.out.weight.mul_(40)  # tags that differ from word to word
    return built.eval()


def test_the_first_sub_word_carries_the_tag():
    items = task_of().items(EXAMPLES)
    shown = [(s.text, s.target) for s in task_of().show(items[0])]
    assert shown[:6] == [
        ("[CLS]", ""), ("in", "O"), ("new", "B-loc"), ("##berg", ""), (",", "O"), ("a", "B-per"),
    ]  # fmt: skip
    assert shown[-4:] == [("n", "O"), ("'", ""), ("t", ""), ("[SEP]", "")]
    assert [w.n_tokens for w in items[1].words] == [1, 0, 1]
    tokens = [(items[0].text[s:e], t) for (s, e), t in zip(items[0].places, shown, strict=True)]
    assert tokens[2][0] == "New" and tokens[3][0] == "berg"


def test_words_split_beforehand_become_the_tokens_that_transformers_makes():
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast(tokenizer_object=TOKENIZER.rust)
    for example, item in zip(EXAMPLES, task_of().items(EXAMPLES), strict=True):
        encoding = theirs(list(example.words), is_split_into_words=True)
        assert item.tokens == encoding["input_ids"]
        seen, targets = None, []
        for word in encoding.word_ids():
            new = word is not None and word != seen
            targets.append(LABELS.index(example.tags[word]) if new else IGNORE)
            seen = word
        assert item.targets == targets


def test_every_word_is_judged_once_however_long_the_text():
    rng = random.Random(0)
    words = ["".join(rng.choices("abc", k=rng.choice([1, 3, 9, 40]))) for _ in range(60)]
    example = placed(words, rng.choices(LABELS, k=60))
    items = task_of(max_tokens=18).items([example])
    assert len(items) > 10 and all(len(item.tokens) <= 18 for item in items)
    assert [w.number for item in items for w in item.words] == list(range(60))
    targets = [t for item in items for t in item.targets if t != IGNORE]
    assert [LABELS[t] for t in targets] == list(example.tags)
    for item in items:
        for word in item.words:
            assert item.places[word.first][0] == word.start
    assert any(item.words[0].first > 1 for item in items[1:])  # with what stands before as context


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_spans_are_those_of_transformers_pipeline(strategy, model, tmp_path):
    from transformers import BertForTokenClassification, PreTrainedTokenizerFast, pipeline

    save_model(tmp_path, model)
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]"}
    finder = pipeline(
        "token-classification",
        BertForTokenClassification.from_pretrained(tmp_path),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=TOKENIZER.rust, model_max_length=64, sep_token="[SEP]", **special
        ),
        aggregation_strategy=strategy,
    )
    texts = ["In New York, Al don't newberg!", "a", "york newberg new-york 7berg in berg."]
    task = task_of(aggregation=strategy)
    ours = task.predict(model, task.items(texts))
    assert sum(len(p["spans"]) for p in ours) > 5
    for text, prediction in zip(texts, ours, strict=True):
        expected = [
            (e.get("entity_group") or e["entity"], e["start"], e["end"]) for e in finder(text)
        ]
        got = prediction["spans"]
        assert [(s["label"], s["start"], s["end"]) for s in got] == expected
        assert [s["score"] for s in got] == pytest.approx(
            [float(e["score"]) for e in finder(text)], abs=1e-5
        )
        assert all(text[s["start"] : s["end"]] == s["text"] for s in got)


def test_predictions_keep_the_order_and_do_not_depend_on_the_batch(model):
    task = task_of()
    both = task.predict(model, task.items(EXAMPLES * 5))
    assert [len(p["tags"]) for p in both] == [6, 3] * 5
    alone = task.predict(model, task.items(EXAMPLES[1:]))
    assert alone[0]["tags"] == both[1]["tags"]
    assert [s["score"] for s in alone[0]["spans"]] == pytest.approx(
        [s["score"] for s in both[1]["spans"]], abs=1e-4
    )
    assert alone[0]["tags"][1] == "O"  # of what the tokenizer does not read


def test_neighbours_of_one_entity_are_one_span():
    units = [("B-a", 0.5, 0, 1), ("I-a", 1.0, 2, 3), ("B-a", 1.0, 4, 5), ("I-b", 1.0, 6, 7),
             ("O", 1.0, 8, 9), ("I-b", 0.2, 10, 11)]  # fmt: skip
    assert grouped(units) == [
        ("a", 0.75, 0, 3), ("a", 1.0, 4, 5), ("b", 1.0, 6, 7), ("b", pytest.approx(0.2), 10, 11),
    ]  # fmt: skip


# Metrics


def random_tags(rng, names, n=40):
    rows = [[rng.choice(names) for _ in range(rng.randint(1, 12))] for _ in range(n)]
    return rows, [[t if rng.random() < 0.6 else rng.choice(names) for t in row] for row in rows]


def test_entity_metrics_equal_seqeval_on_any_tags():
    from seqeval import metrics as theirs

    rng = random.Random(1)
    for names in (LABELS, LABELS[:3], ("O", "B-creative-work", "I-creative-work", "B-work")):
        true, guessed = random_tags(rng, names)
        ours = {m.name: m.value for m in entity_metrics(true, guessed)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert ours["F1"] == pytest.approx(theirs.f1_score(true, guessed))
            assert ours["precision"] == pytest.approx(theirs.precision_score(true, guessed))
            assert ours["recall"] == pytest.approx(theirs.recall_score(true, guessed))
            report = theirs.classification_report(true, guessed, output_dict=True)
        for name in {n[2:] for n in names[1:]}:
            if f"F1 {name}" in ours:
                assert ours[f"F1 {name}"] == pytest.approx(report[name]["f1-score"])


def test_word_metrics_equal_scikit_learn():
    from sklearn import metrics as theirs

    true, guessed = random_tags(random.Random(2), ("NOUN", "VERB", "ADP", "X"))
    flat = [[tag for row in rows for tag in row] for rows in (true, guessed)]
    assert word_accuracy(true, guessed).value == pytest.approx(theirs.accuracy_score(*flat))
    found = macro_f1(true, guessed, ("NOUN", "VERB", "ADP", "X", "never seen")).value
    assert found == pytest.approx(theirs.f1_score(*flat, average="macro"))


def test_a_column_of_macro_f1_is_one_tags_whatever_was_guessed():
    """So that two models' rows can be exchanged, of which one never says ADV, the other never X."""
    true = [["NOUN", "VERB"], ["NOUN", "PUNCT"]]
    first, second = (
        macro_f1(true, [["NOUN", tag], ["NOUN", "PUNCT"]], ("X", "VERB", "NOUN", "ADV"))
        for tag in ("ADV", "X")
    )
    assert first.statistics.shape == second.statistics.shape == (2, 15)
    apart = np.flatnonzero((first.statistics != second.statistics).any(0))
    assert list(apart) == [5, 8]  # guessed ADV and guessed X; PUNCT, unknown to the head, is last
    assert (
        first.value == second.value == pytest.approx((1 + 0 + 0 + 1) / 4)
    )  # NOUN, VERB, the guess, PUNCT


def test_metrics_can_be_computed_again_on_a_resample():
    true, guessed = random_tags(random.Random(3), LABELS)
    drawn = np.random.default_rng(0).integers(0, len(true), (3, len(true)))
    for metric in [*entity_metrics(true, guessed), word_accuracy(true, guessed)]:
        all_at_once = metric.of(metric.statistics[drawn].sum(1))
        for rows, value in zip(drawn, all_at_once, strict=True):
            again = [
                m for m in [*entity_metrics([true[i] for i in rows], [guessed[i] for i in rows]),
                            word_accuracy([true[i] for i in rows], [guessed[i] for i in rows])]
                if m.name == metric.name
            ]  # fmt: skip
            assert value == pytest.approx(again[0].value if again else 0.0)


# What can go wrong


def parts_of(train, validation=(), test=(), labels=LABELS):
    return Parts("x", train, validation, test or None, label_names=labels)


def codes(task, parts):
    return {f.code: f for f in task.check(parts)}


def test_findings_name_tags_beyond_the_head_vanished_ones_and_silent_words():
    other = placed(["a", "b"], ["B-event", "O"])
    task = task_of()
    found = codes(task, parts_of(EXAMPLES, [EXAMPLES[0], other]))
    assert found["tag-beyond-head"].level == "warn"
    assert "B-event (1)" in found["tag-beyond-head"].what
    assert "I-loc (1)" in found["tag-vanishes"].what
    assert "1 words of 2" in found["word-without-token"].what
    assert "windows" in codes(task_of(max_tokens=8), parts_of(EXAMPLES))
    assert (
        not {"tag-beyond-head", "tag-vanishes"} & codes(task, parts_of(EXAMPLES, EXAMPLES)).keys()
    )


def test_a_tag_beyond_the_head_carries_no_loss_and_data_of_another_task_are_refused(model):
    mixed = placed(["in", "york"], ["B-event", "B-loc"])
    (item,) = task_of().items([mixed])
    assert item.targets[1:3] == [IGNORE, LABELS.index("B-loc")]
    predictions = task_of().predict(model, task_of().items([mixed]))
    assert task_of().metrics([mixed], predictions)[-1].value < 1
    with pytest.raises(DataError, match=r"none of the tags \(NOUN, VERB\) is among the 5"):
        task_of().items([placed(["a", "b"], ["NOUN", "VERB"])])


def test_a_head_is_kept_for_its_tags_and_replaced_for_others():
    opened = make_bundle()
    first = Tag.make(opened, parts_of(EXAMPLES))
    opened.model = first.build(opened)
    fewer = Tag.make(opened, parts_of(EXAMPLES, labels=LABELS[:3]))
    assert fewer.label_names == LABELS and fewer.build(opened) is opened.model
    more = Tag.make(opened, parts_of(EXAMPLES, labels=("O", "B-event", "I-event")))
    event = placed(["in", "york"], ["O", "B-event"])
    assert "B-event, I-event" in codes(more, parts_of([event]))["head-replaced"].what
    built = more.build(opened)
    assert isinstance(built, TokenClassifier) and built.head.out.out_features == 3


def test_the_card_makes_the_task_again():
    small = make_bundle(context_length=48)
    task = Tag.make(small, parts_of(EXAMPLES), aggregation="average")
    again = Tag.reopen(task.card(), small)
    assert again.card() == task.card()
    assert (again.max_tokens, again.best, again.kind) == (48, "F1", "entities")


def test_a_saved_model_opens_with_its_task(model, tmp_path):
    bundle.save(tmp_path / "model", model, TOKENIZER)
    write_text(tmp_path / "model" / "task.json", json.dumps(task_of().card()))
    opened = open_task(tmp_path)
    again = opened.task.predict(opened.model, opened.task.items(EXAMPLES))
    assert again == task_of().predict(model, task_of().items(EXAMPLES))


def test_settings_that_cannot_be_followed_are_refused():
    with pytest.raises(ConfigError, match="aggregation is 'mean'"):
        task_of(aggregation="mean")
    with pytest.raises(ConfigError, match="max_tokens is 2"):
        task_of(max_tokens=2)
    with pytest.raises(DataError, match="no tags to compare"):
        task_of().metrics([TaggedText(("a",))], [{"tags": ["O"]}])


def test_plain_tags_are_scored_by_word(model, tmp_path):
    (tmp_path / "train.conllu").write_text("1\tI\t_\tPRON\n2\tgo\t_\tVERB\n\n", encoding="utf-8")
    (tmp_path / "dev.conllu").write_text("1\tI\t_\tPRON\n\n", encoding="utf-8")
    parts = Tag.open_data(str(tmp_path), {}, seed=0)
    task = Tag.make(make_bundle(), parts)
    assert (task.best, task.label_names) == ("accuracy", ("PRON", "VERB"))
    built = task.build(make_bundle()).eval()
    predictions = task.predict(built, task.items(parts.train))
    assert [s["text"] for s in predictions[0]["spans"]] == ["I", "go"]
    assert [m.name for m in task.metrics(parts.train, predictions)] == ["accuracy", "macro F1"]
