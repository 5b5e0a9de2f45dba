"""Continued pretraining: a decoder goes on guessing next tokens, of texts of one's own, so that it
knows their words and ways (Gururangan et al. 2020, "Don't Stop Pretraining").

    document   [ b 7 3 9 4 8 e ]     b: what the tokenizer begins texts with, e: the end of a
    windows    [ b 7 3 9 ]           text, where there are such; neither is text itself
                     [ 9 4 8 e ]     each begins with the last token of the one before: to be read,
    targets        7 3 9   4 8 e     not guessed, so that each token is guessed once

Windows of many documents lie end to end without padding, and none sees another. What the model
forgets meanwhile is measured too, on texts of the old kind (`keep`; French 1999, "Catastrophic
forgetting in connectionist networks").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from hornbook.data.batching import by_length
from hornbook.data.passages import Passage, old_passages, open_passages
from hornbook.data.tokenizing import encode_documents
from hornbook.errors import CheckpointError, ConfigError, DataError
from hornbook.models.gpt import GPT
from hornbook.models.llama import Llama
from hornbook.models.modern_gpt import ModernGPT
from hornbook.nn.losses import LossSum
from hornbook.tasks.continuing_findings import continuing_findings
from hornbook.tasks.language_modeling import (
    Marked,
    MarkedBatch,
    lay,
    marked_loss,
    token_log_probs,
)
from hornbook.tasks.room import room
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.text.frame import Frame
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer

# What ends a text, not a turn, in the families there are.
ENDS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "<｜end▁of▁sentence｜>")
WINDOW = 512  # tokens, where nobody says and the context is as long
OLD_TOKENS = 32_768  # of old texts, on which forgetting is measured
TOKENS_PER_BATCH = 4096  # when nothing is learnt


@dataclass(frozen=True)
class Window(Marked):
    """A window of a text, all tokens marked but the first. source: the text's number.

    n_bytes: UTF-8 bytes of what is guessed of the whole text, told by its first window alone.
    """

    source: int
    n_bytes: int = 0


class Continue:
    """Next tokens to guess. kept: passages of the old kind, and old, what they are called."""

    name: ClassVar[str] = "continue"
    best = "perplexity"  # the loss would choose the same; this is shown before and after

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        max_tokens: int = WINDOW,
        old: str = "",
        kept: Sequence[Passage] = (),
        chats: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.old, self.kept = old, kept
        self.chats = chats  # whether the model was taught to answer
        self.begin_with = _before_texts(tokenizer)
        known = tokenizer.control_ids
        self.end = next((known[e] for e in ENDS if e in known), None)

    # What there is before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """columns: text. A corpus, text files, tables or a labelled set, whose labels are left."""
        found = open_passages(data, columns, seed=seed)
        return Parts(
            found.corpus.name,
            found.train,
            found.validation,
            notes=found.notes,
            source=found.corpus.source,
            licence=found.corpus.licence,
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        keep: str | None = None,
    ) -> Continue:
        """keep: texts of the old kind: a corpus, a file or a folder, as the data.

        Raises ConfigError for more tokens than the context holds, and as `open_corpus` does.
        """

        def size(texts: Sequence[str]) -> list[int]:
            return [len(ids) for ids in encode_documents(texts, bundle.tokenizer)]

        return cls(
            bundle.tokenizer,
            max_tokens=room(bundle, max_tokens, usual=WINDOW),
            old=keep or "",
            kept=old_passages(keep, size, most=OLD_TOKENS) if keep else (),
            chats=bundle.template is not None,
        )

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Continue:
        """Without the old texts. Raises CheckpointError for a card that is not whole."""
        if not isinstance(card.get("max_tokens"), int):
            raise CheckpointError(
                "task.json does not say max_tokens", hint="Copy or train the model again."
            )
        return cls(bundle.tokenizer, max_tokens=card["max_tokens"])

    def card(self) -> dict[str, Any]:
        return {"task": self.name, "max_tokens": self.max_tokens}

    # The task

    def build(self, bundle: Any) -> nn.Module:
        """The decoder itself. Raises ConfigError for another model."""
        model = bundle.model
        if not isinstance(model, GPT | Llama | ModernGPT):
            raise ConfigError(
                f"a {type(model).__name__} does not go on with a text from left to right",
                hint="Take a decoder, such as smollm2-135m-instruct or a run of `hornbook train "
                "gpt`; for an encoder there is `hornbook finetune fill`.",
            )
        return model

    def items(self, examples: Sequence[Passage]) -> list[Window]:
        """Windows of at most `max_tokens`; of a text without a token one that teaches nothing.

        Raises DataError where no text has a token to guess.
        """
        found: list[Window] = []
        encoded = encode_documents([e.text for e in examples], self.tokenizer)
        for source, (example, row) in enumerate(zip(examples, encoded, strict=True)):
            end = [self.end] if self.end is not None and example.ends else []
            tokens = np.concatenate([self.begin_with, row, end]).astype(np.int32)
            n_bytes = len(example.text.encode("utf-8", "replace")) if len(row) else 0
            if not self.begin_with and len(row):  # the first token is not guessed
                n_bytes -= self.tokenizer.bytes_of[int(row[0])]
            found += _windows(tokens, source, max(0, n_bytes), self.max_tokens)
        if examples and not any(item.learnt.any() for item in found):
            raise DataError("no text has a token", hint="Are the texts in another column?")
        return found

    def length(self, item: Window) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[Window], device: str = "cpu") -> MarkedBatch:
        return lay(items, device)

    def loss(self, model: nn.Module, batch: MarkedBatch) -> LossSum:
        """Cross-entropy of all tokens but each window's first, in nats."""
        return marked_loss(model, batch)

    @torch.inference_mode()
    def predict(
        self,
        model: nn.Module,
        items: Sequence[Window],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """{"nats": ..., "n_tokens": n, "n_bytes": n} of each text, of what is guessed of it."""
        sums = np.zeros((max((item.source for item in items), default=-1) + 1, 3))
        done = 0
        for rows in by_length([len(item.tokens) for item in items], TOKENS_PER_BATCH):
            laid = [items[i] for i in rows]
            batch = lay(laid, device)
            found = token_log_probs(model, batch.tokens, batch.layout, batch.places, batch.targets)
            nats = found.new_zeros(len(rows)).index_add(0, batch.owners, -found).double().tolist()
            for item, each in zip(laid, nats, strict=True):
                sums[item.source] += each, item.learnt.sum(), item.n_bytes
            done += len(rows)
            if progress:
                progress(done, len(items))
        return [{"nats": r[0], "n_tokens": int(r[1]), "n_bytes": int(r[2])} for r in sums.tolist()]

    def metrics(
        self, examples: Sequence[Passage], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        """perplexity: of a token. bits_per_byte: comparable between models with other tokens."""
        rows = [[p["nats"], p["n_tokens"], p["n_bytes"]] for p in predictions]
        statistics = np.array(rows, np.float64).reshape(-1, 3)
        return [
            Metric("perplexity", statistics, of=_perplexity, higher_is_better=False),
            Metric("bits_per_byte", statistics, of=_bits_per_byte, higher_is_better=False),
            Metric("loss", statistics, of=_nats_a_token, higher_is_better=False),
        ]

    def beside(self) -> tuple[str, Sequence[Passage]]:
        """Further examples that a run measures the model on before it begins and when it ends."""
        return self.old, self.kept

    # What a person sees

    def show(self, item: Window) -> list[Shown]:
        """target: the token itself, where it is to be guessed from those before."""
        texts = [self._spelled(token) for token in item.tokens.tolist()]
        return [Shown(t, t if m else "") for t, m in zip(texts, item.learnt.tolist(), strict=True)]

    def _spelled(self, token: int) -> str:
        if token in self.tokenizer.special_ids:
            return self.tokenizer.tokens[token]
        return self.tokenizer.spelled(token)

    def check(self, parts: Parts) -> list[Finding]:
        return continuing_findings(self, parts)


def _before_texts(tokenizer: Tokenizer) -> list[int]:
    """What a tokenizer puts before a text, such as <s>; most decoders' put nothing."""
    if not tokenizer.rust.num_special_tokens_to_add(False):
        return []
    return Frame.of(tokenizer).before


def _windows(tokens: np.ndarray, source: int, n_bytes: int, size: int) -> list[Window]:
    """Windows (T,) of a text's tokens, each beginning with the last one of the window before."""
    found = []
    for start in range(0, max(1, len(tokens) - 1), size - 1):
        part = tokens[start : start + size]
        if not len(part):
            part = np.zeros(1, np.int32)
        learnt = np.ones(len(part), bool)
        learnt[0] = False
        found.append(Window(part, learnt, source, 0 if start else n_bytes))
    return found


def _nats_a_token(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1)


def _perplexity(sums: np.ndarray) -> np.ndarray:
    return np.exp(_nats_a_token(sums))


def _bits_per_byte(sums: np.ndarray) -> np.ndarray:
    """Gao et al. 2020 (The Pile), section 3.1."""
    return sums[..., 0] / np.log(2) / np.maximum(sums[..., 2], 1)
