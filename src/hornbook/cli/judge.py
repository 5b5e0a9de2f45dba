"""`hornbook judge`: which of two files of answers is better, by a local model or by a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.cli.harmless import harmless
from hornbook.cli.progress import counting
from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.bundle import Bundle
    from hornbook.recipes.judge import Pair, Verdicts
    from hornbook.records import JudgingRecord, VerdictRecord


def command(
    a: Annotated[Path, typer.Argument(help="Answers of A: rows of prompt and answer.")],
    b: Annotated[Path, typer.Argument(help="Answers of B to the same prompts.")],
    by: Annotated[str | None, typer.Option(help="The model that judges: one that chats.")] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Judge yourself, sides hidden.")] = False,
    criteria: Annotated[
        str | None, typer.Option(help='What counts: "how correct it is", "how short it is".')
    ] = None,
    human: Annotated[
        Path | None, typer.Option(help="A person's verdicts, to agree with: prompt, verdict.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The verdicts' file; what it holds is not asked again.")
    ] = None,
    show_prompt: Annotated[
        bool, typer.Option("--show-prompt", help="Print what the judge reads of the first pair.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Judge answers in pairs: each pair in both orders, a verdict that flips is a tie.

    Beside the win rate stand the judge's faults: how often the order decides, and the length.
    """
    from hornbook.evaluation.judging import judged
    from hornbook.recipes import judge as recipe

    if ask == (by is not None):
        raise ConfigError(
            "either a model judges or you do",
            hint="Give --by MODEL (hornbook models lists those that chat), or --ask.",
        )
    criteria = criteria or recipe.CRITERIA
    known = None if human is None else recipe.read_human(human)
    pairs, notes = recipe.read_pairs(a, b)
    if show_prompt:
        print(harmless(_prompt(by, pairs[0], criteria)))
        return
    path = out or Path("my-verdicts.jsonl" if ask else "verdicts.jsonl")
    verdicts = recipe.Verdicts(path, by or recipe.PERSON)
    if by is None:
        found = _asked(pairs, verdicts, criteria)
    else:
        judge = recipe.ModelJudge(_opened(by), criteria)
        found = recipe.judge_all(judge, pairs, verdicts, counting("pairs judged"))
    if not found:
        print("nothing was judged", file=sys.stderr)
        return
    names = (a.stem, b.stem) if a.stem != b.stem else (str(a), str(b))
    record = judged(found, a=names[0], b=names[1], human=known)
    record = record.model_copy(update={"verdicts": str(path), "notes": notes})
    print(record.model_dump_json(indent=2)) if as_json else _show(record)


def _opened(model: str) -> Bundle:
    from hornbook.cli.writers import open_bundle

    return open_bundle(model, "float32")


def _prompt(by: str | None, pair: Pair, criteria: str) -> str:
    from hornbook.recipes.judge import ModelJudge, messages_for

    if by is None:
        return messages_for(pair.prompt, pair.a, pair.b, criteria)[0]["content"]
    return ModelJudge(_opened(by), criteria).shown(pair)


def _asked(pairs: Sequence[Pair], verdicts: Verdicts, criteria: str) -> list[VerdictRecord]:
    """Ask a person for what is not judged yet, until there is no more or they have had enough."""
    from hornbook.recipes.judge import by_person

    print(f"Which answer is better, by {criteria}?", file=sys.stderr)
    for number, pair in enumerate(pairs, 1):
        if pair.key(criteria) in verdicts.known:
            continue
        reply = _reply(pair, criteria, f"{number} of {len(pairs)}")
        if reply is None:
            break
        verdicts.add(by_person(pair, reply, criteria))
    keys = [pair.key(criteria) for pair in pairs]
    return [verdicts.known[key] for key in keys if key in verdicts.known]


def _reply(pair: Pair, criteria: str, where: str) -> str | None:
    """1, 2 or =; None where they stop."""
    first, second = (pair.a, pair.b) if pair.a_comes_first(criteria) else (pair.b, pair.a)
    for heading, text in ((where, pair.prompt), ("answer 1", first), ("answer 2", second)):
        print(f"── {heading} ──\n{harmless(text)}\n", file=sys.stderr)
    while True:
        print("1, 2, = (alike), q (stop): ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or line.strip() == "q":
            return None
        if line.strip() in ("1", "2", "="):
            return line.strip()


def _show(record: JudgingRecord) -> None:
    from hornbook.cli.evaluate import number

    print(f"A {record.a}, B {record.b}: {record.n_pairs} pairs, by {record.by}")
    print(f"A wins {record.wins}, B wins {record.losses}, ties {record.ties}")
    words = {
        "win_rate": "A's win rate, a tie counts half",
        "flips": "the order decides (flips)",
        "chose_first": "the answer shown first is chosen",
        "preferred_longer": "the longer one wins, where decided",
    }
    for figure in record.figures:
        known = figure.low is not None
        interval = f"  95 % {number(figure.low)} to {number(figure.high)}" if known else ""
        print(f"  {words[figure.name]:<36} {number(figure.value)}{interval}")
    if record.agreement is not None:
        found = record.agreement
        said = f"kappa {number(found.kappa)}, {found.n_pairs} pairs"
        print(f"  {'agrees with the person':<36} {number(found.share)}  {said}")
    print(record.says)
    for note in record.notes:
        print(f"- {note}")
    print(f"verdicts {record.verdicts}")
