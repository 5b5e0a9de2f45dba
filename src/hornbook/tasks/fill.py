"""Fill in hidden words: go on with an encoder's pretraining on texts of one's own, so that it knows
their words before it is fine-tuned (Gururangan et al. 2020, "Don't Stop Pretraining").

    text      the gas|eous cloud shrank          a word is hidden whole, with all of its tokens:
    shown     the [MASK] [MASK] cloud shrank     half a word gives the other half away
    targets       gas    ##eous                  (whole-word masking, Devlin et al., 2019 release)

What is hidden in a text follows from the seed, the text's number and the epoch, and from nothing
else: the validation loss is of the same words every time, and no division into batches, parts or
processes changes anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.data.batching import by_length
from hornbook.data.examples import Document
from hornbook.data.passages import first_texts
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.models.heads import bare_trunk
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import LossSum
from hornbook.tasks.masked_lm import MaskedBatch, MaskedLM, loss_of
from hornbook.tasks.next_sentence import BertPretraining
from hornbook.tasks.room import room
from hornbook.tasks.task import Finding, Metric, Parts, Shown

WINDOW = 128  # tokens, where nobody says: longer windows teach little more and cost attention
SHARE = 0.15  # of the words
TOKENS_PER_BATCH = 4096  # when nothing is learnt
TEXTS_AT_ONCE = 500  # while tokens still carry their places
MASKS = ("[MASK]", "<mask>")
_FREE = re.compile(r"\[unused\d+\]")


@dataclass(frozen=True, slots=True, eq=False)
class FillItem:
    """A window of a text. tokens: (T,) ids; words: (T,) the word of each, -1 of special tokens.

    number: of the window, from which what is hidden in it follows.
    """

    source: int
    number: int
    tokens: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Guess:
    """A word for a place that was left open. text: the whole with it.

    probability: among all tokens of the vocabulary, as the model gives it.
    """

    token: str
    probability: float
    text: str


class Fill:
    """Hidden words to guess. epoch: which masks the next batches get; 0 for validation."""

    name: ClassVar[str] = "fill"

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_tokens: int = WINDOW,
        share: float = SHARE,
        whole_words: bool = True,
        seed: int = 0,
        fresh: bool = False,
    ) -> None:
        if not 0 < share < 1:
            raise ConfigError(
                f"a share of {share} of the words is to be hidden", hint="It lies between 0 and 1."
            )
        self.tokenizer = tokenizer
        self.max_tokens, self.share, self.whole_words = max_tokens, share, whole_words
        self.seed, self.epoch = seed, 0
        self.fresh = fresh  # whether the head is new
        self.best = "perplexity"  # the loss would choose the same; this is shown before and after
        self.mask = mask_token(tokenizer)
        specials = tokenizer.special_ids
        self._drawn = np.array([i for i in range(tokenizer.vocab_size) if i not in specials])

    # What there is before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """columns: text. A corpus, text files, tables or a labelled set, whose labels are left."""
        corpus, train, validation, notes = first_texts(data, columns, seed=seed)
        return Parts(
            corpus.name,
            list(map(Document, train)),
            list(map(Document, validation)),
            notes=notes,
            source=corpus.source,
            licence=corpus.licence,
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        share: float = SHARE,
        whole_words: bool = True,
        seed: int = 0,
    ) -> Fill:
        return cls(
            bundle.tokenizer,
            max_tokens=room(bundle, max_tokens, usual=WINDOW),
            share=share,
            whole_words=whole_words,
            seed=seed,
            fresh=not isinstance(bundle.model, MaskedLM | BertPretraining),
        )

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Fill:
        """Raises CheckpointError for a card that is not whole."""
        try:
            kept = {name: card[name] for name in ("max_tokens", "share", "whole_words", "seed")}
        except KeyError as error:
            raise CheckpointError(
                f"task.json does not say {error}", hint="Copy or train the model again."
            ) from error
        return cls(bundle.tokenizer, **kept)

    # The task

    def build(self, bundle: Any) -> nn.Module:
        """Raises ConfigError for a model that reads one way only."""
        model = bundle.model
        if isinstance(model, MaskedLM):
            return model
        trunk: Any = bare_trunk(model)
        if not hasattr(trunk, "masked_lm_head"):
            raise ConfigError(
                f"a {type(trunk).__name__} cannot fill gaps: it reads from left to right",
                hint="Name an encoder (BERT, ModernBERT), such as minilm.",
            )
        made = MaskedLM(trunk)
        if isinstance(model, BertPretraining):
            made.head = model.head
        return made

    def items(self, examples: Sequence[Document]) -> list[FillItem]:
        """Windows of at most `max_tokens`, special tokens included; of empty texts none.

        Raises DataError where no text has a token.
        """
        found: list[FillItem] = []
        for start in range(0, len(examples), TEXTS_AT_ONCE):
            texts = [e.full for e in examples[start : start + TEXTS_AT_ONCE]]
            for e in self.tokenizer(texts, max_tokens=self.max_tokens, windows=True):
                words = np.array([-1 if w is None else w for w in e.word_ids], np.int32)
                if (words >= 0).any():
                    tokens = np.array(e.ids, np.int64)
                    found.append(FillItem(start + e.source, len(found), tokens, words))
        if examples and not found:
            raise DataError("no text has a token", hint="Are the texts in another column?")
        return found

    def length(self, item: FillItem) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[FillItem], device: str = "cpu") -> MaskedBatch:
        return self._laid(items, device, self.epoch)[0]

    def loss(self, model: nn.Module, batch: MaskedBatch) -> LossSum:
        """Cross-entropy of the hidden tokens, in nats."""
        return loss_of(model, batch)

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[FillItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """{"nats": ..., "hidden": n, "right": n} of each text, the same words hidden every time."""
        n_examples = max((item.source for item in items), default=-1) + 1
        sums = np.zeros((n_examples, 3))
        done = 0
        for rows in by_length([len(item.tokens) for item in items], TOKENS_PER_BATCH):
            # by_length gives the longest first, the order that they are laid in.
            batch, counts = self._laid([items[i] for i in rows], device, 0)
            logits = model(batch).float()
            nats = F.cross_entropy(logits, batch.targets, reduction="none")
            right = logits.argmax(-1) == batch.targets
            owners = np.repeat([items[i].source for i in rows], counts)
            told = torch.stack([nats, torch.ones_like(nats), right.float()], 1).double()
            np.add.at(sums, owners, told.cpu().numpy())
            done += len(rows)
            if progress:
                progress(done, len(items))
        return [{"nats": row[0], "hidden": int(row[1]), "right": int(row[2])} for row in sums]

    def metrics(
        self, examples: Sequence[Document], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        rows = np.array([[p["nats"], p["hidden"], p["right"]] for p in predictions], np.float64)
        return [
            Metric(
                "perplexity",
                rows,
                of=lambda s: np.exp(s[..., 0] / np.maximum(s[..., 1], 1)),
                higher_is_better=False,
            ),
            Metric("hidden_accuracy", rows, of=lambda s: s[..., 2] / np.maximum(s[..., 1], 1)),
        ]

    def show(self, item: FillItem) -> list[Shown]:
        shown, hidden = self._hidden(item, self.epoch)
        spelled = self.tokenizer.spelled
        return [
            Shown(spelled(int(s)), spelled(int(t)) if h else "")
            for s, t, h in zip(shown, item.tokens, hidden, strict=True)
        ]

    def check(self, parts: Parts) -> list[Finding]:
        if not self.fresh:
            return []
        return [
            Finding(
                "head-is-new",
                "warn",
                "the model's file has no head for hidden words: one is made",
                "The perplexity before training is a fresh head's, and most of its fall is the "
                "head's learning.",
                "Name a model saved with its masked-LM head, if there is one.",
            )
        ]

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "max_tokens": self.max_tokens,
            "share": self.share,
            "whole_words": self.whole_words,
            "seed": self.seed,
        }

    # Its parts

    def _laid(
        self, items: Sequence[FillItem], device: str, epoch: int
    ) -> tuple[MaskedBatch, list[int]]:
        """A batch, longest first, and how many places are hidden in each of its items."""
        ordered = sorted(items, key=lambda item: -len(item.tokens))
        drawn = [self._hidden(item, epoch) for item in ordered]
        shown = np.concatenate([tokens for tokens, _ in drawn])
        hidden = np.concatenate([places for _, places in drawn])
        tokens = np.concatenate([item.tokens for item in ordered])
        places = np.flatnonzero(hidden)
        batch = MaskedBatch(
            torch.from_numpy(shown).to(device),
            Ragged([len(item.tokens) for item in ordered], device),
            torch.from_numpy(places).to(device),
            torch.from_numpy(tokens[places]).to(device),
        )
        return batch, [int(places.sum()) for _, places in drawn]

    def _hidden(self, item: FillItem, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens (T,) as the model sees them, and where (T,) something is to be guessed.

        Of the hidden, 80 % become the mask, 10 % a random token, 10 % stay (Devlin et al.,
        appendix A.1). One word at least is hidden.
        """
        rng = np.random.default_rng([self.seed, epoch, item.number])
        candidates = item.words >= 0
        # A window's words are numbered on from the window before.
        units = (
            item.words if self.whole_words else np.where(candidates, np.arange(len(candidates)), -1)
        )
        _, unit = np.unique(units[candidates], return_inverse=True)
        chance = rng.random(unit.max() + 1)
        chosen = chance < max(self.share, chance.min() + 1e-12)
        hidden = np.zeros(len(item.tokens), bool)
        hidden[candidates] = chosen[unit]
        fate = rng.random(len(item.tokens))
        random = rng.choice(self._drawn, len(item.tokens))
        shown = np.where(hidden & (fate < 0.8), self.mask, item.tokens)
        return np.where(hidden & (fate >= 0.9), random, shown), hidden


def mask_token(tokenizer: Any) -> int:
    """The token that stands for a hidden one. Raises ConfigError for a vocabulary without it."""
    found = (tokenizer.rust.token_to_id(token) for token in MASKS)
    token = next((i for i in found if i is not None), None)
    if token is None:
        raise ConfigError(
            f"the vocabulary has no {' or '.join(MASKS)}",
            hint="Name an encoder that was pretrained on hidden words, such as minilm.",
        )
    return token


@torch.inference_mode()
def guesses(model: nn.Module, tokenizer: Any, text: str, *, k: int = 5) -> list[list[Guess]]:
    """The k likeliest tokens for each place of [MASK] (or ___) in a text, the likeliest first.

    Special tokens ([SEP], [PAD]) and those held free ([unused7]) fill no place and are left out;
    what the model gives them is not shared among the others. Fewer than k where the vocabulary has
    no more. Raises DataError for a text without such a place.
    """
    mask = mask_token(tokenizer)
    spelled = tokenizer.tokens[mask]
    text = text.replace("___", spelled)
    (ids,) = tokenizer.encode([text])
    tokens = torch.tensor(ids)
    places = (tokens == mask).nonzero().squeeze(1)
    if not len(places):
        raise DataError(
            f"no place is left open in '{text[:60]}'", hint=f"Write {spelled} or ___ for the word."
        )
    batch = MaskedBatch(tokens, Ragged([len(ids)]), places, tokens[places])
    shares = model.eval()(batch).float().softmax(-1)
    no_words = _no_words(tokenizer)
    shares[:, no_words] = -1.0
    top = shares.topk(min(k, tokenizer.vocab_size - len(no_words)))
    return [
        [
            Guess(
                tokenizer.spelled(int(i)).strip(), float(p), _with(text, spelled, n, tokenizer, i)
            )
            for i, p in zip(row_i, row_p, strict=True)
        ]
        for n, (row_i, row_p) in enumerate(zip(top.indices, top.values, strict=True))
    ]


def _no_words(tokenizer: Any) -> list[int]:
    """Tokens that stand for no text: special ones, and the places that BERT's vocabulary holds
    free."""
    free = (i for i, token in enumerate(tokenizer.tokens) if _FREE.fullmatch(token))
    return sorted({*tokenizer.special_ids, *free})


def _with(text: str, spelled: str, n: int, tokenizer: Any, token: Tensor) -> str:
    """The text with a token in the n-th open place."""
    parts = text.split(spelled)
    word = tokenizer.spelled(int(token)).strip()
    return spelled.join(parts[: n + 1]) + word + spelled.join(parts[n + 1 :])
