"""Chat: learn to answer, from conversations (Ouyang et al. 2022, section 3.5: "SFT").

Only answers carry loss, each with the one token that ends its turn (`tasks.turns`): a model that is
never taught that token never stops. Conversations lie end to end, and attention stays in each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from hornbook.adapters.lora import merged
from hornbook.data.batching import by_length
from hornbook.data.conversations import Dialogue, Problem
from hornbook.data.dialogue_parts import open_dialogues
from hornbook.errors import ConfigError
from hornbook.generation.batch import Batch
from hornbook.generation.conversation import template_of
from hornbook.generation.reading import context_length_of
from hornbook.generation.request import Request, Sampling
from hornbook.models.gpt import GPT
from hornbook.models.llama import Llama
from hornbook.models.modern_gpt import ModernGPT
from hornbook.models.vocabulary import grow
from hornbook.nn.losses import LossSum
from hornbook.quantization.four_bits import FourBitLinear
from hornbook.tasks.chat_findings import chat_findings
from hornbook.tasks.language_modeling import (
    Marked,
    MarkedBatch,
    lay,
    marked_loss,
    token_log_probs,
)
from hornbook.tasks.room import room
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.tasks.turns import Marker, Turns, end_of_turn
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.chatml import first_vectors, with_chatml
from hornbook.text.tokenizer import Tokenizer

LONGEST = 1024  # tokens of a conversation, unless the context is shorter
TOKENS_PER_BATCH = 4096  # when nothing is learnt
N_SLOTS = 8  # answers written at once


@dataclass(frozen=True)
class ChatItem(Marked):
    """A conversation as tokens, those of its answers marked. source: the example's number.

    prompt: what the model is asked the last answer with. n_lost: tokens of answers that were cut
    off, with the conversation's end or altogether.
    """

    source: int
    prompt: tuple[int, ...]
    n_lost: int = 0


@dataclass(frozen=True)
class ChatParts(Parts):
    """`Parts` of dialogues, with the rows that were left out and why."""

    problems: tuple[Problem, ...] = ()


class Chat:
    """Answering. template and stop_tokens are what has to be kept beside the weights.

    max_tokens: of a conversation. answer_tokens: of an answer that is written, at most; n_answers:
    of so many examples of a part an answer is written when it is judged.
    """

    name: ClassVar[str] = "chat"
    best = "loss"

    def __init__(
        self,
        tokenizer: Tokenizer,
        template: ChatTemplate,
        stop_tokens: frozenset[int],
        *,
        max_tokens: int = LONGEST,
        answer_tokens: int = 256,
        n_answers: int = 100,
        like: Mapping[int, int] | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.known_ends = stop_tokens
        self.end = end_of_turn(template, tokenizer)
        self.stop_tokens = stop_tokens | (frozenset() if self.end is None else {self.end})
        self.max_tokens = max_tokens
        self.answer_tokens = answer_tokens
        self.n_answers = n_answers
        self._like = dict(like or {})
        self.marker = Marker(template, tokenizer, self.stop_tokens)

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> ChatParts:
        """As `data.dialogue_parts.open_dialogues`."""
        found = open_dialogues(data, columns, seed=seed)
        return ChatParts(
            found.name,
            found.train,
            found.validation,
            found.test,
            notes=found.notes,
            source=data,
            problems=found.problems,
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        template: str | None = None,
        answer_tokens: int = 256,
        n_answers: int = 100,
    ) -> Chat:
        """template: "chatml" gives the model that one, and its tokens where they are missing.

        Raises ConfigError for a model without a template when none is asked for, for another name,
        and for more tokens than the context holds.
        """
        sizes: dict[str, Any] = {
            "max_tokens": room(bundle, max_tokens, usual=LONGEST),
            "answer_tokens": answer_tokens,
            "n_answers": n_answers,
        }
        if template is None:
            if bundle.template is None:
                raise ConfigError(
                    f"{bundle.name or 'this model'} has no chat template: nothing says how a "
                    "conversation is written",
                    hint="--set template=chatml gives it one, and the tokens that it needs.",
                )
            return cls(bundle.tokenizer, bundle.template, bundle.stop_tokens, **sizes)
        if template != "chatml":
            raise ConfigError(f"there is no template '{template}'", hint="Known: chatml.")
        tokenizer, written = with_chatml(bundle.tokenizer)
        like = first_vectors(bundle.tokenizer, tokenizer)
        return cls(tokenizer, written, bundle.stop_tokens, **sizes, like=like)

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Chat:
        """As it was saved. Raises ConfigError where the template got lost."""
        sizes: dict[str, Any] = {
            name: int(card[name]) for name in ("max_tokens", "answer_tokens", "n_answers")
        }
        return cls(bundle.tokenizer, template_of(bundle), bundle.stop_tokens, **sizes)

    def card(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "answer_tokens": self.answer_tokens,
            "n_answers": self.n_answers,
        }

    def build(self, bundle: Any) -> nn.Module:
        """The decoder itself, with room for tokens that were added."""
        model: Any = bundle.model
        if not isinstance(model, GPT | Llama | ModernGPT):
            raise ConfigError(
                f"a model of the family '{bundle.family}' does not write texts from left to right",
                hint="Take a decoder, such as smollm2-135m-instruct; `hornbook models` lists some.",
            )
        if self.tokenizer.vocab_size > model.config.vocab_size:
            grow(model, self.tokenizer.vocab_size, self._like)
        decoder: nn.Module = model
        return decoder

    # Items and batches

    def items(self, examples: Sequence[Dialogue]) -> list[ChatItem]:
        """One an example; more where the template rewrites earlier turns. Raises DataError for a
        conversation that the template does not take."""
        return [
            self._item(source, turns)
            for source, example in enumerate(examples)
            for turns in self.marker.mark(example)
        ]

    def _item(self, source: int, turns: Turns) -> ChatItem:
        """Cut behind the last answer that fits whole; behind `max_tokens` where none does; and a
        single token, to learn nothing from, where not even the beginning of one is left."""
        tokens, room = turns.tokens, self.max_tokens
        whole = [end for _, end in turns.spans if end <= room]
        if whole:
            cut = whole[-1]
        else:
            cut = room if turns.spans[0][0] < room else 1
        learnt = np.zeros(cut, bool)
        for begin, end in turns.spans:
            learnt[begin : min(end, cut)] = True
        learnt[0] = False
        n_lost = sum(max(0, end - max(begin, cut)) for begin, end in turns.spans)
        kept = np.array(tokens[:cut], np.int32)
        return ChatItem(kept, learnt, source, tuple(turns.prompt), n_lost)

    def length(self, item: ChatItem) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[ChatItem], device: str = "cpu") -> MarkedBatch:
        return lay(items, device)

    def loss(self, model: nn.Module, batch: MarkedBatch) -> LossSum:
        """Cross-entropy over the answers' tokens, in nats."""
        return marked_loss(model, batch)

    # Predictions

    def predict(
        self,
        model: nn.Module,
        items: Sequence[ChatItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Of each example: loss (nats, a sum) and n_targets of its answers; of up to `n_answers`
        spread over all, what the model answers (answer) to the last question, greedily, in how many
        tokens (n_written), and whether it came to an end by itself (ended)."""
        last = {item.source: item for item in items}
        sources = sorted(last)
        spread = np.linspace(0, len(sources) - 1, min(self.n_answers, len(sources)))
        asked = [last[sources[i]] for i in spread.round().astype(int)] if sources else []
        n_steps = len(items) + len(asked)
        found = self._losses(model, items, device, lambda n: progress and progress(n, n_steps))
        predictions: dict[int, dict[str, Any]] = {
            source: {"answer": None, "ended": None, "n_written": 0, "loss": 0.0, "n_targets": 0}
            for source in sources
        }
        for item, loss in zip(items, found, strict=True):
            predictions[item.source]["loss"] += loss
            predictions[item.source]["n_targets"] += int(item.learnt.sum())
        # Plain layers write faster; a base in 4 bits would be unpacked, and stays as it is.
        packed = any(isinstance(part, FourBitLinear) for part in model.modules())
        with nullcontext() if packed else merged(model):
            self._answer(
                model, asked, predictions, lambda n: progress and progress(len(items) + n, n_steps)
            )
        return [predictions[source] for source in sources]

    @torch.inference_mode()
    def _losses(
        self,
        model: nn.Module,
        items: Sequence[ChatItem],
        device: str,
        progress: Callable[[int], Any],
    ) -> list[float]:
        losses, done = [0.0] * len(items), 0
        for indices in by_length([len(item.tokens) for item in items], TOKENS_PER_BATCH):
            batch = lay([items[i] for i in indices], device)
            found = token_log_probs(model, batch.tokens, batch.layout, batch.places, batch.targets)
            sums = found.new_zeros(len(indices)).index_add(0, batch.owners, -found)
            for i, loss in zip(indices, sums.tolist(), strict=True):
                losses[i] = loss
            progress(done := done + len(indices))
        return losses

    def _answer(
        self,
        model: nn.Module,
        items: Sequence[ChatItem],
        predictions: dict[int, dict[str, Any]],
        progress: Callable[[int], Any],
    ) -> None:
        """Write the answers into the predictions."""
        room = context_length_of(model) - 1
        fitting = [item for item in items if len(item.prompt) <= room]
        for item in items:
            predictions[item.source] |= {"answer": "", "ended": False}
        longest = max((len(item.prompt) for item in fitting), default=1) + self.answer_tokens
        batch = Batch(
            _Speaker(model, self.tokenizer),
            n_slots=min(N_SLOTS, max(1, len(fitting))),
            context_length=min(room + 1, longest),
        )
        owners = {
            batch.add(
                Request(
                    item.prompt,
                    self.answer_tokens,
                    Sampling(temperature=0.0),
                    stop_tokens=self.stop_tokens,
                )
            ): predictions[item.source]
            for item in fitting
        }
        done = len(items) - len(fitting)
        while batch.n_running or batch.n_waiting:
            for piece in batch.step():
                owner = owners[piece.request]
                owner["answer"] += piece.text
                if piece.finish:
                    owner |= {"ended": piece.finish == "stop", "n_written": piece.n_generated}
                    progress(done := done + 1)

    def metrics(
        self, examples: Sequence[Dialogue], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        """loss: nats a token of the answers. ended: the share of written answers that came to an
        end by themselves. n_written: their tokens."""
        losses = np.array([[p["loss"], p["n_targets"]] for p in predictions], float)
        answered = np.array([p["ended"] is not None for p in predictions], float)
        ended = np.array([bool(p["ended"]) for p in predictions], float)
        written = np.array([p["n_written"] for p in predictions], float)
        return [
            Metric("loss", losses, of=_ratio, higher_is_better=False),
            Metric("ended", np.stack([ended, answered], 1), of=_ratio),
            Metric(
                "n_written", np.stack([written, answered], 1), of=_ratio, higher_is_better=False
            ),
        ]

    # What a person sees

    def show(self, item: ChatItem) -> list[Shown]:
        """target: the token itself, where it is to be guessed from those before."""
        spelled = [self._spelled(token) for token in item.tokens.tolist()]
        marked = zip(spelled, item.learnt.tolist(), strict=True)
        return [Shown(text, text if learnt else "") for text, learnt in marked]

    def _spelled(self, token: int) -> str:
        if token in self.tokenizer.special_ids:
            return self.tokenizer.tokens[token]
        return self.tokenizer.spelled(token)

    def check(self, parts: Parts) -> list[Finding]:
        return chat_findings(self, parts)


@dataclass(frozen=True)
class _Speaker:
    model: nn.Module
    tokenizer: Tokenizer


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / np.maximum(sums[..., 1], 1)
