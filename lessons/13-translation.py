# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 13. Translation
#
# A language model goes on with a text. A translator writes another text, and each of its words
# depends on two things: what it has written so far, and a source in which the word it needs may
# stand anywhere. The Transformer was invented for this (Vaswani et al. 2017). We build a corner of
# German, teach a small encoder-decoder to write it, look at where it looks, search for better texts
# than the greedy ones, and count how good they are.

# %%
import math
import random

import numpy as np
import torch

from hornbook.generation.source_beams import beams_of_sources
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.seq2seq import PairBatch, Seq2Seq, greedy, rectangles, smoothed_loss_of
from hornbook.tasks.writing_metrics import bleu

# %% [markdown]
# ## A corner of German
#
# English says "the" whatever follows. German has to know the noun before it can write the article:
# *der Hund*, *die Katze*, *das Haus*. And who is seen is *den Hund*, so the article depends on the
# verb too. After *dass* the verb goes to the end. No rule is hard; none works word by word.

# %%
NOUNS = {"dog": ("Hund", "m"), "king": ("König", "m"), "cat": ("Katze", "f"), "cow": ("Kuh", "f"),
         "horse": ("Pferd", "n"), "child": ("Kind", "n")}  # fmt: skip
COLOURS = {"red": "rot", "old": "alt", "small": "klein"}
VERBS = {"sees": "sieht", "seeks": "sucht", "likes": "mag"}
ARTICLE = {"m": "der", "f": "die", "n": "das"}


def thing(rng: random.Random, seen: bool) -> tuple[str, str]:
    """A noun with its article and maybe a word on it, in both languages."""
    english = rng.choice(list(NOUNS))
    german, gender = NOUNS[english]
    article = "den" if seen and gender == "m" else ARTICLE[gender]
    if rng.random() < 0.5:
        return f"the {english}", f"{article} {german}"
    colour = rng.choice(list(COLOURS))
    ending = "en" if article == "den" else "e"
    return f"the {colour} {english}", f"{article} {COLOURS[colour]}{ending} {german}"


def sentence(rng: random.Random) -> tuple[str, str]:
    who, wer = thing(rng, seen=False)
    whom, wen = thing(rng, seen=True)
    verb = rng.choice(list(VERBS))
    if rng.random() < 0.5:
        return f"{who} {verb} {whom}", f"{wer} {VERBS[verb]} {wen}"
    return f"he says that {who} {verb} {whom}", f"er sagt dass {wer} {wen} {VERBS[verb]}"


rng = random.Random(0)
everything = list(dict.fromkeys(sentence(rng) for _ in range(1500)))
train, unseen = everything[60:], everything[:60]
for english, german in unseen[:4]:
    print(f"{english:45} {german}")

# %% [markdown]
# Whole words are the tokens, of both languages in one vocabulary. `<end>` ends a text, and begins
# the one that is written.

# %%
WORDS = ["<end>", *sorted({word for pair in everything for text in pair for word in text.split()})]
ID = {word: i for i, word in enumerate(WORDS)}
END = ID["<end>"]


def ids(text: str) -> list[int]:
    return [ID[word] for word in text.split()]


def read(tokens: list[int]) -> str:
    return " ".join(WORDS[token] for token in tokens)


def source(english: str) -> list[int]:
    return [*ids(english), END]


# %% [markdown]
# ## Forcing
#
# While it learns, the decoder isn't given what it wrote but what it should have written, moved by
# one: from `<end>` it guesses the first word, from the first word the second. All guesses of all
# sentences are made at once. The encoder sees the whole source each time.


# %%
def lay(pairs: list[tuple[str, str]]) -> PairBatch:
    """Sources and targets as rows of two rectangles, filled up on the right."""
    sides = ([np.array(source(text)) for text in side] for side in zip(*pairs))
    return rectangles(*sides, start=END)


batch = lay([("the dog sees the cat", "der Hund sieht die Katze")])
print("source ", read(batch.source[0].tolist()))
print("given  ", read(batch.inputs[0].tolist()))
print("guesses", read(batch.targets[0].tolist()))

# %% [markdown]
# ## Learning
#
# Two layers on each side, 48 numbers a word. A tenth of each target is spread over the vocabulary
# (label smoothing): a model that may never be quite sure stays ready to be corrected. The loss can
# then not reach 0; it is compared with the least it can be.

# %%
torch.manual_seed(0)
SMOOTHING = 0.1
model = EncoderDecoder(EncoderDecoderConfig(len(WORDS), 24, 2, 4, 48, 96))
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95))
whole = Seq2Seq(model)
n_steps = 160
for step in range(n_steps):
    for group in optimizer.param_groups:
        group["lr"] = 4e-3 * min((step + 1) / 20, (n_steps - step) / (n_steps - 20))
    loss = smoothed_loss_of(whole, lay(rng.sample(train, 48)), SMOOTHING)
    mean = loss.total / loss.n_targets
    optimizer.zero_grad()
    mean.backward()
    optimizer.step()
    if step % 40 == 39:
        print(f"step {step + 1:3d}: {mean.item():.3f} nats a word")

share = SMOOTHING / len(WORDS)
sure = 1 - SMOOTHING + share
least = -sure * math.log(sure) - (len(WORDS) - 1) * share * math.log(share)
print(f"the least there can be: {least:.3f}")

# %% [markdown]
# On sentences it never saw, the likeliest word each time:

# %%
model.eval()
sources = [source(english) for english, _ in unseen]
written = [read(t) for t in greedy(model, sources, start=END, end=END, max_tokens=16)]
right = sum(text == german for text, (_, german) in zip(written, unseen))
print(f"{right} of {len(unseen)} sentences are right to the last letter")

# %% [markdown]
# ## Where it looks
#
# Each word that is written asks all words of the source; softmax over the answers says where it
# looks. Here are the looks of the first layer, its heads averaged: each row is the place where a
# German word is about to be written, and what is looked at most there. The clearest is the one
# before *der*: only the nouns say which article it has to be.

# %%
english, german = (
    "he says that the old king seeks the dog",
    "er sagt dass der alte König den Hund sucht",
)
seen, given = source(english), [END, *ids(german)]


@torch.no_grad()
def looks() -> torch.Tensor:
    """(German words, English words), each row sums to 1."""
    layouts = Ragged([len(given)]), Ragged([len(seen)])
    memory = model.encode(torch.tensor(seen), layouts[1])
    x = model._embed(torch.tensor(given), layouts[0])
    block = model.decoder[0]
    x = block.norm_1(x + block.attention(x, layouts[0]))
    attention = block.source_attention
    q = attention.q(x).unflatten(-1, (attention.n_heads, -1)).transpose(0, 1)  # (H, T, D)
    k = attention.read(memory)[0].transpose(0, 1)  # (H, S, D)
    return (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1).mean(0)


for word, row in zip([*german.split(), "<end>"], looks()):
    shares, places = row.topk(2)
    told = ", ".join(f"{WORDS[seen[place]]} {share:.2f}" for share, place in zip(shares, places))
    print(f"{word:6} <- {told}")

# %% [markdown]
# ## Searching
#
# The likeliest first word need not begin the likeliest sentence. A beam search keeps the best few
# beginnings at each length. Texts of unequal length can't be compared by their probability, which
# each further word makes smaller; so it is divided by the length to some power. With power 0 the
# short win, with a large one the long.
#
# A model this sure of itself has little to search for, so we ask for a sentence that means nothing.

# %%
strange = source("the that he king sees sees")
for power in (0.0, 1.0, 3.0):
    (found,) = beams_of_sources(
        model, [strange], start=END, end=END, max_tokens=16, n_beams=4, length_power=power
    )
    best = found[0]
    print(f"power {power}: {read(list(best.tokens)):40} log-probability {best.log_probability:.2f}")

searched = [
    read(list(beams[0].tokens))
    for beams in beams_of_sources(model, sources, start=END, end=END, max_tokens=16, n_beams=4)
]
n_other = sum(s != w for s, w in zip(searched, written))
print(f"\n{n_other} of {len(unseen)} unseen sentences come out otherwise than greedily")

# %% [markdown]
# ## Counting how good it is
#
# BLEU (Papineni et al. 2002) counts words that also stand in the reference, then pairs of words,
# threes and fours; takes the geometric mean of the four shares; and makes texts that are shorter
# than their references pay. By hand, for one sentence with one wrong word:


# %%
def by_hand(text: str, reference: str) -> float:
    """BLEU of one text, without smoothing."""
    ours, theirs = text.split(), reference.split()
    logs = []
    for n in range(1, 5):
        grams = [tuple(ours[i : i + n]) for i in range(len(ours) - n + 1)]
        wanted = [tuple(theirs[i : i + n]) for i in range(len(theirs) - n + 1)]
        hits = sum(min(grams.count(g), wanted.count(g)) for g in set(grams))
        print(f"  {n} words: {hits} of {len(grams)}")
        logs.append(math.log(hits / len(grams)))
    short = min(0.0, 1 - len(theirs) / len(ours))
    return 100 * math.exp(short + sum(logs) / 4)


text = "er sagt dass der alte König die Hund sucht"
hand = by_hand(text, german)
library = bleu([text], [(german,)]).value
print(f"by hand {hand:.2f}, sacreBLEU {library:.2f}")

# %% [markdown]
# Of a whole test part the counts are added up first, and the shares taken once. That is why a
# metric here keeps each sentence's counts: any resample of the sentences gives its BLEU by a sum,
# and 2,000 resamples give an interval.

# %%
metric = bleu(searched, [(german,) for _, german in unseen])
print(f"BLEU on {len(unseen)} unseen sentences: {metric.value:.1f}")
print(metric.note)

# %% [markdown]
# The same on real sentences, 29,000 captions of photographs: `hornbook train seq2seq --data
# multi30k --source en --target de --time 38m` reaches about 36 with 5 beams on two cores
# (`benchmarks/translation.py`).
