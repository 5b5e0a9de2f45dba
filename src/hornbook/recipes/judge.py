"""Which of two answers is better: a local chat model is asked twice, once in either order.

Its verdict is the likelihood of the two numbers it may reply with, not what it would write: a small
model writes anything (Zheng et al. 2023, sections 3.1 and 3.4). Answers are data: they come in a
user's message, where control tokens stay text.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from hornbook.bundle import Bundle
from hornbook.data.rows import read_rows
from hornbook.errors import ConfigError, DataError
from hornbook.evaluation.judging import winner
from hornbook.generation.conversation import template_of
from hornbook.records import VerdictRecord, Winner
from hornbook.tasks.branches import batches, branch_log_probs, lay
from hornbook.tasks.choose_likelihood import ChoiceItem

CRITERIA = "how helpful, relevant, accurate and complete it is"
PROMPTS = ("prompt", "text", "question", "instruction")
ANSWERS = ("answer", "written", "completion", "response", "output")
VERDICTS: dict[str, Winner] = {"a": "A", "b": "B", "tie": "tie"}
_AT_ONCE = 16  # pairs whose verdicts are written down together
_BEGINNING = b'{"key":'  # of a line of verdicts


@dataclass(frozen=True)
class Pair:
    """A prompt and an answer of each side."""

    prompt: str
    a: str
    b: str

    def key(self, criteria: str) -> str:
        """Of everything that a judge is shown."""
        shown = json.dumps([self.prompt, self.a, self.b, criteria], ensure_ascii=False)
        return hashlib.sha256(shown.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]

    def a_comes_first(self, criteria: str) -> bool:
        """For who sees it once: by chance, and always the same."""
        return int(self.key(criteria), 16) % 2 == 0


def read_pairs(a: Path, b: Path) -> tuple[list[Pair], list[str]]:
    """Two files of answers, put together by prompt, in the order of the first; and notes.

    A row has a prompt (or text, question, instruction) and an answer (or written, completion,
    response, output), as `hornbook run chat --json` writes them. Raises DataError for other
    columns, a prompt that comes twice, and files without a prompt in common.
    """
    first, second = _answers(a), _answers(b)
    shared = [prompt for prompt in first if prompt in second]
    if not shared:
        raise DataError(
            f"{a} and {b} answer no prompt in common",
            hint="Both have to answer the same prompts, spelled alike.",
        )
    n_alone = len(first) + len(second) - 2 * len(shared)
    notes = [f"{n_alone} prompts are answered by one side only, and left out"] if n_alone else []
    return [Pair(prompt, first[prompt], second[prompt]) for prompt in shared], notes


def read_human(path: Path) -> dict[str, Winner]:
    """A person's verdicts by key, as `--ask` writes them; a row without a key, made by hand, by its
    prompt. A verdict is A, B or tie: raises DataError for another."""
    found = {}
    table = read_rows(path)
    for row, place in zip(table.rows, table.places, strict=True):
        said = str(row.get("verdict", "")).strip().lower()
        if said not in VERDICTS or not isinstance(row.get("prompt"), str):
            raise DataError(
                f"{path}, {place}: a prompt with a verdict is wanted, the verdict is '{said}'",
                hint="Allowed: A, B, tie.",
            )
        found[row.get("key") or row["prompt"]] = VERDICTS[said]
    return found


def messages_for(prompt: str, first: str, second: str, criteria: str) -> list[dict[str, str]]:
    """What a judge is asked, whoever it is."""
    content = "\n".join(
        (
            f"Which of two answers to a prompt is better? What counts is {criteria}; neither their "
            "order nor their length does.",
            "",
            "[Prompt]",
            prompt,
            "",
            "[Answer 1]",
            first,
            "",
            "[Answer 2]",
            second,
            "",
            "Reply with the number of the better answer, 1 or 2, and nothing else.",
        )
    )
    return [{"role": "user", "content": content}]


class ModelJudge:
    """A chat model that compares. Raises ConfigError for a model without a template, or one that
    spells 1 and 2 with the same first token."""

    def __init__(self, opened: Bundle, criteria: str = CRITERIA) -> None:
        self.name, self.criteria = opened.name, criteria
        self._model, self._tokenizer = opened.model.eval(), opened.tokenizer
        self._template = template_of(opened)
        one, two = self._tokenizer.encode(["1", "2"], special=False)
        if not one or not two or one == two:
            raise ConfigError(
                f"{self.name}'s tokenizer doesn't tell 1 from 2",
                hint="Name another model to judge.",
            )
        self._replies = (tuple(one), tuple(two))

    def shown(self, pair: Pair, *, a_first: bool = True) -> str:
        """The whole text that the model reads of a pair, template included."""
        return self._template.render(self._messages(pair, a_first))

    @torch.inference_mode()
    def judge(self, pairs: Sequence[Pair]) -> Iterator[VerdictRecord]:
        """A verdict a pair, in order. Raises DataError for a pair that the context can't hold."""
        for start in range(0, len(pairs), _AT_ONCE):
            part = pairs[start : start + _AT_ONCE]
            items = [
                self._item(2 * i + swapped, pair, a_first=not swapped)
                for i, pair in enumerate(part)
                for swapped in (False, True)
            ]
            shares = self._shares(items)
            for i, pair in enumerate(part):
                a_first, b_first = shares[2 * i], 1 - shares[2 * i + 1]
                yield VerdictRecord(
                    key=pair.key(self.criteria),
                    by=self.name,
                    prompt=pair.prompt,
                    verdict=winner(a_first, b_first),
                    a_first=a_first,
                    b_first=b_first,
                    n_a=len(pair.a),
                    n_b=len(pair.b),
                )

    def _messages(self, pair: Pair, a_first: bool) -> list[dict[str, str]]:
        first, second = (pair.a, pair.b) if a_first else (pair.b, pair.a)
        return messages_for(pair.prompt, first, second, self.criteria)

    def _item(self, number: int, pair: Pair, *, a_first: bool) -> ChoiceItem:
        stem = self._template.encode(self._messages(pair, a_first), self._tokenizer)
        context = getattr(self._model.config, "context_length", len(stem) + 2)
        if (n := len(stem) + max(map(len, self._replies))) > context:
            raise DataError(
                f"the answers to '{pair.prompt[:60]}' make {n:,} tokens; the judge reads "
                f"{context:,}",
                hint="Shorten the answers (hornbook run chat -n), or name another judge.",
            )
        return ChoiceItem(number, tuple(stem), self._replies, 0, (1, 1))

    def _shares(self, items: Sequence[ChoiceItem]) -> list[float]:
        """Of each item, how likely reply 1 is among the two."""
        found = [0.0] * len(items)
        device = next(self._model.parameters()).device
        for batch in batches(items):
            log_probs = branch_log_probs(self._model, lay([items[i] for i in batch], device))
            shares = log_probs.double().view(-1, 2).softmax(1)[:, 0].tolist()
            for i, share in zip(batch, shares, strict=True):
                found[i] = share
        return found


def by_person(pair: Pair, reply: str, criteria: str) -> VerdictRecord:
    """A person's verdict: 1 for the answer shown first, 2 for the other, = for neither."""
    a_first = pair.a_comes_first(criteria)
    sides: tuple[Winner, Winner] = ("A", "B") if a_first else ("B", "A")
    said: Mapping[str, Winner] = {"1": sides[0], "2": sides[1], "=": "tie"}
    return VerdictRecord(
        key=pair.key(criteria),
        by=PERSON,
        prompt=pair.prompt,
        verdict=said[reply],
        shown_first="A" if a_first else "B",
        n_a=len(pair.a),
        n_b=len(pair.b),
    )


PERSON = "a person"


class Verdicts:
    """A file of one judge's verdicts, a line each; what it holds already is not asked again.

    Half a line that a kill left at its end is taken away. Raises DataError for a file of another
    judge, or that holds other lines.
    """

    def __init__(self, path: Path, by: str) -> None:
        self.path = path
        self.known: dict[str, VerdictRecord] = {}
        data = path.read_bytes() if path.is_file() else b""
        # Not splitlines(): a prompt may hold U+2028 and the like as they are.
        *lines, torn = data.split(b"\n")
        if not _BEGINNING.startswith(torn[: len(_BEGINNING)]):  # not ours to take away
            raise _no_verdict(path, len(lines) + 1)
        for number, line in enumerate(lines, 1):
            try:
                found = VerdictRecord.model_validate_json(line)
            except ValidationError as error:
                raise _no_verdict(path, number) from error
            if found.by != by:
                raise DataError(
                    f"{path} holds verdicts by {found.by}, not by {by}",
                    hint="Take another file: --out F.",
                )
            self.known[found.key] = found
        if torn:
            os.truncate(path, len(data) - len(torn))

    def add(self, verdict: VerdictRecord) -> None:
        """Written down at once: who stops here loses nothing."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(verdict.model_dump_json() + "\n")
        self.known[verdict.key] = verdict


def _no_verdict(path: Path, number: int) -> DataError:
    return DataError(f"{path}, line {number} is no verdict", hint="Take another file: --out F.")


def judge_all(
    judge: ModelJudge,
    pairs: Sequence[Pair],
    verdicts: Verdicts,
    progress: Callable[[int, int], None] = lambda done, n: None,
) -> list[VerdictRecord]:
    """Ask for what the file doesn't know yet; the verdicts on these pairs, in their order."""
    keys = [pair.key(judge.criteria) for pair in pairs]
    missing = [pair for pair, key in zip(pairs, keys, strict=True) if key not in verdicts.known]
    for done, verdict in enumerate(judge.judge(missing), 1):
        verdicts.add(verdict)
        progress(done, len(missing))
    return [verdicts.known[key] for key in keys]


def _answers(path: Path) -> dict[str, str]:
    """Answers by prompt."""
    table = read_rows(path)
    prompt, answer = (_column(table.columns, names, path) for names in (PROMPTS, ANSWERS))
    found: dict[str, str] = {}
    for row, place in zip(table.rows, table.places, strict=True):
        said: Any = row.get(prompt), row.get(answer)
        if not all(isinstance(text, str) for text in said) or not said[0].strip():
            raise DataError(
                f"{path}, {place}: '{prompt}' and '{answer}' are not both text",
                hint="A row is a prompt and its answer; an answer may be empty.",
            )
        if said[0] in found:
            raise DataError(
                f"{path}, {place}: the prompt '{said[0][:60]}' comes a second time",
                hint="Keep one answer to each prompt.",
            )
        found[said[0]] = said[1]
    return found


def _column(columns: Sequence[str], names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in columns:
            return name
    raise DataError(
        f"{path} has no column '{names[0]}'; it has {', '.join(columns)}",
        hint=f"Name it one of: {', '.join(names)}.",
    )
