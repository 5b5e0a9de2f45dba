"""Tag the words of a text: parts of speech, names of people and places.

A model reads sub-words; a word's first one carries its tag, the others carry no loss (Devlin et al.
2019, section 5.3). What is longer than the model reads goes on in a further window, and each word
is judged in one. Entities come out as spans of characters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import nn

from hornbook.data import bio
from hornbook.data.bio import OUTSIDE, Kind
from hornbook.data.tagged import TaggedText, open_tagged
from hornbook.errors import ConfigError, DataError
from hornbook.models.heads import HeadConfig, TokenClassifier, bare_trunk
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import IGNORE, LossSum, cross_entropy_sum
from hornbook.tasks.classification import Batch, rows_over
from hornbook.tasks.room import room as room_of
from hornbook.tasks.sub_words import (
    Aggregation,
    Unit,
    Word,
    aligned,
    grouped,
    word_scores,
    words_in,
)
from hornbook.tasks.tag_findings import findings, listed
from hornbook.tasks.tag_metrics import entity_metrics, macro_f1, word_accuracy
from hornbook.tasks.task import Finding, Metric, Parts, Shown
from hornbook.text.encoding import Encoding
from hornbook.text.frame import Frame
from hornbook.text.tokenizer import Tokenizer

LONGEST = 512  # tokens read at once, where neither the model nor a person says less


@dataclass(frozen=True)
class TagItem:
    """A text, or a window of one. targets: one a token, IGNORE where it carries no loss.

    words: those that are judged here. places: the characters of each token in the text.
    """

    tokens: list[int]
    targets: list[int]
    words: list[Word]
    places: list[tuple[int, int]]
    text: str
    source: int


@dataclass
class Tag:
    """Tags for words. label_names: in the order of the head's outputs.

    aggregation: how a text's spans are made of its tokens' scores, as transformers' pipeline does:
    none (each token), simple (tokens of one entity together), or by words whose tokens agree:
    first (what was trained), average, max. A word's own tag follows it, or first.
    """

    name: ClassVar[str] = "tag"
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    kind: Kind
    max_tokens: int = 512
    aggregation: Aggregation = "first"
    dropout: float = 0.0
    head_replaced: str = ""  # a sentence, where the model's own head was for other tags
    _number: dict[str, int] = field(init=False, repr=False)
    _frame: Frame = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.aggregation not in get_args(Aggregation):
            raise ConfigError(
                f"aggregation is '{self.aggregation}'",
                hint=f"Allowed: {', '.join(get_args(Aggregation))}.",
            )
        self._number = {name: i for i, name in enumerate(self.label_names)}
        self._frame = Frame.of(self.tokenizer)
        if self.max_tokens <= self._frame.n_tokens:
            raise ConfigError(
                f"max_tokens is {self.max_tokens}, and {self._frame.n_tokens} tokens are special",
                hint="Take 16 or more.",
            )

    @property
    def best(self) -> str:
        return "F1" if self.kind == "entities" else "accuracy"

    # Before there is a task

    @classmethod
    def open_data(cls, data: str, columns: Mapping[str, str], *, seed: int) -> Parts:
        """As `data.tagged.open_tagged`: CoNLL, CoNLL-U, jsonl; a file or a folder of them.

        Raises DataError where there are fewer than two tags.
        """
        found = open_tagged(data, columns, seed=seed)
        names = bio.labels((tag for example in found.train for tag in example.tags), found.kind)
        if len(names) < 2:
            raise DataError(
                f"{data}: every word has the tag '{''.join(names)}'",
                hint="Is it the right column? Name it: --column tags=3.",
            )
        return Parts(
            Path(data).expanduser().resolve().name,
            found.train,
            found.validation,
            found.test or None,
            label_names=names,
            notes=found.notes,
            source=str(data),
        )

    @classmethod
    def make(
        cls,
        bundle: Any,
        parts: Parts,
        *,
        max_tokens: int | None = None,
        aggregation: Aggregation = "first",
        dropout: float = 0.0,
    ) -> Tag:
        """max_tokens: the model's context when None, or that where it is less."""
        names, replaced = parts.label_names, ""
        if isinstance(bundle.model, TokenClassifier):
            of_head = bundle.model.config.label_names
            beyond = [name for name in names if name not in of_head]
            if beyond:
                replaced = (
                    f"The model's head tells {len(of_head)} tags apart, and {len(beyond)} of the "
                    f"data's {len(names)} are beyond it ({listed(beyond)}): it gets a new head."
                )
            else:
                names = of_head
        return cls(
            bundle.tokenizer,
            names,
            "entities" if all(map(bio.is_bio, names)) else "plain",
            max_tokens=room_of(bundle, max_tokens, usual=LONGEST),
            aggregation=aggregation,
            dropout=dropout,
            head_replaced=replaced,
        )

    @classmethod
    def reopen(cls, card: Mapping[str, Any], bundle: Any) -> Tag:
        return cls(
            bundle.tokenizer,
            tuple(card["label_names"]),
            card["kind"],
            max_tokens=card["max_tokens"],
            aggregation=card["aggregation"],
        )

    def card(self) -> dict[str, Any]:
        return {
            "task": self.name,
            "label_names": list(self.label_names),
            "kind": self.kind,
            "max_tokens": self.max_tokens,
            "aggregation": self.aggregation,
        }

    def build(self, bundle: Any) -> nn.Module:
        model = bundle.model
        if isinstance(model, TokenClassifier) and model.config.label_names == self.label_names:
            return model
        trunk = bare_trunk(model)
        config = HeadConfig(trunk.config, self.label_names, "token", dropout=self.dropout)
        return TokenClassifier(trunk, config)

    # Items and batches

    def items(self, examples: Sequence[TaggedText | str]) -> list[TagItem]:
        """Items of tagged texts; of bare texts too, whose words are then the tokenizer's.

        A tag that the head does not have carries no loss, and counts as missed. Raises DataError
        where it has none of the tags of an example's data: they are of another task.
        """
        self._check_tags(examples)
        # Words of their own, whatever stands between them in the text: "do" and "n't".
        joined = [e if isinstance(e, str) else " ".join(e.words) for e in examples]
        encodings = self.tokenizer(joined, special=False, read_special=False)
        return [
            item
            for number, example in enumerate(examples)
            for item in self._windows(example, joined[number], encodings[number], number)
        ]

    def _check_tags(self, examples: Sequence[TaggedText | str]) -> None:
        tags = Counter(t for e in examples if not isinstance(e, str) for t in e.tags)
        del tags[OUTSIDE]
        if tags and not any(tag in self._number for tag in tags):
            raise DataError(
                f"none of the tags ({listed(sorted(tags))}) is among the {len(self.label_names)} "
                f"that the head tells apart ({listed(self.label_names)})",
                hint="Use data with the tags of training, or train a head for these.",
            )

    def _windows(
        self, example: TaggedText | str, joined: str, encoding: Encoding, source: int
    ) -> Iterator[TagItem]:
        tags: tuple[str, ...] = ()
        if isinstance(example, str):
            words, places, text = words_in(encoding), encoding.offsets, example
        else:
            words, places = aligned(example, joined, encoding)
            text, tags = example.text, example.tags
        before, n_special = len(self._frame.before), self._frame.n_tokens
        room = self.max_tokens - n_special
        starts = [word.first for word in words if word.n_tokens]
        n, begin, judged = len(encoding), 0, 0
        while True:
            end = min(n, begin + room)
            if end < n:  # not within a word, unless it is longer than a window
                end = max((s for s in starts if begin < s <= end), default=end)
            targets = [IGNORE] * (end - begin + n_special)
            here = []
            for word in words:
                if judged <= word.first < end or (end == n and word.first >= n):
                    first = word.first + before - begin
                    n_tokens = min(word.n_tokens, end - word.first)
                    here.append(replace(word, first=first, n_tokens=n_tokens))
                    if tags and n_tokens:
                        targets[first] = self._number.get(tags[word.number], IGNORE)
            nowhere = [(0, 0)]
            yield TagItem(
                self._frame.around(encoding.ids[begin:end]),
                targets,
                here,
                nowhere * before + places[begin:end] + nowhere * (n_special - before),
                text,
                source,
            )
            if end == n:
                return
            # The next window begins with the last quarter of this one, as context.
            judged = end
            begin = min((s for s in starts if s > begin and s >= end - room // 4), default=end)

    def length(self, item: TagItem) -> int:
        return len(item.tokens)

    def collate(self, items: Sequence[TagItem], device: str = "cpu") -> Batch:
        ordered = sorted(items, key=lambda item: -len(item.tokens))
        return Batch(
            torch.tensor([t for item in ordered for t in item.tokens], device=device),
            Ragged([len(item.tokens) for item in ordered], device),
            torch.tensor([t for item in ordered for t in item.targets], device=device),
        )

    def loss(self, model: nn.Module, batch: Batch) -> LossSum:
        """Cross-entropy over first sub-words, in nats; the last block goes on with these alone."""
        assert batch.targets is not None
        tagged = (batch.targets != IGNORE).nonzero().squeeze(1)
        return cross_entropy_sum(model(batch, tagged), batch.targets[tagged])

    # Predictions

    def predict(
        self,
        model: nn.Module,
        items: Sequence[TagItem],
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Of each example: tags, one a word, and spans: label, text, start, end, score.

        start and end are characters of the example's text; of plain tags each word is a span.
        """
        rows = rows_over(
            lambda batch: model(batch).float().softmax(-1).cpu().split(batch.layout.lengths),
            [item.tokens for item in items],
            device=device,
            progress=progress,
        )
        found: dict[int, _Judged] = {}
        for item, row in zip(items, rows, strict=True):
            judged = found.setdefault(item.source, _Judged(item.text))
            self._judge(item, row.numpy(), judged)
        return [
            {"tags": found[i].tags, "spans": self._spans(found[i])}
            for i in range(max(found, default=-1) + 1)
        ]

    def _judge(self, item: TagItem, scores: np.ndarray, judged: _Judged) -> None:
        """Add an item's words, and the units that spans are made of. scores: (T, L)."""
        for word in item.words:
            own = scores[word.first : word.first + word.n_tokens]
            if not len(own):
                judged.tags.append(self.label_names[0])
                continue
            whole = word_scores(own, self.aggregation)
            best = int(whole.argmax())
            judged.tags.append(self.label_names[best])
            if self.aggregation in ("none", "simple"):
                for place, row in zip(item.places[word.first :], own, strict=False):
                    best = int(row.argmax())
                    judged.units.append((self.label_names[best], float(row[best]), *place))
            else:
                unit = (self.label_names[best], float(whole[best]), word.start, word.end)
                judged.units.append(unit)

    def _spans(self, judged: _Judged) -> list[dict[str, Any]]:
        units = judged.units
        if self.kind == "entities":
            alone = self.aggregation == "none"
            units = [u for u in units if u[0] != OUTSIDE] if alone else grouped(units)
        return [
            {
                "label": label,
                "text": judged.text[start:end],
                "start": start,
                "end": end,
                "score": round(score, 6),
            }
            for label, score, start, end in units
        ]

    def metrics(
        self, examples: Sequence[TaggedText], predictions: Sequence[Mapping[str, Any]]
    ) -> list[Metric]:
        """Of entities F1, precision and recall as seqeval's, then accuracy; accuracy of plain tags.

        Raises DataError for an example without tags.
        """
        for i, example in enumerate(examples):
            if len(example.tags) != len(example.words):
                raise DataError(
                    f"example {example.id or i} has no tags to compare with",
                    hint="Evaluate on tagged texts.",
                )
        true = [example.tags for example in examples]
        guessed = [prediction["tags"] for prediction in predictions]
        if self.kind == "entities":
            return [*entity_metrics(true, guessed), word_accuracy(true, guessed)]
        return [word_accuracy(true, guessed), macro_f1(true, guessed, self.label_names)]

    # For people

    def show(self, item: TagItem) -> list[Shown]:
        spelled = self.tokenizer.tokens
        return [
            Shown(spelled[token], "" if target == IGNORE else self.label_names[target])
            for token, target in zip(item.tokens, item.targets, strict=True)
        ]

    def check(self, parts: Parts) -> list[Finding]:
        return findings(self, parts)


@dataclass
class _Judged:
    """What is known of a text. units: label, score, start, end of words or tokens."""

    text: str
    tags: list[str] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
