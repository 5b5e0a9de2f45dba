# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 3. The bigram, by counting and by gradient
#
# A language model says how likely each next character is. The smallest one looks at the last
# character only. There are two ways to build it: count pairs, or descend a gradient. They end at
# the same place, and as counting tells us where that is, we can watch the gradient get there. All
# larger models are built the second way, because for them nobody can count.

# %%
import math

import numpy as np
import torch

from hornbook.models.bigram import Bigram, BigramConfig, from_counts
from hornbook.models.ngram import KNESER_NEY, fit
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import cross_entropy_sum

# %% [markdown]
# A text to learn from: sentences put together by rule, so that this page needs no file. Characters
# become numbers; the last tenth is kept for judging.

# %%
rng = np.random.default_rng(0)
WHO = ["the cat", "a dog", "the old man", "my sister", "one bird", "nobody"]
DOES = ["sees", "likes", "follows", "forgets", "paints"]
WHAT = ["the moon", "a red hat", "an apple", "the sea", "nothing", "her shoes"]
text = " ".join(f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHAT)}." for _ in range(1200))
characters = sorted(set(text))
tokens = np.array([characters.index(c) for c in text])
cut = int(0.9 * len(tokens))
train, validation = tokens[:cut], tokens[cut:]
V = len(characters)
print(f"{len(text):,} characters, {V} different; it begins: {text[:60]!r}")

# %% [markdown]
# ## Counting
#
# How often did each character follow each other one? Divide each row by its sum: shares. The loss
# is the mean of -log(share given to what really came next), in nats. Guessing costs log V.

# %%
pairs = np.zeros((V, V))
np.add.at(pairs, (train[:-1], train[1:]), 1)
shares = pairs / pairs.sum(1, keepdims=True)
after_o = {c: round(float(p), 2) for c, p in zip(characters, shares[characters.index("o")])}
print("after 'o':", {c: p for c, p in after_o.items() if p > 0.03})
entropy = -(pairs * np.log(np.where(pairs > 0, shares, 1))).sum() / pairs.sum()
print(f"guessing costs {math.log(V):.3f} nats a character, the counted table {entropy:.3f}")

# %% [markdown]
# A pair that never occurred has share 0, and should it occur in the validation text the loss is
# infinite. So each row gives a part of its probability away ("smoothing"), the more, the more
# different characters followed: this is Witten-Bell's rule, and `from_counts` does it.


# %%
def loss(model: Bigram, ids: np.ndarray) -> torch.Tensor:
    """Mean over all pairs, in nats."""
    ids = torch.from_numpy(ids)
    logits = model.logits(model(ids[:-1], Ragged([len(ids) - 1])))
    summed = cross_entropy_sum(logits, ids[1:])
    return summed.total / summed.n_targets


counted = from_counts(train, V)
print(f"counted and smoothed: {loss(counted, validation).item():.4f} on the validation text")

# %% [markdown]
# ## Descending
#
# The same table, filled with zeros: all characters equally likely. The gradient of the loss with
# respect to a row is (what the model says) - (what came), summed over the pairs of that row. Where
# it is zero, the model says what the counts say.

# %%
model = Bigram(BigramConfig(V))
first = loss(model, train)
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
history = []
for _ in range(200):
    step = loss(model, train)
    step.backward()
    optimizer.step()
    optimizer.zero_grad()
    history.append(step.item())
print("loss after 1, 10, 50, 200 steps:", [round(history[i - 1], 3) for i in (1, 10, 50, 200)])
descended = loss(model, validation).item()
print(f"descended: {descended:.4f} on the validation text; counted {loss(counted, validation):.4f}")

# %%
assert abs(first.item() - math.log(V)) < 1e-5  # zeros know nothing
assert abs(history[-1] - entropy) < 0.01  # the training loss ends at the entropy of the pairs
assert abs(descended - loss(counted, validation).item()) < 0.01
common = pairs.sum(1) > 500
said = model.table.weight.softmax(1).detach().numpy()
assert np.abs(said - shares)[common].max() < 0.03  # and the table is the table of shares

# %% [markdown]
# ## More than one character back
#
# Counting goes on: after two characters, three, four. Each order falls back on the one below where
# its context is rare. On real text the validation loss falls and then rises again, because long
# contexts are new: on the Sherlock Holmes stories from 3.09 at order 1 to 1.46 at order 5, and
# to 1.62 at order 8. On ours, of few words, it only falls. Kneser and Ney's way of falling back
# asks after how many *different* contexts a character stood; on Sherlock it reaches 1.35.

# %%
orders = fit(train, V, max_order=8).losses(validation)
print("order 1 to 8:", orders.round(3))
best = fit(train, V, 8, KNESER_NEY).losses(validation)[-1]
print(f"Kneser-Ney, order 8: {best:.3f}")
assert orders[0] > orders[1] > orders[2] > orders[3]
assert abs(orders[1] - loss(counted, validation).item()) < 1e-3

# %% [markdown]
# Every language model that hornbook trains is printed beside this: a network that loses to counting
# has learnt nothing yet.
#
# **Try:** 100 sentences in place of 1,200, and 2,000 steps. Which table is the better one on the
# validation text now, the counted or the descended, and what became of pairs that never occurred?
