"""What of questions and their contexts would spoil training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hornbook.data.questions import Question, fault, moved
from hornbook.tasks.task import Finding, Parts

if TYPE_CHECKING:
    from hornbook.tasks.answer import Answer

LOOKED_AT = 1000  # training questions; the rest is taken to be like them


def findings(task: Answer, parts: Parts) -> list[Finding]:
    """Answers that do not stand where they should, in no window, or of more tokens than allowed;
    articles on both sides; questions without an answer on one side only."""
    found: list[Finding] = []
    every = {
        "training": list(parts.train),
        "validation": list(parts.validation),
        "test": list(parts.test or ()),
    }
    found += _of_places(task, every)
    found += _of_articles(every)
    without = {part: sum(not q.answers for q in asked) for part, asked in every.items()}
    if without["validation"] + without["test"] and not without["training"]:
        found.append(
            Finding(
                "no-answer-unseen",
                "warn",
                f"{without['validation'] + without['test']:,} questions of validation and test "
                "have no answer, none of training.",
                cost="The model never learns to say so: each of them counts as wrong.",
                mend="Add some to training.",
            )
        )
    if not any(finding.level == "stop" for finding in found):
        found += _of_windows(task, every["training"][:LOOKED_AT])
    return found


def _of_places(task: Answer, every: dict[str, list[Question]]) -> list[Finding]:
    found = []
    for part, asked in every.items():
        wrong = [(q, said) for q in asked if (said := fault(q))]
        lost = [said for q, said in wrong if fault(moved(q))]
        if lost:
            found.append(
                Finding(
                    "answer-not-in-context",
                    "stop",
                    f"{len(lost):,} of {len(asked):,} questions of {part}: {lost[0]}.",
                    cost="There is nothing to point at.",
                    mend="Mend or drop them.",
                )
            )
        if len(wrong) > len(lost):
            near = next(said for q, said in wrong if not fault(moved(q)))
            found.append(
                Finding(
                    "answer-misplaced",
                    "note" if task.misplaced == "move" else "stop",
                    f"{len(wrong) - len(lost):,} of {len(asked):,} questions of {part}: {near}.",
                    cost="The wrong words would be learnt.",
                    mend="--set misplaced=move takes the nearest place.",
                )
            )
    return found


def _of_articles(every: dict[str, list[Question]]) -> list[Finding]:
    found = []
    learnt = {q.context for q in every["training"]}
    for part in ("validation", "test"):
        if n := sum(q.context in learnt for q in every[part]):
            found.append(
                Finding(
                    "context-on-both-sides",
                    "warn",
                    f"{n:,} of {len(every[part]):,} questions of {part} are on a context of "
                    "training.",
                    cost="Scores tell how well these texts are known, not new ones.",
                    mend="Divide by article: give one file with a title for each question.",
                )
            )
    return found


def _of_windows(task: Answer, asked: list[Question]) -> list[Finding]:
    found = []
    seen: dict[int, list[int]] = {}  # tokens of the answer in each window, 0 where it is not in
    for item in task.items(asked):
        inside = item.end - item.start + 1 if item.start else 0
        seen.setdefault(item.source, []).append(inside)
    cut = [i for i, windows in seen.items() if asked[i].answers and not any(windows)]
    if cut:
        found.append(
            Finding(
                "answer-in-no-window",
                "warn",
                f"{len(cut):,} of {len(asked):,} questions have their answer wholly in no window "
                f"of {task.max_tokens} tokens (such as '{asked[cut[0]].id}').",
                cost="They teach that there is none.",
                mend="Lengthen the stride or the windows (--set stride=…, --set max_tokens=…).",
            )
        )
    too_long = [i for i, windows in seen.items() if max(windows) > task.longest]
    if too_long:
        found.append(
            Finding(
                "answer-too-long",
                "warn",
                f"{len(too_long):,} of {len(asked):,} answers have more than {task.longest} "
                "tokens.",
                cost="None so long is ever given.",
                mend=f"--set longest={max(max(seen[i]) for i in too_long)}.",
            )
        )
    if (n_more := sum(map(len, seen.values())) - len(seen)) > 0:
        found.append(
            Finding(
                "windows",
                "note",
                f"{len(asked):,} questions are read in {len(seen) + n_more:,} windows of at most "
                f"{task.max_tokens} tokens, {task.stride} in common.",
            )
        )
    return found
