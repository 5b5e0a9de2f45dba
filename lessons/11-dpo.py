# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 11. DPO by hand
#
# A model that was taught to answer has seen good answers and bad ones, and gives both. Showing it
# more good ones helps a little; saying of two answers which is better helps more. Direct Preference
# Optimization (Rafailov et al. 2023) needs nothing but that: no judge, no game, one line of loss.
# We work it out with a pencil first, then let a very small model learn manners from it.

# %%
import copy
import math

import torch
import torch.nn.functional as F

from hornbook.adapters import lora
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.preference.encoding import Item
from hornbook.preference.losses import LogProbs, dpo, ipo, margins
from hornbook.tasks.branches import branch_log_probs, lay

# %% [markdown]
# ## A world of twelve things
#
# Each thing is in one of four places. Asked for it, one says where it is, kindly or rudely. Whole
# words are tokens here.

# %%
THINGS = [
    "book",
    "lamp",
    "ring",
    "coat",
    "fish",
    "drum",
    "knife",
    "hat",
    "bell",
    "ship",
    "rose",
    "key",
]
PLACES = ["box", "attic", "garden", "cellar"]
WORDS = ["<end>", "where", "is", "the", "?", "in", "dear", "fool", *THINGS, *PLACES]
ID = {word: i for i, word in enumerate(WORDS)}
PLACE_OF = {thing: PLACES[i % 4] for i, thing in enumerate(THINGS)}


def ids(text: str) -> tuple[int, ...]:
    return tuple(ID[word] for word in text.split())


def item(number: int, thing: str) -> Item:
    """The question, and two answers: the first is the better one."""
    place = PLACE_OF[thing]
    kind, rude = f"in the {place} dear <end>", f"in the {place} fool <end>"
    return Item(number, ids(f"where is the {thing} ?"), (ids(kind), ids(rude)))


pairs = [item(i, thing) for i, thing in enumerate(THINGS)]

# %% [markdown]
# An item is a prompt with several answers. They are laid end to end, the prompt once, and each
# answer sees the prompt and itself:
#
#     where is the book ? | in the box dear <end> | in the box fool <end>
#
# First the model learns the world: it is shown both answers to everything, as often one as the
# other. So it should end at a loss of log 2 for the word in which the answers differ, and 0 for all
# else.

# %%
torch.manual_seed(0)
model = Llama(
    LlamaConfig(len(WORDS), context_length=16, n_layers=2, n_heads=2, d_model=32, d_ff=64)
)
everything = lay(pairs)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for _step in range(150):
    loss = -branch_log_probs(model, everything).mean()  # of an answer, all its tokens together
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
learnt = loss.item()
print(f"{learnt:.3f} nats an answer; log 2 is {math.log(2):.3f}")

# %% [markdown]
# ## The pencil
#
# How likely is an answer? As likely as its words, one after the other: probabilities multiply, so
# logarithms add up. Take the first question.


# %%
def log_probs(model, items) -> LogProbs:
    found = branch_log_probs(model, lay(items))
    return LogProbs(found[0::2], found[1::2])


before = log_probs(model, pairs[:1])
print(f"kind {before.chosen.item():.3f}, rude {before.rejected.item():.3f}")

# %% [markdown]
# The model that learns is called the policy, the one it started as the reference. What counts is
# by how much more the policy prefers the better answer than the reference did:
#
#     margin = (policy(kind) - reference(kind)) - (policy(rude) - reference(rude))
#     loss   = -log sigmoid(beta * margin)
#
# Say the policy has become surer of the kind answer by .5, and of the rude one less sure by 1.

# %%
later = LogProbs(before.chosen + 0.5, before.rejected - 1.0)
margin = margins(later, before).item()
by_hand = math.log(1 + math.exp(-0.1 * margin))
ours = dpo(later, before, beta=0.1).item()
print(f"margin {margin:.2f}, loss {ours:.5f}, by hand {by_hand:.5f}")
assert abs(ours - by_hand) < 1e-5 and abs(margin - 1.5) < 1e-5

# %% [markdown]
# At the start policy and reference are the same: the margin is 0 and the loss log 2, whatever the
# answers. The slope is -beta * sigmoid(-beta * margin): half of beta at first, and nothing any more
# for a pair that has been learnt. Measured with a small step:

# %%
step = 1e-2
nudged = LogProbs(before.chosen + step, before.rejected)
slope = ((dpo(nudged, before, beta=0.1) - dpo(before, before, beta=0.1)) / step).item()
print(f"slope {slope:.4f}; expected {-0.1 / 2}")

# %% [markdown]
# ## Learning manners
#
# The reference is a copy that is not changed. We learn from eight questions and look at the other
# four: manners should carry over. Plain gradient descent, so that a pair that has been learnt,
# whose slope is nearly 0, no longer moves anything.

# %%
known, unseen = pairs[:8], pairs[8:]
with torch.no_grad():
    reference, reference_unseen = log_probs(model, known), log_probs(model, unseen)


def align(loss_of, optimizer, policy, n_steps: int = 40) -> None:
    for _ in range(n_steps):
        loss = loss_of(log_probs(policy, known), reference).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


policy = copy.deepcopy(model)
gentle = torch.optim.SGD(policy.parameters(), lr=0.05)
align(lambda ours, theirs: dpo(ours, theirs, beta=0.5), gentle, policy)


@torch.no_grad()
def report(policy) -> dict[str, float]:
    after = log_probs(policy, unseen)
    gained = margins(after, reference_unseen)
    return {
        "accuracy": (after.chosen > after.rejected).float().mean().item(),
        "margin": gained.mean().item(),
        "kind": after.chosen.exp().mean().item(),
    }


reached = report(policy)
print(f"kind answers had {reference_unseen.chosen.exp().mean():.2f} of all probability")
print("of unseen questions:", {name: round(value, 3) for name, value in reached.items()})

# %% [markdown]
# ## What it cost
#
# A model that is only pushed may forget what it knew. So one watches how far it has gone from the
# reference: the Kullback-Leibler divergence, in nats an answer. Draw answers from the policy and
# add up, word by word, how much its distribution differs from the reference's.


# %%
@torch.no_grad()
def divergence(policy, base, *, n_draws: int = 8) -> tuple[float, float]:
    """KL of an answer to an unseen question, and the share of answers that name the right place."""
    rng, total, right = torch.Generator().manual_seed(0), 0.0, 0
    for drawn in unseen * n_draws:
        answer: list[int] = []
        while len(answer) < 8 and (not answer or answer[-1] != ID["<end>"]):
            text = Item(0, (*drawn.stem, *answer), ((0,),))
            laid = lay([text])
            at = laid.places
            ours = F.log_softmax(policy.logits(policy(laid.tokens, laid.layout)[at]), -1)
            theirs = F.log_softmax(base.logits(base(laid.tokens, laid.layout)[at]), -1)
            total += float((ours.exp() * (ours - theirs)).sum())
            answer.append(int(torch.multinomial(ours.exp()[0], 1, generator=rng)))
        right += answer[:3] == list(drawn.branches[0][:3])
    return total / len(unseen * n_draws), right / len(unseen * n_draws)


kl, right = divergence(policy, model)
print(f"KL {kl:.2f} nats an answer; {right:.0%} name the right place")

# %% [markdown]
# To go from "one or the other" to "always the kind one" takes log 2 = .69 nats, no less. That is
# what it took: not a word of what the model knew was paid for it.
#
# But DPO pulls as long as the margin can grow, and the margin alone. Pulled hard, with Adam, which
# makes large steps of small slopes, both answers may become unlikely, if only the rude one more so:

# %%
pulled = copy.deepcopy(model)
hard = torch.optim.AdamW(pulled.parameters(), lr=0.01)
align(lambda ours, theirs: dpo(ours, theirs, beta=0.1), hard, pulled)
pulled_kl, pulled_right = divergence(pulled, model)
pulled_reached = report(pulled)
print("pulled hard:", {name: round(value, 3) for name, value in pulled_reached.items()})
print(f"KL {pulled_kl:.2f} nats an answer; {pulled_right:.0%} name the right place")

# %% [markdown]
# It still prefers the kind answer of any two: accuracy and margin, which most programs show alone,
# are as good as before or better. Only the divergence, and a look at what it says, tell.
#
# IPO (Azar et al. 2023) asks for a margin and no more: 1 / (2 tau) nats a word. Here that is 1, and
# an answer has five words.

# %%
bounded = copy.deepcopy(model)
n = torch.full((len(known),), 5)
align(
    lambda ours, theirs: ipo(ours.per_token(n, n), theirs.per_token(n, n), tau=0.5),
    torch.optim.SGD(bounded.parameters(), lr=0.05),
    bounded,
)
bounded_margin = report(bounded)["margin"] / 5
print(f"margin a word {bounded_margin:.2f}; asked for 1")

# %% [markdown]
# ## A reference for nothing
#
# Two models in memory? An adapter (lesson 9) is a change beside frozen weights: switched off, it
# leaves the model that we started from, to the last bit. That is the reference.

# %%
adapted = copy.deepcopy(model)
lora.attach(adapted, rank=4)
for parameter in lora.own_parameters(adapted).values():
    torch.nn.init.normal_(parameter)
with torch.no_grad():
    assert not torch.equal(log_probs(adapted, known).chosen, reference.chosen)
    with lora.switched_off(adapted):
        assert torch.equal(log_probs(adapted, known).chosen, reference.chosen)

# %% [markdown]
# ## On a real model
#
#     hornbook align dpo --model smollm2-135m-instruct --data pairs.json
#
# does the same with LoRA on a model that chats, from a file of prompts, chosen and rejected answers
# ([how to](../docs/how-to/align.md)). It shows accuracy, margin and divergence beside the loss at
# each evaluation, for the reason just seen.
