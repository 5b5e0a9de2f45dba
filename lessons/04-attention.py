# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 4. Attention, step by step
#
# A bigram sees one token. Attention lets a token look at all tokens before it and decide, by what
# they say, how much of each to take. Four steps lead from an average to the real thing; at the end
# the result is compared with the brick that all models here are made of.

# %%
import math

import torch
import torch.nn.functional as F

from hornbook.nn.attention import SelfAttention
from hornbook.nn.layout import Ragged
from hornbook.nn.rotary import Rotary

torch.manual_seed(0)
T, E = 6, 8  # tokens, width
x = torch.randn(T, E)

# %% [markdown]
# ## Step 1: the average of the past, in a loop

# %%
averages = torch.stack([x[: t + 1].mean(0) for t in range(T)])

# %% [markdown]
# ## Step 2: the same as one product
#
# Row t of a matrix of weights says how much token t takes of each token. Below the diagonal all
# alike, above it nothing: the future is not to be seen.

# %%
past = torch.ones(T, T).tril()
weights = past / past.sum(1, keepdim=True)
print(weights)
assert torch.allclose(weights @ x, averages, atol=1e-6)

# %% [markdown]
# ## Step 3: the same as a softmax
#
# Scores of 0 where one may look, -infinity where not. Softmax turns scores into weights that sum to
# one. Now the scores may be anything: they no longer have to be alike.

# %%
scores = torch.zeros(T, T).masked_fill(past == 0, -math.inf)
assert torch.allclose(scores.softmax(1) @ x, averages, atol=1e-6)

# %% [markdown]
# ## Step 4: scores from the tokens themselves
#
# Each token asks (query), tells what it has (key) and what it gives (value): three matrices. A
# score is the product of a query and a key. Dividing by the root of the width keeps scores of
# random vectors near size 1: larger ones would make softmax choose one token and learn nothing.

# %%
to_query, to_key, to_value = (torch.randn(E, E) / E**0.5 for _ in range(3))
q, k, v = x @ to_query, x @ to_key, x @ to_value
raw = (torch.randn(2000, E) * torch.randn(2000, E)).sum(1)
print(f"spread of a product of random vectors: {raw.std():.2f}, divided: {raw.std() / E**0.5:.2f}")
scores = (q @ k.T / E**0.5).masked_fill(past == 0, -math.inf)
weights = scores.softmax(1)
one_head = weights @ v
print(weights)
fused = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
assert torch.allclose(one_head, fused, atol=1e-5)

# %% [markdown]
# ## Several heads
#
# One softmax chooses one thing. So cut the width into heads, each of which looks for something of
# its own, and put what they bring back together with one more matrix. Here it is with loops, and as
# the brick: the three matrices of all heads are one there, `qkv`, because one large product is
# faster than three small ones.

# %%
H, D = 2, E // 2
brick = SelfAttention(E, H, causal=True)
with torch.no_grad():
    q, k, v = (x @ brick.qkv.weight.T + brick.qkv.bias).split(E, 1)
    heads = []
    for h in range(H):
        own = slice(h * D, (h + 1) * D)
        scores = (q[:, own] @ k[:, own].T / D**0.5).masked_fill(past == 0, -math.inf)
        heads.append(scores.softmax(1) @ v[:, own])
    by_hand = torch.cat(heads, 1) @ brick.out.weight.T + brick.out.bias
    by_brick = brick(x, Ragged([T]))
difference = (by_hand - by_brick).abs().max().item()
print(f"largest difference between the loops and the brick: {difference:.1e}")
assert difference < 1e-5

# %% [markdown]
# ## What the mask is for
#
# Change a token: what stands before it must not move, or the model would read the answer off the
# page while it learns to guess it.

# %%
with torch.no_grad():
    changed = x.clone()
    changed[3] += 1
    moved = (brick(changed, Ragged([T])) - by_brick).abs().amax(1)
print("moved by changing token 3:", [f"{m:.3f}" for m in moved.tolist()])
assert (moved[:3] == 0).all() and (moved[3:] > 0).all()

# %% [markdown]
# ## What attention does not know
#
# Order. Without a mask, shuffled tokens give the same results, shuffled. So positions have to be
# put in: by adding a vector for each place (GPT-2), or by turning queries and keys by an angle that
# grows with the place (rotary positions). Then a score depends on the distance of the two.

# %%
with torch.no_grad():
    order = torch.randperm(T)
    blind = SelfAttention(E, H)
    shuffled_first = blind(x[order], Ragged([T]))
    shuffled_after = blind(x, Ragged([T]))[order]
    turn = Rotary(D, T)(torch.arange(T))
    told_first = blind(x[order], Ragged([T]), turn)
    told_after = blind(x, Ragged([T]), turn)[order]
print(f"without positions: {(shuffled_first - shuffled_after).abs().max():.1e}")
print(f"with positions:    {(told_first - told_after).abs().max():.1e}")
assert torch.allclose(shuffled_first, shuffled_after, atol=1e-5)
assert not torch.allclose(told_first, told_after, atol=1e-3)

# %% [markdown]
# **Try:** leave the division by the root of the width away and let E be 512. What happens to the
# largest weight of each row?
