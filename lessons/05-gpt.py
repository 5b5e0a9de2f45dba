# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 5. GPT
#
# Attention lets tokens talk; a feed-forward layer lets each think about what it heard; a residual
# stream carries both; and this block is stacked. That is all there is to a GPT. We build one from
# bricks, train it for a few seconds, and watch it beat counting, because it can do what counting
# cannot: look far back for something that matters.

# %%
import math

import numpy as np
import torch

from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.models.ngram import fit
from hornbook.models.presets import count_parameters
from hornbook.nn.cache import KeyValueCache
from hornbook.nn.layout import Padded, Ragged
from hornbook.tasks.language_modeling import LanguageModel, collate, loss_of

# %% [markdown]
# ## A text in which far things matter
#
# Lines such as `k: xyzx k`: one of 12 heroes, four letters out of three, the same hero.

# %%
rng = np.random.default_rng(0)
HEROES = "abcdefghijkl"


def line() -> str:
    hero = rng.choice(list(HEROES))
    return f"{hero}: {''.join(rng.choice(list('xyz'), 4))} {hero}\n"


lines = [line() for _ in range(4400)]
characters = sorted(set("".join(lines)))
V, T = len(characters), len(lines[0])
documents = [[characters.index(c) for c in text] for text in lines]
train, validation = documents[:4000], documents[4000:]
print("".join(lines[:3]))

# %% [markdown]
# What is the least loss? The first character is not asked for; each of four letters is one of
# three, and all else follows.

# %%
least = 4 * math.log(3) / (T - 1)  # nats a character
text = [token for document in validation for token in document]
counting = fit([t for d in train for t in d], V, 6).probabilities(text)
asked = np.arange(len(text)) % T != 0
counting = -np.log(counting[:, asked]).mean(1)
print(f"least {least:.3f}; counting, orders 1 to 6: {counting.round(3)}")

# %% [markdown]
# Five characters back there is no hero to be seen, so that counting has to guess it each time.
#
# ## The model
#
# `models/gpt.py` is one page: config, block, model. The block:
#
#     x = x + attention(norm(x))       # tokens talk
#     x = x + feed_forward(norm(x))    # each thinks
#
# Each part adds to the stream and none overwrites it, so that gradients reach the first block
# undiminished. First weights are small, and those that add to the stream smaller the deeper the
# model. The first loss is then that of a guess:

# %%
torch.manual_seed(0)
gpt = GPT(GPTConfig(V, T, n_layers=2, n_heads=4, d_model=48, d_ff=192))
by_part = {
    "tokens": gpt.tokens.weight.numel(),
    "positions": gpt.positions.weight.numel(),
    "blocks": count_parameters(gpt.blocks),
    "last norm": count_parameters(gpt.norm),
}
print(f"{count_parameters(gpt):,} parameters: {by_part}")
assert sum(by_part.values()) == count_parameters(gpt)


@torch.no_grad()
def validation_loss(trunk) -> float:
    summed = loss_of(LanguageModel(trunk), collate(validation))
    return summed.total.item() / summed.n_targets


first = validation_loss(gpt)
print(f"first loss {first:.3f}, log V {math.log(V):.3f}")
assert abs(first - math.log(V)) < 0.1

# %% [markdown]
# ## Training
#
# Take lines, guess each next character, follow the gradient down. The rate rises at first, while
# the averages of Adam are not worth much, and falls to zero at the end.


# %%
def train_for(trunk, n_steps: int, rate: float) -> list[float]:
    model, losses = LanguageModel(trunk), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / 20, 1 - step / n_steps)
        picked = torch.randint(len(train), (32,)).tolist()
        summed = loss_of(model, collate([train[i] for i in picked]))
        (summed.total / summed.n_targets).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(summed.total.item() / summed.n_targets)
    return losses


losses = train_for(gpt, 250, 1e-2)
reached = validation_loss(gpt)
print(f"GPT {reached:.3f}; counting {counting.min():.3f}; least {least:.3f}")

# %%
torch.manual_seed(0)
modern = ModernGPT(ModernGPTConfig(V, T, n_layers=2, n_heads=4, d_model=48, d_ff=192))
train_for(modern, 250, 1e-2)
modern_reached = validation_loss(modern)
print(f"a modern GPT, same size and steps: {modern_reached:.3f}")

# %% [markdown]
# ## Writing
#
# Feed a beginning, draw the next character, feed it too. The keys and values of what was read are
# kept in a cache, so that each character is read once. Does the hero come back?


# %%
@torch.no_grad()
def write(trunk, beginning: str, n: int) -> str:
    cache, ids = KeyValueCache(), [characters.index(c) for c in beginning]
    new = torch.tensor([ids])
    for _ in range(n):
        hidden = trunk(new, cache.extend(torch.ones_like(new, dtype=torch.bool)))
        new = torch.multinomial(trunk.logits(hidden[:, -1]).softmax(-1), 1)
        ids.append(int(new))
    return "".join(characters[i] for i in ids)


best = modern if modern_reached < reached else gpt
told = [write(best, f"{hero}:", T - 2) for hero in HEROES]
kept = sum(t[0] == t[-2] for t in told)
print("".join(told[:3]))
print(f"the hero came back in {kept} of {len(told)}")

# %% [markdown]
# How a batch lies in memory changes nothing: as a rectangle, or end to end.

# %%
whole = torch.tensor([[characters.index(c) for c in told[0]]])
with torch.no_grad():
    padded = best(whole, Padded(torch.ones_like(whole, dtype=torch.bool)))
    ragged = best(whole[0], Ragged([whole.shape[1]]))
assert torch.allclose(padded[0], ragged, atol=1e-5)
assert max(reached, modern_reached) < counting.min() - 0.1  # the networks look further back
assert min(reached, modern_reached) < least + 0.1
assert kept >= 9

# %% [markdown]
# **Try:** one block in place of two, and one head in place of four. What is needed to look back?
