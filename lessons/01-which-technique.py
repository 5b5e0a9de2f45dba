# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 1. Which technique works on my text?
#
# You have texts with labels. Before a better model, three questions: what would guessing score, how
# far apart are two techniques really, and is the data right? This lesson answers them on texts that
# we make ourselves, so that the truth is known. It runs in half a minute.

# %%
import json
import random
import tempfile
from pathlib import Path

import hornbook as hb

# %% [markdown]
# Messages to a help desk: two words of their topic among eight that say nothing. One in ten is then
# filed under a random topic, which is wrong three times in four: nobody can be right on more than
# about 92 % of such labels.

# %%
TOPICS = {
    "account": ["password", "login", "email", "username", "locked", "verify"],
    "billing": ["invoice", "refund", "charged", "payment", "receipt", "price"],
    "delivery": ["parcel", "courier", "late", "address", "arrived", "tracking"],
    "device": ["screen", "battery", "charger", "broken", "boots", "noise"],
}
rng = random.Random(0)
messages, topic_of = [], {}
for _ in range(400):
    topic = filed = rng.choice(list(TOPICS))
    words = rng.choices(TOPICS[topic], k=2) + [f"word{rng.randrange(400)}" for _ in range(8)]
    rng.shuffle(words)
    if rng.random() < 0.1:
        filed = rng.choice(list(TOPICS))
    messages.append((" ".join(words), filed))
    topic_of[" ".join(words)] = topic

# %% [markdown]
# One call: the same splits and the same time for each technique. A fifth of the messages is set
# aside for the test, a tenth of the rest for validation; nothing is chosen on the test.

# %%
folder = Path(tempfile.mkdtemp()) / "messages"
techniques = ["majority", "tfidf-logreg", "tfidf-svm"]
study = hb.compare(messages, techniques=techniques, budget="10s", out=folder)
print(study.leaderboard)

# %% [markdown]
# `majority` is the floor: a score means nothing until one knows what guessing gets. The interval
# says what other test messages might have given. With 80 of them it is wide: a score above .92, the
# ceiling, is luck, and no sign of a good technique. Rows marked `=` cannot be told apart from the
# first, so that the advice takes the cheapest of them.

# %%
print(study.summary.advice)
print(study.recommended.predict(["the courier left my parcel", "charged twice, I want a refund"]))

# %% [markdown]
# The audit, which comes before any fit, lists training texts whose label looks wrong to a model
# that was trained on the others. As we know the truth, we can see how often it is right.

# %%
issues = json.loads((folder / "audit.json").read_text(encoding="utf-8"))["label_issues"]
right = sum(issue["suggested"] == [topic_of[issue["excerpt"]]] for issue in issues)
print(f"{len(issues)} labels look wrong; for {right} of them the suggestion is the true topic")

# %% [markdown]
# **Try:** 4,000 messages in place of 400. The interval shrinks by the root of ten, to a third; the
# score comes nearer to its ceiling, and the ceiling stays where wrong filing put it.
