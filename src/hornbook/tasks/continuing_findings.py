"""What of texts and a tokenizer would spoil continued pretraining, or hide what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hornbook.data.passages import Passage
from hornbook.tasks.task import Finding, Parts

if TYPE_CHECKING:
    from hornbook.tasks.continuing import Continue

LOOKED_AT = 200  # texts, for tokens that the vocabulary has not
FEW = 20  # texts: an interval over fewer says little


def continuing_findings(task: Continue, parts: Parts) -> list[Finding]:
    """All of them."""
    return [
        *_unknown(task, parts.train[:LOOKED_AT]),
        *_old(task, parts.train),
        *_answers(task),
        *_ends(task, parts.train),
        *_few(parts.validation, "held out"),
        *(_few(task.kept, f"of {task.old}") if task.kept else ()),
    ]


def _unknown(task: Continue, texts: Sequence[Passage]) -> Iterator[Finding]:
    unknown = task.tokenizer.unknown_id
    items = task.items(texts) if unknown is not None else []
    n_tokens = sum(len(item.tokens) for item in items)
    n_unknown = sum(int((item.tokens == unknown).sum()) for item in items)
    if n_unknown:
        share = n_unknown / n_tokens
        yield Finding(
            "tokens-unknown",
            "warn" if share >= 0.001 else "note",
            f"{share:.2%} of the tokens stand for what the vocabulary cannot say",
            "The model learns to write the unknown token, and never these characters.",
            "Clean the texts (hornbook data clean), or take a model whose vocabulary has bytes.",
        )


def _old(task: Continue, train: Sequence[Passage]) -> Iterator[Finding]:
    if not task.kept:
        yield Finding(
            "forgetting-not-measured",
            "note",
            "no texts of the old kind were named: what the model forgets will not be seen",
            mend="--set keep=OLD_TEXTS measures it, before and after.",
        )
        return
    learnt = {p.text for p in train}
    if n := sum(p.text in learnt for p in task.kept):
        yield Finding(
            "old-texts-are-learnt",
            "warn",
            f"{n} of {len(task.kept)} texts of {task.old} are among those to learn from",
            "On these the model can't but get better: forgetting looks smaller than it is.",
            "Name texts for keep= that are not in the data.",
        )


def _answers(task: Continue) -> Iterator[Finding]:
    if task.chats:
        yield Finding(
            "chat-model",
            "note",
            "the model was taught to answer, and here it goes on with plain texts",
            "The longer it does, the less it answers as it was taught to.",
            "Few epochs at a low lr; afterwards `hornbook finetune chat --model RUN` with some "
            "conversations.",
        )


def _ends(task: Continue, train: Sequence[Passage]) -> Iterator[Finding]:
    if task.end is None and any(p.ends for p in train):
        yield Finding(
            "no-end-of-text",
            "note",
            "the vocabulary has no token for the end of a text",
            "Where a text ends is not learnt: the model goes on until it is stopped.",
        )


def _few(texts: Sequence[Passage], which: str) -> Iterator[Finding]:
    if len(texts) < FEW:
        yield Finding(
            "few-texts",
            "note",
            f"{len(texts)} texts are {which}",
            "Intervals are over texts, and over so few they promise too much.",
            "Give more texts, or the same as shorter documents.",
        )
