"""Conversations to learn from: read in the forms they come in, made alike, and looked through.

    messages            {"messages": [{"role": "user", "content": ...}, ...], "tools": [...]}
    prompt/completion   {"prompt": ..., "completion": ...}          texts, or lists of messages
    ShareGPT            {"conversations": [{"from": "human", "value": ...}, ...]}
    Alpaca              {"instruction": ..., "input": ..., "output": ...}

One that is wrong (roles out of order, an empty answer) is left out and named by file and line.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hornbook.data.rows import Table, read_rows
from hornbook.errors import ConfigError, DataError, nearest

Message = dict[str, Any]

COLUMNS = ("messages", "prompt", "completion", "input", "system", "tools", "split")
_MESSAGES = ("messages", "conversations", "conversation", "dialogue")
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "answer"),
)
_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
    "ipython": "tool",
}
_KEPT = ("tool_calls", "name", "tool_call_id", "weight")  # of a message, beside role and content
SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Dialogue:
    """Messages in turn, the last an answer. place: file and line. tools: their JSON definitions.

    A message is a dict of role ("system", "user", "assistant", "tool") and content; an answer may
    have tool_calls, and a weight of 0 where it is not to be learnt.
    """

    place: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] | None = None

    @property
    def answers(self) -> list[int]:
        """Which of the messages are to be learnt."""
        return [
            i
            for i, message in enumerate(self.messages)
            if message["role"] == "assistant" and message.get("weight", 1) != 0
        ]


@dataclass(frozen=True)
class Problem:
    """Why a row was left out. place: file and line."""

    place: str
    code: Literal["form", "roles", "empty"]
    what: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}"


@dataclass(frozen=True)
class Dialogues:
    """What a file holds. splits: the part that each dialogue belongs to, where the file says."""

    name: str
    form: str
    dialogues: list[Dialogue]
    problems: list[Problem]
    notes: list[str] = field(default_factory=list)
    splits: list[str] | None = None


class Wrong(Exception):
    """A conversation that cannot be learnt from: (code, what is wrong with it)."""


def joined(instruction: str, given: str | None) -> str:
    """An instruction with what it is about, if anything, as one message."""
    return f"{instruction}\n{given}" if given and given.strip() else instruction


def read_dialogues(path: Path, columns: Mapping[str, str] | None = None) -> Dialogues:
    """Read a file of conversations, whatever the form.

    columns: where a file calls its columns otherwise, e.g. {"prompt": "q", "completion": "a"}; the
    names are those in `COLUMNS`. Raises DataError where no row is a conversation, no form fits, or
    the column named as "split" says something else than the name of a part.
    """
    table = read_rows(path)
    named = dict(columns or {})
    if unknown := sorted(set(named) - set(COLUMNS)):
        raise ConfigError(
            f"conversations have no '{unknown[0]}'", hint=nearest(unknown[0], COLUMNS)
        )
    if missing := [c for c in named.values() if c not in table.columns]:
        raise DataError(
            f"{table.name} has no column '{missing[0]}'", hint=nearest(missing[0], table.columns)
        )
    convert, form = _form(table, named)
    split = named.get("split", "split")
    dialogues, problems, splits = [], [], []
    n_cut = 0
    for row, place in zip(table.rows, table.places, strict=True):
        where = f"{table.name}, {place}"
        try:
            messages = convert(row)
            kept = in_order(messages)
            dialogues.append(Dialogue(where, tuple(kept), _tools(row, named)))
        except Wrong as wrong:
            problems.append(Problem(where, *wrong.args))
            continue
        n_cut += len(kept) < len(messages)
        splits.append(str(row.get(split) or ""))
    if not dialogues:
        raise DataError(
            f"{table.name}: none of its {len(table.rows):,} rows is a conversation to learn from; "
            f"the first: {problems[0] if problems else 'there is none'}",
            hint="A conversation is messages of user and assistant in turn; see `hornbook data "
            "check --help` for the forms that are read.",
        )
    notes = list(table.notes)
    if n_cut:
        notes.append(
            f"In {n_cut:,} conversations, what comes after the last answer was left out: nobody "
            "answers it."
        )
    strange = [(d.place, s) for d, s in zip(dialogues, splits, strict=True) if s not in SPLITS]
    if strange and any(splits):
        place, value = strange[0]
        said = f"{place}: the split '{value}' in column '{split}' is not known"
        known = f"Known: {', '.join(SPLITS)}."
        if "split" in named:
            raise DataError(said, hint=known)
        notes.append(f"{said}: the column is not used ({len(strange):,} such row(s)). {known}")
    return Dialogues(
        table.name,
        form,
        dialogues,
        problems,
        notes,
        None if strange else [SPLITS[value] for value in splits],
    )


def _form(table: Table, named: Mapping[str, str]) -> tuple[Any, str]:
    """What makes messages of a row, and what the form is called."""
    columns = table.columns
    lists = named.get("messages") or next((c for c in _MESSAGES if c in columns), None)
    if lists and "prompt" not in named:
        first: Any = next((m for row in table.rows for m in _listed(row.get(lists)) or []), {})
        form = "ShareGPT" if isinstance(first, dict) and "from" in first else "messages"
        return (lambda row: _from_messages(row, lists, named)), form
    pair = next((p for p in _PAIRS if p[0] in columns and p[1] in columns), None)
    prompt = named.get("prompt") or (pair and pair[0])
    completion = named.get("completion") or (pair and pair[1])
    if prompt and completion:
        alpaca = pair is not None and pair[0] == "instruction"
        given = named.get("input") or ("input" if "input" in columns else None)
        form = "Alpaca" if alpaca else "prompt and completion"
        return (lambda row: _from_pair(row, prompt, completion, given, named)), form
    raise DataError(
        f"{table.name} holds no conversations: its columns are {', '.join(columns)}",
        hint="Known: messages or conversations; prompt and completion; instruction and output. Or "
        "say which is which: --column prompt=COLUMN --column completion=COLUMN.",
    )


def _listed(value: Any) -> list[Any] | None:
    """A list, or the JSON of one."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    return value if isinstance(value, list) else None


def _from_messages(row: Mapping[str, Any], column: str, named: Mapping[str, str]) -> list[Message]:
    found = _listed(row.get(column))
    if found is None:
        raise Wrong("form", f"'{column}' is no list of messages")
    return _with_system(row, named, [as_message(message) for message in found])


def _from_pair(
    row: Mapping[str, Any],
    prompt: str,
    completion: str,
    given: str | None,
    named: Mapping[str, str],
) -> list[Message]:
    asked, answer = row.get(prompt), row.get(completion)
    before = _listed(asked) if not isinstance(asked, str) else None
    after = _listed(answer) if not isinstance(answer, str) else None
    if before is None:
        text = joined(_text(asked, prompt), _text(row.get(given), given) if given else None)
        messages = [{"role": "user", "content": text}]
    else:
        messages = [as_message(message) for message in before]
    if after is None:
        messages.append({"role": "assistant", "content": _text(answer, completion)})
    else:
        messages += [as_message(message) for message in after]
    return _with_system(row, named, messages)


def _with_system(
    row: Mapping[str, Any], named: Mapping[str, str], messages: list[Message]
) -> list[Message]:
    system = row.get(named.get("system", "system"))
    if isinstance(system, str) and system.strip():
        return [{"role": "system", "content": system}, *messages]
    return messages


def _text(value: Any, column: str | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise Wrong("form", f"'{column}' is no text but {type(value).__name__}")


def as_message(given: Any) -> Message:
    """A message in one form, whoever wrote it. Raises Wrong."""
    if not isinstance(given, Mapping):
        raise Wrong("form", f"a message is no object but {type(given).__name__}")
    role = given.get("role", given.get("from"))
    if not isinstance(role, str) or role not in _ROLES:
        raise Wrong("roles", f"a message's role is {role!r}; {nearest(str(role), _ROLES)}")
    content = given.get("content", given.get("value"))
    if isinstance(content, list):
        content = _of_pieces(content)
    message: Message = {"role": _ROLES[role], "content": _text(content, "content")}
    message |= {key: given[key] for key in _KEPT if given.get(key) is not None}
    if role == "function_call":
        try:
            call = json.loads(message["content"])
        except ValueError as error:
            raise Wrong("form", f"a function_call is not JSON: {error}") from error
        calls = call if isinstance(call, list) else [call]
        message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
        message["content"] = ""
    return message


def _of_pieces(pieces: list[Any]) -> str:
    texts: list[Any] = [
        piece.get("text") if isinstance(piece, Mapping) else piece for piece in pieces
    ]
    if not all(isinstance(text, str) for text in texts):
        raise Wrong("form", "a message holds something else than text")
    return "".join(texts)


def _tools(row: Mapping[str, Any], named: Mapping[str, str]) -> tuple[dict[str, Any], ...] | None:
    value = row.get(named.get("tools", "tools"))
    if value in (None, "", [], "[]"):
        return None
    found = _listed(value)
    if found is None or not all(isinstance(tool, dict) for tool in found):
        raise Wrong("form", "'tools' is no list of definitions")
    return tuple(found)


_MAY_FOLLOW = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}


def in_order(messages: list[Message]) -> list[Message]:
    """The messages up to the last answer. Raises Wrong for what nobody should learn from."""
    before = ""
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in _MAY_FOLLOW[before]:
            after = f"after {before}" if before else "at the beginning"
            expected = " or ".join(_MAY_FOLLOW[before])
            raise Wrong("roles", f"message {number} is of {role} {after}, where {expected} comes")
        if role == "tool" and before == "assistant" and not messages[number - 2].get("tool_calls"):
            raise Wrong("roles", f"message {number} answers a tool call that nobody made")
        if role in ("user", "assistant") and not message["content"].strip():
            if role == "user":
                raise Wrong("empty", f"message {number}: the user says nothing")
            if not message.get("tool_calls"):
                raise Wrong("empty", f"message {number}: the assistant's answer is empty")
        before = role
    answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers:
        raise Wrong("roles", "there is no answer")
    if all(messages[i].get("weight", 1) == 0 for i in answers):
        raise Wrong("empty", "every answer has the weight 0")
    return messages[: answers[-1] + 1]


def summary(found: Dialogues) -> dict[str, Any]:
    """What a file holds, in numbers: for `hornbook data check`."""
    roles = Counter(m["role"] for d in found.dialogues for m in d.messages)
    return {
        "name": found.name,
        "form": found.form,
        "n_conversations": len(found.dialogues),
        "n_answers": sum(len(d.answers) for d in found.dialogues),
        "n_with_tools": sum(d.tools is not None for d in found.dialogues),
        "messages": dict(roles.most_common()),
        "problems": [{"place": p.place, "code": p.code, "what": p.what} for p in found.problems],
        "notes": found.notes,
    }
