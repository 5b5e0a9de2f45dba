# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 9. LoRA from nothing
#
# Fine-tuning moves every weight of a model: a copy of the whole model for each task, and its
# gradients and moments in memory while it learns. LoRA (Hu et al. 2021) leaves the model as it is
# and learns a small change beside each matrix. We build it in a few lines, see why it works, and
# find the same thing in `hornbook.adapters`.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.layout import Ragged
from hornbook.quantization.four_bits import FourBitLinear, levels

torch.manual_seed(0)

# %% [markdown]
# ## A change of low rank
#
# A matrix W has d_out x d_in numbers. Its change, B A, is made of two thin ones: B has r columns
# and A has r rows. All that such a change can say goes through r numbers.

# %%
d, r = 128, 4
A, B = torch.randn(r, d) / d**0.5, torch.zeros(d, r)
print(f"W has {d * d:,} numbers, B and A together {A.numel() + B.numel():,}")
assert torch.linalg.matrix_rank(torch.randn(d, r) @ A) == r

# %% [markdown]
# B starts as zeros, so that at first nothing changes: B A = 0. A must not be zeros as well, or
# neither would ever move: the gradient of each is multiplied by the other.

# %%


class LowRank(nn.Module):
    """A frozen layer and its change: W x + alpha / r B A x."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))
        self.scale = alpha / rank

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.scale * F.linear(F.linear(x, self.a), self.b)

    def merged(self) -> torch.Tensor:
        return self.base.weight + self.scale * self.b @ self.a


# %% [markdown]
# Two products with thin matrices, not one with B A: that would be as much work as W itself. Only
# when all is learnt is B A made, once, and added to W. Then the layer is a plain one again and
# nothing is slower.
#
# ## Does a low rank suffice?
#
# A layer has learnt one thing; the new task wants it to be another whose difference has rank 2.
# How near do changes of rank 1, 2 and 4 come?

# %%
x = torch.randn(256, d)
base = nn.Linear(d, d, bias=False)
wanted = base.weight.detach() + torch.randn(d, 2) @ torch.randn(2, d) / d
left = {}
for rank in (1, 2, 4):
    layer = LowRank(base, rank, alpha=2 * rank)
    fresh = layer(x)
    assert torch.equal(fresh, base(x))
    optimizer = torch.optim.Adam([layer.a, layer.b], lr=0.03)
    for _ in range(80):
        loss = F.mse_loss(layer(x), x @ wanted.T)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    left[rank] = loss.item() / F.mse_loss(fresh, x @ wanted.T).item()
    print(f"rank {rank}: {left[rank]:.1%} of the error is left")
assert left[1] > 0.2 and left[2] < 0.01 and left[4] < 0.01
assert torch.allclose(x @ layer.merged().T, layer(x), atol=1e-4)

# %% [markdown]
# A rank that is too small can't say it; one that is too large costs little and does no harm. What
# fine-tuning changes has been found to be of low rank, which is why 8 or 16 are usual.
#
# ## In a model
#
# First a model that can do something: a GPT that answers each letter with the next in the alphabet.

# %%
config = GPTConfig(vocab_size=26, context_length=16, n_layers=2, n_heads=4, d_model=64, d_ff=128)
gpt = GPT(config)
layout = Ragged([16] * 4)


def learn(model: GPT, shift: int, n_steps: int, rate: float) -> None:
    """Teach a model to answer each letter with one `shift` places further on."""
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=rate)
    for _ in range(n_steps):
        letters = torch.randint(26, (64,))
        loss = F.cross_entropy(model.logits(model(letters, layout)), (letters + shift) % 26)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def right(model: GPT, shift: int) -> float:
    letters = torch.arange(64) % 26
    said = model.logits(model(letters, layout)).argmax(-1)
    return (said == (letters + shift) % 26).float().mean().item()


learn(gpt, shift=1, n_steps=80, rate=0.003)
print(f"the base: {right(gpt, 1):.0%} right")
assert right(gpt, 1) > 0.9

# %% [markdown]
# `prepare` puts a change beside every linear layer of the blocks and freezes all else. Queries,
# keys and values lie in one matrix there; each gets a change of its own.

# %%
letters = torch.arange(64) % 26
before = gpt(letters, layout).detach()
prepared = prepare(gpt, "lora", rank=8)
print(f"{prepared.n_trainable:,} of {prepared.n_total:,} numbers learn, beside:")
print(*prepared.adapted[:4], sep="\n")
assert torch.equal(gpt(letters, layout), before)
qkv = gpt.blocks[0].attention.qkv.change
print("changes in the first qkv:", [part.name for part in qkv.parts], tuple(qkv.a.shape))

# %% [markdown]
# Now it learns to go back instead. What it could before is still in it, to the last bit. Another
# adapter on the same base learns another task; which of them speaks is said call by call.

# %%
learn(gpt, shift=-1, n_steps=80, rate=0.01)
lora.attach(gpt, rank=8, adapter="two on")
learn(gpt, shift=2, n_steps=80, rate=0.01)
shares = {}
for adapter, shift in (("default", -1), ("two on", 2)):
    with lora.using(gpt, adapter):
        shares[adapter] = right(gpt, shift)
        print(f"{adapter:8} {shift:+d}: {shares[adapter]:.0%} right")
with lora.switched_off(gpt):
    print(f"base     +1: {right(gpt, 1):.0%} right")
    assert torch.equal(gpt(letters, layout), before)
assert min(shares.values()) > 0.9

# %% [markdown]
# Switched off, it is the reference model that preference learning asks for (lesson 11), at no cost.
# `lora.merge(gpt)` ends all this: plain matrices with the change inside.
#
# ## The base in 4 bits
#
# A base that only stands there needn't be exact. QLoRA (Dettmers et al. 2023) keeps it in 4 bits:
# sixteen values at the quantiles of a normal distribution, times the largest weight of a block of
# 64, so that each value is used about as often as any other.

# %%
print("levels:", [round(v, 2) for v in levels().tolist()])
plain = nn.Linear(512, 512)
small = FourBitLinear(plain)
n_bytes = sum(b.numel() * b.element_size() for b in small.buffers())
error = (small.weight - plain.weight).std() / plain.weight.std()
print(f"{n_bytes / plain.weight.numel() * 8:.2f} bits a weight, {error.item():.1%} away")
assert n_bytes < plain.weight.nbytes / 7

# %% [markdown]
# Its floats exist for some rows at a time, forth and back, and the gradient passes through to the
# changes beside it: `prepare(model, "qlora")`. With `read=`, something for the model to read first,
# what rounding costs most is put back as a product of rank 8. It is slower, as every step unpacks
# the matrices; it is for models that would not fit.
#
# On the command line: `hornbook finetune classify --method lora --set rank=8 ...`; what it leaves
# in `adapter/` opens in peft, and peft's adapters open here.
