# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # 6. Tokenizers: what a model sees in place of text
#
# A model takes numbers. Give it one a character, and every sentence is long; give it one a word,
# and most words of tomorrow are unknown. In between lie the pieces of words that all language
# models use now. Three ways to find them stand on a page each; here they meet one text. It is made
# of stems and endings, so that we know what there is to find. Runs in a few seconds.

# %%
import random

from hornbook.text import bpe, character, unigram, word, wordpiece
from hornbook.text.measure import measure

rng = random.Random(0)
STEMS = ["walk", "talk", "jump", "paint", "print", "start", "count", "point", "plant", "help"]
ENDINGS = ["", "s", "ed", "ing", "er", "ers"]


def sentences(n: int, stems: list[str]) -> list[str]:
    return [
        " ".join(rng.choice(stems) + rng.choice(ENDINGS) for _ in range(8)) + "." for _ in range(n)
    ]


texts = sentences(300, STEMS)
print(texts[0])

# %% [markdown]
# ## Characters and words
#
# Characters: a tiny vocabulary, and sequences five times as long as with words. Words: short
# sequences, until one comes that was not there. `�` is all that a word vocabulary can say then.

# %%
characters, words = character.train(texts), word.train(texts, 200)
for page in (characters, words):
    print(f"{len(page.tokens)} tokens; {page.decode(page.encode('walkers talk of bread.'))!r}")

# %% [markdown]
# ## Byte-pair encoding
#
# Begin with the 256 bytes, so that nothing is unknown, and join the pair that occurs most often;
# then look again. "Ġ" is the space before a word. The first joins are letters that often meet, and
# soon there are stems and endings, though nobody said what those are.

# %%
pairs = bpe.train(texts, 320)
joined = [pairs.tokens[left] + "+" + pairs.tokens[right] for left, right in pairs.merges]
print(" ".join(joined[:12]), "...", " ".join(joined[-6:]))


def cut(page, text):
    """The tokens of a text, as the vocabulary spells them."""
    tokenizer = page.tokenizer()
    return [tokenizer.tokens[i] for i in page.encode(text)]


# %% [markdown]
# A word that never occurred is cut into pieces that did:

# %%
print(cut(pairs, "planter counters painting"), cut(pairs, "unhelped"))

# %% [markdown]
# ## WordPiece
#
# It joins the pair whose parts are rare without each other: count(ab) / (count(a) count(b)). That
# makes for other pieces in the same text. "##" marks what goes on with a word.

# %%
scored = wordpiece.train(texts, 90)
print(cut(scored, "planter counters painting"))

# %% [markdown]
# ## Unigram
#
# The other way round: begin with every substring that occurs twice and take out, again and again,
# what the text misses least. Two quantities move against each other: nats to tell the text, and
# nats to spell out the vocabulary. Their sum falls as long as what goes was worth less than its
# spelling; in the last rounds here it rises, as stems and endings have to go.

# %%
rounds: list[unigram.Round] = []
likely = unigram.train(texts, 300, listen=rounds.append)
for r in rounds:
    total = r.text_nats + r.vocabulary_nats
    print(f"{r.n_pieces:5} pieces: {r.text_nats:8,.0f} + {r.vocabulary_nats:7,.0f} = {total:8,.0f}")
print(cut(likely, "planter counters painting"), "with 300 tokens")
print(cut(unigram.train(texts, 400), "planter counters painting"), "with 400 tokens")

# %% [markdown]
# A way to cut has a probability, the product of its pieces'. Viterbi finds the best without trying
# all; for a short word we can try them.

# %%
score, best = unigram.best_cut(unigram.cuts("Ġpainters", likely.log_p), likely.log_p)
print(f"{best}: {score:.2f} nats")

# %% [markdown]
# ## Which is best?
#
# Measured on sentences that none of them has seen, one stem in eleven of them new. Words look best
# by length, and say "unknown" where it matters most. Among the others, the length of what a model
# has to read is the first thing to look at, beside the rows that a large vocabulary costs it
# (`hornbook tokenizer compare FILE` for your own text).

# %%
unseen = sentences(40, [*STEMS, "bread"])
pages = {
    "character": characters,
    "word": words,
    "bpe": pairs,
    "wordpiece": scored,
    "unigram": likely,
}
measures = {name: measure(page.tokenizer(), unseen) for name, page in pages.items()}
for name, m in measures.items():
    print(
        f"{name:10}{m.vocab_size:5} tokens, {m.tokens_per_word:5.2f} a word, "
        f"{m.used_share:5.0%} of them used, {m.unknown_share:6.1%} unknown"
    )

# %% [markdown]
# Each page writes a `tokenizer.json`, which the Rust library `tokenizers` opens: same ids, many
# times the speed. Everything else in hornbook runs on that.

# %%
fast = pairs.tokenizer()
assert fast.encode(unseen) == [pairs.encode(text) for text in unseen]
encoding = fast(["painters unhelped"])[0]
for token, (start, end) in zip(encoding.tokens, encoding.offsets):
    print(f"{token:10} characters {start}–{end}: {'painters unhelped'[start:end]!r}")

# %% [markdown]
# **Try:** `bpe.train(texts, 1000)`. How many tokens does the text support, and what are the last
# ones? What has BPE done to words by then, and would unigram have done it?
