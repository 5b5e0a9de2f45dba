# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 8. Fine-tuning a classifier
#
# A pretrained encoder knows how words go together, but not what you want to know of a text.
# Fine-tuning puts a small head on it and trains both on labelled examples. Here it is done by hand,
# with an encoder small enough to be pretrained on the spot, so that every part can be seen: what
# the model reads, which token carries the loss, what pretraining is good for, and how sure the
# figures are. It takes a few seconds. The same with a real encoder:
#
#     hornbook finetune classify --model minilm --data sms-spam

# %%
import random

import torch

from hornbook.bundle import Bundle
from hornbook.data.examples import Document, Example
from hornbook.evaluation.evaluate import comparison, with_intervals
from hornbook.models.bert import Bert, BertConfig
from hornbook.tasks.classify import Classify
from hornbook.tasks.fill import Fill
from hornbook.tasks.task import Parts
from hornbook.text.train import train_tokenizer
from hornbook.training.optimizers import adamw, decay_groups

torch.manual_seed(0)
rng = random.Random(0)

# %% [markdown]
# ## The data
#
# Messages about three things. Each topic has twenty words of its own, and a message uses four of
# them among words that say nothing. We have 2,000 messages, and somebody labelled three.

# %%
TOPICS = {
    "kitchen": "bread oven flour salt soup knife plate butter onion spoon "
    "yeast pan lid stew rice pepper sugar dough bowl jam",
    "garden": "seed spade weed hedge tulip rain soil worm lawn rake "
    "bulb moss fence shed hose thorn apple bee pond leaf",
    "harbour": "ship crane rope tide anchor crew buoy pilot gull deck "
    "mast keel dock cargo net storm sail pier chart foam",
}
FILLER = ["the", "a", "my", "was", "near", "old", "and", "then", "we", "saw", "with", "very"]


def message(topic: str) -> str:
    words = rng.sample(TOPICS[topic].split(), 4) + rng.choices(FILLER, k=3)
    rng.shuffle(words)
    return " ".join(words)


def some(n: int) -> list[Example]:
    topics = [list(TOPICS)[i % 3] for i in range(n)]
    return [Example(Document(message(t)), (t,), str(i)) for i, t in enumerate(topics)]


unlabelled = [e.document for e in some(2000)]
train, test = some(3), some(300)
tokenizer = train_tokenizer("wordpiece", lambda: [d.text for d in unlabelled], 300)

# %% [markdown]
# ## What the model reads, and where the loss is
#
# A task turns examples into items: token ids, and the number of the label. Of a classifier a single
# place carries loss, the first token, `[CLS]`, which has looked at all the others.

# %%
names = tuple(TOPICS)
parts = Parts("messages", train, test, label_names=names)


def encoder() -> Bundle:
    torch.manual_seed(1)
    sizes = BertConfig(tokenizer.vocab_size, 32, n_layers=2, n_heads=4, d_model=48, d_ff=96)
    return Bundle(Bert(sizes), tokenizer, "bert")


task = Classify.make(encoder(), parts)
item = task.items(train)[0]
for shown in task.show(item)[:4]:
    print(f"{shown.text:10} {'-> ' + shown.target if shown.target else ''}")

# %% [markdown]
# ## Fine-tuning is a dozen lines
#
# Collate, loss, backward, step. The loss is a sum with a count, divided once: batches may then be
# cut in any way without changing what is learnt.


# %%
def train_on(task, model, items, *, steps: int, lr: float, per_step: int = 64) -> list[float]:
    optimizer = adamw(decay_groups(model.named_parameters(), lr=lr, weight_decay=0.01))
    losses = []
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        if hasattr(task, "epoch"):  # of hidden words: others in each epoch
            task.epoch = 1 + step * per_step // len(items)
        batch = task.collate(rng.sample(items, min(per_step, len(items))))
        loss = task.loss(model.train(), batch)
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.total.detach()) / loss.n_targets)
    return losses


def tested(model):
    return task.metrics(test, task.predict(model.eval(), task.items(test)))


plain = task.build(encoder())
losses = train_on(task, plain, task.items(train), steps=60, lr=2e-3)
from_scratch = tested(plain)
print(
    f"loss {losses[0]:.2f} -> {losses[-1]:.3f}; accuracy on new texts {from_scratch[0].value:.2f}"
)

# %% [markdown]
# It knows its three texts by heart, the loss says so. Of new ones it gets half right: words that
# stood in no labelled text mean nothing to it.
#
# ## Pretraining gives words a meaning before anyone labels them
#
# Hide words of the 2,000 unlabelled messages, and let the encoder guess them. To guess *spade* next
# to *tulip* and *rake* it has to find out that these go together, and that is what the classifier
# needs to know. This is `hornbook finetune fill`: with a published encoder and texts of your own
# field it is called domain adaptation.

# %%
adapted = encoder()
fill = Fill.make(adapted, Parts("messages", unlabelled, [e.document for e in test]), share=0.3)
guesser = fill.build(adapted)
held_out = [e.document for e in test]


def perplexity() -> float:
    found = fill.predict(guesser.eval(), fill.items(held_out))
    return fill.metrics(held_out, found)[0].value


before = perplexity()
losses = train_on(fill, guesser, fill.items(unlabelled), steps=300, lr=3e-3)
fill.epoch = 0  # validation: the same words every time
after = perplexity()
print(f"perplexity of hidden words: {before:.0f} -> {after:.0f}")

# %% [markdown]
# Who knows how often each word comes has a perplexity of 60 here; who knows the topic as well, 30.
# It has found the topics, though nobody named them. Now the same three labels again, with a head on
# this encoder. `build` takes the trunk and leaves the head for hidden words off.

# %%
model = task.build(Bundle(guesser, tokenizer, "bert"))
train_on(task, model, task.items(train), steps=60, lr=1e-3)
with_pretraining = tested(model)

# %% [markdown]
# ## How sure is that?
#
# 300 test texts are not all texts. Drawing them again and again with replacement shows how far a
# figure would move; both models are drawn alike, so that a text that is hard for both cancels out.

# %%
for who, metrics in (("labels alone", from_scratch), ("hidden words first", with_pretraining)):
    accuracy = with_intervals(metrics)[0]
    print(f"{who:20}{accuracy.value:.3f}   95 % from {accuracy.low:.3f} to {accuracy.high:.3f}")
print(comparison("labels alone", with_pretraining, from_scratch).verdict)

# %% [markdown]
# ## Look before you train
#
# What is wrong with labels is cheap to find beforehand. Here the test texts of one topic are gone,
# and another topic was never labelled.

# %%
broken = Parts("messages", [e for e in train if e.labels != ("garden",)],
               [e for e in test if e.labels != ("harbour",)], label_names=names)  # fmt: skip
findings = task.check(broken)
for finding in findings:
    print(f"{finding.level}: {finding.what}. {finding.cost}")

# %% [markdown]
# To go on: give 15 labels instead of 3 and see the gap close; give the second model the first one's
# rate of 2e-3 and see whether it forgets; hide 15 % of the words instead of 30 %.
