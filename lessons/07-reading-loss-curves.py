# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 7. Reading loss curves
#
# Training says little while it runs: two numbers, the loss on the text it learns from and the loss
# on text it has not seen. Their shapes tell what is wrong, if one has seen the shapes before. So
# here are six, each made on purpose with the same small GPT, and each read by the same function.
# It all runs in a quarter of a minute.

# %%
import math
import random

import torch

from hornbook.evaluation.curves import read_curves
from hornbook.models import ngram
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import cross_entropy_sum
from hornbook.records import CurveReading, EvaluationRecord, Metrics, StepRecord

# %% [markdown]
# Text by rule: little sentences, so that there is something to learn and no end of it.

# %%
rng = random.Random(0)
WHO = ["the cat", "a dog", "my aunt", "the old king"]
DOES = ["sees", "paints", "forgets"]
HOW = ["slowly", "at noon", "in the rain"]


def sentences(n: int) -> str:
    picked = (f"{rng.choice(WHO)} {rng.choice(DOES)} {rng.choice(WHO)} {rng.choice(HOW)}. "
              for _ in range(n))  # fmt: skip
    return "".join(picked)


ALPHABET = sorted(set(sentences(2000)))
V, CONTEXT = len(ALPHABET), 32


def encode(text: str) -> torch.Tensor:
    return torch.tensor([ALPHABET.index(character) for character in text])


much, unseen = encode(sentences(8000)), encode(sentences(600))
little = much[:300]

# %% [markdown]
# The referee first: what does counting reach on the unseen text? A model that does worse than that
# has not begun; one that does far better on a text like this has seen it.

# %%
counted = ngram.fit(much.numpy(), V, max_order=5)
referee = float(counted.losses(unseen.numpy()).mean())
print(f"{V} characters: an even guess costs {math.log(V):.3f}, counting {referee:.3f}")

# %% [markdown]
# A run: 160 steps, an evaluation every 16. The rate falls to nothing along a straight line unless
# told otherwise.


# %%
def train(
    text: torch.Tensor,
    validation: torch.Tensor,
    lr: float,
    *,
    n_steps: int = 160,
    falls: bool = True,
    n_rows: int = 12,
    d_model: int = 32,
) -> Metrics:
    torch.manual_seed(1)
    model = GPT(GPTConfig(V, CONTEXT, n_layers=2, n_heads=4, d_model=d_model, d_ff=4 * d_model))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)

    def loss_on(corpus: torch.Tensor, n: int, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        starts = torch.randint(0, len(corpus) - CONTEXT, (n,), generator=generator)
        rows = torch.stack([corpus[i : i + CONTEXT + 1] for i in starts])
        layout = Ragged([CONTEXT] * n)
        logits = model.logits(model(rows[:, :-1].flatten(), layout))
        return cross_entropy_sum(logits, rows[:, 1:].flatten()).total / (n * CONTEXT)

    steps, evaluations = [], []
    for i in range(1, n_steps + 1):
        rate = lr * (1 - (i - 1) / n_steps if falls else 1)
        optimizer.param_groups[0]["lr"] = rate
        loss = loss_on(text, n_rows, seed=i)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        at = {"step": i, "tokens": i * n_rows * CONTEXT, "seconds": float(i)}
        steps.append(StepRecord(**at, loss=loss.item(), lr=rate))
        if i % 16 == 0:
            with torch.no_grad():
                losses = [loss_on(corpus, 160, seed=0).item() for corpus in (text, validation)]
            evaluations.append(
                EvaluationRecord(**at, train_loss=losses[0], validation_loss=losses[1])
            )
    return Metrics(steps=steps, evaluations=evaluations)


readings: dict[str, CurveReading] = {}


def show(name: str, metrics: Metrics) -> None:
    readings[name] = reading = read_curves(metrics, vocab_size=V, counting=referee)
    for kind in ("train_loss", "validation_loss"):
        values = [getattr(e, kind) for e in metrics.evaluations]
        print(f"{kind[:-5]:>11}", " ".join(f"{value:.2f}" for value in values))
    print(f"{name}: {reading.pattern}. {reading.says}\n   try: {reading.advice[0]}")


# %% [markdown]
# ## Healthy
#
# Both curves fall together and flatten as the rate falls. Validation lies a little above training
# and ends near the referee or below.

# %%
show("as it should be", train(much, unseen, 1.5e-2, n_steps=800))

# %% [markdown]
# ## Overfitting
#
# The same model and 300 characters. Training goes on down; validation stays behind, then turns and
# rises. From there on the model learns this text by heart. The best checkpoint is the lowest one.

# %%
show("little text", train(little, unseen, 1.5e-2))

# %% [markdown]
# ## A leak
#
# The validation text was put into the training text, whose other half is harder: random letters.
# Validation below training is a pleasure that one should not trust: text that has not been seen is
# not easier than text that has.

# %%
hard = encode("".join(rng.choices(ALPHABET, k=len(unseen))))
show(
    "validation among the training text",
    train(torch.cat([unseen, hard]), unseen, 1.5e-2, n_steps=128),
)

# %% [markdown]
# ## No learning
#
# A rate ten thousand times too small. The loss stays where guessing stands, and looks calm.

# %%
show("a rate of 1e-7", train(much, unseen, 1e-7, n_steps=64))

# %% [markdown]
# ## Divergence
#
# A good start, and then a rate that grows far too large: the loss leaves its lowest and never comes
# back. We join two runs, to have both in one curve.

# %%
good = train(much, unseen, 1.5e-2, n_steps=96)
bad = train(much, unseen, 3.0, n_steps=64, falls=False)
later = [s.model_copy(update={"step": s.step + 96}) for s in bad.steps]
after = [e.model_copy(update={"step": e.step + 96}) for e in bad.evaluations]
joined = Metrics(steps=[*good.steps, *later], evaluations=[*good.evaluations, *after])
show("a rate of 3 from the middle on", joined)

# %% [markdown]
# ## Stopped too early
#
# Still falling when it ends. Nothing is wrong but the budget.

# %%
show("a small rate and few steps", train(much, unseen, 3e-3, n_steps=80, falls=False))

# %% [markdown]
# `hornbook train` asks the same of every run and writes the answer into its report.
#
# **Try:** `little` with `d_model=16`. The small model overfits later: it has less room to learn a
# text by heart. Then 3,000 characters in place of 300. Which of the two helps more?
