"""Calls of tools in what a model writes.

Models write them in the form of their chat template. Two forms cover those that we open:

    <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>      Qwen, Hermes, SmolLM2
    {"name": "add", "parameters": {"a": 1}}                            Llama 3: the whole answer

with a list in the place of an object for several at once. What names no tool that was offered, or
is no JSON, stays the text it is.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from hornbook.serving.refusals import invalid
from hornbook.serving.schemas import NamedTool, Tool

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


class ToolReader:
    """Parts an answer, as it comes, into text to be shown and `calls`, found at its end."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._kept = ""
        self._said = False
        self.calls: list[dict[str, Any]] = []

    def feed(self, piece: str, *, last: bool = False) -> str:
        """The text that is certainly no call."""
        self._kept += piece
        if last:
            text, self._kept = self._part(self._kept), ""
            return text
        if not self._said and self._kept.lstrip()[:1] in ("", "{", "["):
            return ""  # perhaps one whole call
        at = self._kept.find(_OPEN)
        if at < 0:
            at = len(self._kept) - _overlap(self._kept, _OPEN)
        text, self._kept = self._kept[:at], self._kept[at:]
        self._said = self._said or bool(text)
        return text

    def _part(self, text: str) -> str:
        if not self._said and (found := self._read(text)):
            self.calls += found
            return ""
        shown = []
        while True:
            before, opened, rest = text.partition(_OPEN)
            inside, _, text = rest.partition(_CLOSE)
            shown.append(before)
            if not opened:
                break
            found = self._read(inside)
            self.calls += found
            if not found:
                shown.append(opened + rest[: len(rest) - len(text)])
        whole = "".join(shown)
        return whole.rstrip() if self.calls else whole

    def _read(self, text: str) -> list[dict[str, Any]]:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return []
        items = value if isinstance(value, list) else [value]
        calls = [self._call(item) for item in items]
        return [call for call in calls if call] if all(calls) else []

    def _call(self, item: Any) -> dict[str, Any] | None:
        if not isinstance(item, dict) or item.get("name") not in self._names:
            return None
        arguments = item.get("arguments", item.get("parameters"))
        if not isinstance(arguments, dict):
            return None
        text = json.dumps(arguments, ensure_ascii=False)
        function = {"name": item["name"], "arguments": text}
        return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of a text may be the beginning of a tag."""
    return next((n for n in range(len(tag) - 1, 0, -1) if text.endswith(tag[:n])), 0)


def forced_schema(tools: Sequence[Tool], choice: NamedTool | str) -> dict[str, Any]:
    """The JSON schema of a call, where one is required. Raises Refusal for a tool not offered."""
    chosen = list(tools)
    if isinstance(choice, NamedTool):
        chosen = [tool for tool in tools if tool.function.name == choice.function.name]
        if not chosen:
            raise invalid("tool_choice names a tool that is not offered", param="tool_choice")
    forms: list[dict[str, Any]] = []
    definitions: dict[str, Any] = {}
    for tool in chosen:
        parameters = dict(tool.function.parameters or {"type": "object"})
        for key in ("$defs", "definitions"):
            found = parameters.pop(key, None)
            if isinstance(found, dict):
                definitions.setdefault(key, {}).update(found)
        form = {
            "type": "object",
            "properties": {"name": {"const": tool.function.name}, "arguments": parameters},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        forms.append(form)
    return (forms[0] if len(forms) == 1 else {"anyOf": forms}) | definitions
