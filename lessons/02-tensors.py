# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 2. Tensors: the only data type
#
# Whatever a language model does, it does to tensors: boxes of numbers with a shape. This lesson
# has the six operations that a GPT is made of, each checked against the same thing done by hand.
# Nothing here takes longer than a second.

# %%
import math

import torch
import torch.nn.functional as F

torch.manual_seed(0)

# %% [markdown]
# ## Shapes
#
# A text is a row of token ids. A batch of B texts of T tokens has the shape (B, T). An embedding
# gives each token E numbers: (B, T, E). In this project's code the letters stand in every comment.

# %%
B, T, V, E = 2, 5, 11, 8
tokens = torch.randint(0, V, (B, T))
table = torch.randn(V, E)
embedded = table[tokens]  # indexing: row `tokens[b, t]` of the table at each place
print(tokens.shape, "->", embedded.shape)
assert torch.equal(embedded[1, 3], table[tokens[1, 3]])

# %% [markdown]
# ## Looking at the same numbers in another way
#
# `view`, `transpose` and `unflatten` move no number: they change how the box is walked through.
# Attention splits E into H heads of width D and puts the heads in front.

# %%
H, D = 2, 4
heads = embedded.unflatten(-1, (H, D)).transpose(1, 2)  # (B, T, E) -> (B, H, T, D)
print(heads.shape, "shares its memory:", heads.data_ptr() == embedded.data_ptr())
assert torch.equal(heads[1, 0, 3], embedded[1, 3, :D])

# %% [markdown]
# ## Broadcasting
#
# Where a dimension is 1 or missing, it is repeated as needed. Positions (T, E) are added to every
# text of the batch (B, T, E). The rule reads shapes from the right; a dimension of the wrong size
# is an error, a forgotten one can be a silent bug: (T,) plus (T, 1) is (T, T).

# %%
positions = torch.randn(T, E)
x = embedded + positions
assert torch.equal(x[0] - x[1], embedded[0] + positions - (embedded[1] + positions))
surprise = torch.zeros(T) + torch.zeros(T, 1)
print("(T,) + (T, 1) =", tuple(surprise.shape))

# %% [markdown]
# ## The matrix product
#
# Nearly all the time of a model is spent here. (..., T, D) @ (..., D, S) -> (..., T, S): each
# number of the result is a sum of D products, so that the whole costs 2 T D S operations.

# %%
scores = heads @ heads.transpose(-1, -2)  # (B, H, T, T): how alike two tokens are
by_hand = sum(heads[0, 1, 2, d] * heads[0, 1, 4, d] for d in range(D))
assert torch.isclose(scores[0, 1, 2, 4], by_hand)
print(f"{2 * B * H * T * D * T} operations for {scores.numel()} numbers")

# %% [markdown]
# ## Softmax
#
# Any numbers become shares that are positive and sum to 1: e to the power of each, divided by the
# sum. Taking the largest away first changes nothing, and keeps e^1000 from happening.

# %%
shares = F.softmax(scores, dim=-1)
row = scores[0, 0, 0]
by_hand = (row - row.max()).exp() / (row - row.max()).exp().sum()
assert torch.allclose(shares[0, 0, 0], by_hand)
assert torch.allclose(shares.sum(-1), torch.ones(B, H, T))
huge = torch.tensor([1000.0, 1001.0])
print("naive:", (huge.exp() / huge.exp().sum()).tolist(), " softmax:", F.softmax(huge, 0).tolist())

# %% [markdown]
# ## The loss
#
# The model gives each token of the vocabulary a number (a logit). Softmax makes shares of them. The
# loss is minus the logarithm of the share that the token got which really came: 0 for certainty,
# ln V for an even guess. Everything in this project is measured in it.

# %%
logits = x @ table.T  # (B, T, V)
targets = torch.randint(0, V, (B, T))
loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
share = F.softmax(logits, -1).gather(-1, targets[..., None]).squeeze(-1)
assert torch.isclose(loss, -share.log().mean())
even = F.cross_entropy(torch.zeros(1, V), torch.tensor([3]))
print(f"loss {loss:.3f}; an even guess costs ln {V} = {even:.3f}")
assert math.isclose(even, math.log(V), rel_tol=1e-6)

# %% [markdown]
# ## Gradients
#
# `requires_grad` makes a tensor remember where it came from. `backward` then walks back and leaves
# in `.grad` how the loss would change with each number. We check one of them the slow way: move
# the number a little and look.

# %%
weight = torch.randn(E, V, dtype=torch.float64, requires_grad=True)


def loss_of(matrix: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy((x.double() @ matrix).flatten(0, 1), targets.flatten())


loss_of(weight).backward()
little = torch.zeros_like(weight)
little[2, 5] = 1e-6
with torch.no_grad():
    slope = (loss_of(weight + little) - loss_of(weight - little)) / 2e-6
print(f"by backward {weight.grad[2, 5]:.8f}, by moving it {slope:.8f}")
assert torch.isclose(weight.grad[2, 5], slope, rtol=1e-5)

# %% [markdown]
# ## Descent
#
# A step against the gradient lowers the loss. Repeat, and that is training.

# %%
losses = []
for _ in range(100):
    weight.grad = None
    loss = loss_of(weight)
    loss.backward()
    with torch.no_grad():
        weight -= 0.5 * weight.grad
    losses.append(loss.item())
print(f"from {losses[0]:.2f} to {losses[-1]:.2f} in 100 steps")

# %% [markdown]
# **Try:** a step of 50 in place of 0.5. The loss leaps about: the slope is only the slope here, and
# says little about places far away. Lesson 7 shows how to see that in a curve.
