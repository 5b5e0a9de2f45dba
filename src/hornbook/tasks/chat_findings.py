"""What of conversations, a template and a tokenizer would spoil a chat model, before it is trained.

The faults that make models that never stop, or that answer from nowhere, are all visible in the
tokens before the first step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from hornbook.data.conversations import Dialogue, Problem
from hornbook.tasks.task import Finding, Parts
from hornbook.tasks.turn_findings import pad_ends, unended, unknown_end

if TYPE_CHECKING:
    from hornbook.tasks.chat import Chat, ChatItem

N_NAMED = 3


def chat_findings(task: Chat, parts: Parts) -> list[Finding]:
    """All of them. Raises DataError for a conversation that the template does not take."""
    return [
        *_rows(getattr(parts, "problems", ()), len(parts.train) + len(parts.validation)),
        *_ends(task),
        *pad_ends(task.template, task.tokenizer, task.stop_tokens),
        *_tools(task, parts.train),
        *_masks(task, parts.train),
    ]


def _rows(problems: Sequence[Problem], n_good: int) -> Iterator[Finding]:
    kinds = {
        "empty": ("empty-completion", "have an empty question or answer"),
        "roles": ("roles-out-of-order", "have their roles out of order"),
        "form": ("row-unreadable", "cannot be read as a conversation"),
    }
    for kind, (code, what) in kinds.items():
        if found := [p for p in problems if p.code == kind]:
            named = "; ".join(map(str, found[:N_NAMED]))
            more = f"; and {len(found) - N_NAMED:,} more" if len(found) > N_NAMED else ""
            yield Finding(
                code,
                "warn",
                f"{len(found):,} of {n_good + len(problems):,} rows {what}: {named}{more}",
                "They are left out.",
                "Mend or remove them; `hornbook data check FILE` lists them all.",
            )


def _ends(task: Chat) -> Iterator[Finding]:
    if task.end is None:
        yield unended(
            task.template,
            task.tokenizer,
            mend="--set template=chatml gives it a template with tokens for the ends of turns; or "
            "take the tokenizer that the template was made for.",
        )
    elif task.end not in task.known_ends:
        mend = "Nothing to do: it is written into the files of the model that is saved."
        yield unknown_end(task.tokenizer, task.end, task.known_ends, mend=mend)


def _tools(task: Chat, dialogues: Sequence[Dialogue]) -> Iterator[Finding]:
    with_tools = [d for d in dialogues if d.tools]
    if not with_tools:
        return
    one = with_tools[0]
    told = [
        task.template.render(one.messages[:1], tools=tools, add_generation_prompt=False)
        for tools in (one.tools, None)
    ]
    if told[0] == told[1]:
        yield Finding(
            "tools-unseen",
            "warn",
            f"{len(with_tools):,} conversations have tools, and the template does not write them",
            "The model learns to call what it was never told of.",
            "Take a model whose template knows tools, or --set template=chatml.",
        )


def _masks(task: Chat, dialogues: Sequence[Dialogue]) -> Iterator[Finding]:
    marked = [(d, turns) for d in dialogues for turns in task.marker.mark(d)]
    turns = [t for _, t in marked]
    if parted := [(d, t) for d, t in marked if t.n_parted]:
        place = parted[0][0].place
        yield Finding(
            "prompt-differs",
            "warn",
            f"{sum(t.n_parted for _, t in parted):,} answers follow another text than the one that "
            f"asks for them: {place}",
            "The first tokens of an answer are learnt from a place where the model is never asked.",
            "Look at it: `hornbook data check FILE --model M`.",
        )
    if task.end is not None and (n_open := sum(t.n_open for t in turns)):
        yield Finding(
            "answer-without-end",
            "warn",
            f"{n_open:,} answers are not followed by a token that ends a turn",
            "The model learns to go on behind them.",
            "Look at the template: does it end every answer alike?",
        )
    if len(marked) > len(dialogues):
        yield Finding(
            "turns-rewritten",
            "note",
            f"the template writes earlier turns otherwise once there are later ones: "
            f"{len(dialogues):,} conversations become {len(marked):,}, one an answer",
            "Their beginnings are read more than once.",
        )
    items = task.items(dialogues)
    yield from _truncation(task, items)
    n_tokens, n_learnt = sum(len(i.tokens) for i in items), sum(int(i.learnt.sum()) for i in items)
    yield Finding(
        "loss-on",
        "note",
        f"{n_learnt:,} of {n_tokens:,} tokens ({n_learnt / max(1, n_tokens):.0%}) carry loss: the "
        "answers, each with the token that ends it",
    )


def _truncation(task: Chat, items: Sequence[ChatItem]) -> Iterator[Finding]:
    cut = [item for item in items if item.n_lost]
    if not cut:
        return
    n_out = sum(not item.learnt.any() for item in cut)
    n_unended = sum(
        bool(item.learnt.any()) and item.tokens[-1] not in task.stop_tokens for item in cut
    )
    n_lost = sum(item.n_lost for item in cut)
    n_all = n_lost + sum(int(item.learnt.sum()) for item in items)
    yield Finding(
        "truncation",
        "warn" if n_lost > 0.01 * n_all or n_out else "note",
        f"{len(cut):,} of {len(items):,} conversations are longer than {task.max_tokens} tokens: "
        f"{n_lost:,} of {n_all:,} tokens of answers ({n_lost / n_all:.1%}) are cut off; "
        f"{n_unended:,} keep an answer without its end, {n_out:,} keep none and are left out",
        "What is cut off is not learnt.",
        "Raise --set max_tokens, as far as context and memory go, or shorten the conversations.",
    )
