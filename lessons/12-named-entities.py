# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 12. Named entities
#
# Who and what is a text about? A tagger says of each word whether a name begins there, goes on, or
# neither. Four things about it are easy to get wrong: models read pieces of words and not words, a
# score over words flatters, sub-words of one name may disagree, and places are off by one. Here
# they are, one by one, with a model that is trained in a few seconds. The same with a real one:
#
#     hornbook finetune tag --model minilm --data wnut17

# %%
import random

import torch

from hornbook.bundle import Bundle
from hornbook.data.bio import as_bio, spans
from hornbook.data.tagged import from_spans, placed
from hornbook.errors import DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.tasks.tag import Tag
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer
from hornbook.training.optimizers import adamw, decay_groups

torch.manual_seed(0)
rng = random.Random(0)

# %% [markdown]
# ## Tags for words
#
# `B-person` begins a name, `I-person` goes on with it, `O` is outside of all. Without B two names
# side by side would be one.

# %%
words = ["Ada", "Byron", "met", "Charles", "in", "London"]
tags = ["B-person", "I-person", "O", "B-person", "O", "B-place"]
print([(span.label, words[span.start : span.end]) for span in spans(tags)])

# %% [markdown]
# Files differ in how they write this, and models in how they break it. An I that goes on with
# nothing is read as a beginning, as all who score it do.

# %%
repaired, changed = as_bio(["I-person", "I-person", "O", "I-place"])
print(repaired, dict(changed))
assert repaired == ["B-person", "I-person", "O", "B-place"]

# %% [markdown]
# ## The data
#
# Names are made of syllables, and those of the test are new. As *Paris* or *Jordan*, any of them
# can be a person or a place: only the words around it tell.

# %%
SYLLABLES = ["ka", "lo", "mi", "ren", "tor", "ves", "an", "dru", "bel", "sho", "fin", "gar"]
ABOUT = {
    "person": [
        "we met {} at noon",
        "{} said it was late",
        "then {} laughed",
        "a letter from {} came",
        "{} and her friends left",
    ],
    "place": [
        "we live in {} now",
        "the train to {} was late",
        "{} is a large town",
        "it rains in {} again",
        "the streets of {} were dark",
    ],
}


def name() -> str:
    return "".join(rng.choices(SYLLABLES, k=rng.choice([2, 2, 3]))).capitalize()


def sentence(names: list[str]):
    """Two clauses, each with a name of one or two words."""
    words, tags = [], []
    for kind in rng.choices(list(ABOUT), k=2):
        before, _, after = rng.choice(ABOUT[kind]).partition("{}")
        who = rng.sample(names, rng.choice([1, 1, 2]))
        words += [*before.split(), *who, *after.split()]
        tags += ["O"] * len(before.split()) + [f"B-{kind}"] + [f"I-{kind}"] * (len(who) - 1)
        tags += ["O"] * len(after.split())
    return placed(words, tags)


known, new = [name() for _ in range(150)], [name() for _ in range(80)]
new = [n for n in new if n not in known]
train, test = [sentence(known) for _ in range(400)], [sentence(new) for _ in range(150)]
print(train[0].text)

# %% [markdown]
# ## Which piece carries the tag
#
# A vocabulary of 160 pieces has no name in it whole. The first piece of a word carries its tag; the
# others carry no loss. Were they to carry it too, a name of five pieces would count five times.

# %%
tokenizer = train_tokenizer("wordpiece", lambda: [e.text for e in train], 160)
labels = ("O", "B-person", "I-person", "B-place", "I-place")
parts = Parts("names", train, test, label_names=labels)


def encoder() -> Bundle:
    torch.manual_seed(1)
    sizes = BertConfig(tokenizer.vocab_size, 64, n_layers=2, n_heads=4, d_model=48, d_ff=96)
    return Bundle(Bert(sizes), tokenizer, "bert")


task = Tag.make(encoder(), parts)
items = task.items(train)
for shown in task.show(items[0]):
    print(f"{shown.text:10} {'-> ' + shown.target if shown.target else ''}")
n_words = sum(len(e.words) for e in train)
assert sum(bool(shown.target) for item in items for shown in task.show(item)) == n_words

# %% [markdown]
# ## Learning
#
# A head on each token, cross-entropy over those that carry a tag: nothing else is new.

# %%
model = task.build(encoder())
optimizer = adamw(decay_groups(model.named_parameters(), lr=3e-3, weight_decay=0.01))
for step in range(160):
    for group in optimizer.param_groups:
        group["lr"] = 3e-3 * min(1, (step + 1) / 10) * (1 - step / 160)
    loss = task.loss(model.train(), task.collate(rng.sample(items, 32)))
    (loss.total / loss.n_targets).backward()
    optimizer.step()
    optimizer.zero_grad()
predictions = task.predict(model.eval(), task.items(test))
learnt = {m.name: m.value for m in task.metrics(test, predictions)}

# %% [markdown]
# ## Why words are not counted
#
# Most words are no names. Who says O to everything is right about three words in four, and has
# found nothing. An entity counts when its beginning, its end and its type are all right; F1 is made
# of the share found and the share of what was found that is right.

# %%
nothing = [{"tags": ["O"] * len(e.words)} for e in test]
floor = {m.name: m.value for m in task.metrics(test, nothing)}
print(f"{'':16}{'accuracy':>10}{'F1':>8}")
print(f"{'always O':16}{floor['accuracy']:10.3f}{floor['F1']:8.3f}")
print(f"{'the tagger':16}{learnt['accuracy']:10.3f}{learnt['F1']:8.3f}")

# %% [markdown]
# The same name, once a person and once a place: it is the words around that decide.

# %%
said = task.predict(model, task.items([f"then {new[0]} laughed", f"we live in {new[0]} now"]))
for prediction in said:
    print(prediction["spans"])

# %% [markdown]
# ## Sub-words that disagree
#
# Of a text without tags, pieces have to be put together again. `simple` believes each piece, also
# those that never carried a loss: names fall apart. `first` believes what was trained.

# %%
texts = [e.text for e in test]
n_names = sum(len(spans(e.tags)) for e in test)
found = {}
for how in ("simple", "first"):
    task.aggregation = how
    of_all = task.predict(model, task.items(texts))
    found[how] = sum(len(p["spans"]) for p in of_all)
    print(
        f"{how:8}{found[how]:5} spans of {n_names} names: {[s['text'] for s in of_all[0]['spans']]}"
    )

# %% [markdown]
# ## Off by one
#
# Places are characters, the end excluded. Marks that cut a word are refused before they are learnt.

# %%
try:
    from_spans("We live in Torven.", [{"start": 11, "end": 18, "label": "place"}], "line 1")
except DataError as refused:
    print(refused)

# %% [markdown]
# To go on: let all pieces of a word carry its tag and compare F1; leave one kind of clause out of
# the training sentences; hide a third of the names behind `[UNK]` and see what the words around
# them are worth.
