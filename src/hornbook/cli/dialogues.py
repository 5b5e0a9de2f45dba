"""`hornbook data check`: what a file of conversations holds, and which of its tokens get loss."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from hornbook.data.conversations import Dialogues
    from hornbook.tasks.chat import Chat
    from hornbook.tasks.task import Finding, Shown

N_NAMED = 20  # problems that are printed; all of them are in the JSON


def check_command(
    file: Annotated[Path, typer.Argument(help="Conversations: jsonl, json, csv or parquet.")],
    model: Annotated[
        str | None, typer.Option(help="Show the tokens as this model reads and learns them.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="chatml: for a model without a template.")
    ] = None,
    rows: Annotated[int, typer.Option(min=0, help="Conversations to show.")] = 2,
    column: Annotated[
        list[str] | None,
        typer.Option(help="NAME=COLUMN: messages, prompt, completion, input, system, tools."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check conversations for training: their form, what is wrong by file and line, what is learnt.

    Read are lists of messages, prompts with completions, and the forms of ShareGPT and Alpaca.
    """
    from hornbook.cli.finetune import named
    from hornbook.data.conversations import read_dialogues, summary
    from hornbook.tasks.chat import Chat, ChatParts

    found = read_dialogues(file, dict(map(named, column or [])))
    told = summary(found)
    task, findings = None, []
    if model is not None:
        from hornbook.bundle import open_model

        parts = ChatParts(found.name, found.dialogues, ())
        task = Chat.make(open_model(model), parts, template=template)
        findings = task.check(parts)
    if as_json:
        shown = (
            [_plain(task.show(item)) for item in task.items(found.dialogues[:rows])] if task else []
        )
        told |= {
            "findings": [{"code": f.code, "level": f.level, "what": f.what} for f in findings],
            "conversations": shown,
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
        return
    _show(found, told)
    for finding in findings:
        _say(finding)
    if task is None:
        _show_messages(found, rows)
        print("\n--model NAME shows them as its tokens, and checks its template.")
    else:
        _show_tokens(task, found, rows)


def _show(found: Dialogues, told: dict[str, Any]) -> None:
    messages = ", ".join(f"{n:,} of {role}" for role, n in told["messages"].items())
    print(f"{found.name}: {told['n_conversations']:,} conversations, read as {found.form}")
    print(f"messages: {messages}; {told['n_answers']:,} answers to learn")
    if told["n_with_tools"]:
        print(f"{told['n_with_tools']:,} of them with tools")
    for note in found.notes:
        print(f"- {note}")
    if found.problems:
        print(f"left out: {len(found.problems):,}")
        for problem in found.problems[:N_NAMED]:
            print(f"  {problem}")
        if len(found.problems) > N_NAMED:
            print(f"  and {len(found.problems) - N_NAMED:,} more: --json lists all")
    else:
        print("nothing is wrong with any of them")


def _say(finding: Finding) -> None:
    print(f"{finding.level}: {finding.what}")
    if finding.level != "note":
        for name, words in (("cost", finding.cost), ("mend", finding.mend)):
            if words:
                print(f"  {name}: {words}")


def _show_messages(found: Dialogues, rows: int) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for dialogue in found.dialogues[:rows]:
        console.print(Text(f"\n{dialogue.place}", "bold"), soft_wrap=True)
        answers = dialogue.answers
        for i, message in enumerate(dialogue.messages):
            style = "bold green" if i in answers else "dim"
            text = message["content"] or json.dumps(message.get("tool_calls"), ensure_ascii=False)
            console.print(Text(f"{message['role']}: {text}", style), soft_wrap=True)


def _show_tokens(task: Chat, found: Dialogues, rows: int) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for item in task.items(found.dialogues[:rows]):
        place, n = found.dialogues[item.source].place, int(item.learnt.sum())
        console.print(
            Text(f"\n{place}: {len(item.tokens)} tokens, {n} carry loss", "bold"), soft_wrap=True
        )
        console.print(marked(task.show(item), brackets=not console.is_terminal), soft_wrap=True)
    how = "green" if console.is_terminal else "in [[ ]]"
    print(f"\nWhat carries loss is {how}; all else is read only.")


def marked(shown: Sequence[Shown], *, brackets: bool) -> Text:
    """Tokens with those that carry loss in green, or between brackets where colours are lost."""
    from rich.text import Text

    text, inside = Text(), False
    for part in shown:
        learnt = bool(part.target)
        if brackets and learnt != inside:
            text.append("[[" if learnt else "]]")
        text.append(part.text, "bold green" if learnt else "dim")
        inside = learnt
    if brackets and inside:
        text.append("]]")
    return text


def _plain(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    return [{"token": part.text, "loss": bool(part.target)} for part in shown]
