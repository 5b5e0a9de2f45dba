"""/docs: the OpenAPI document as a plain page, with no script and nothing from anywhere else."""

from __future__ import annotations

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8886; border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; }
th, td { border-bottom: 1px solid #8884; }
section { margin: 2rem 0; }
"""


def docs_page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: each operation, what it takes, what it answers."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>{escape(info['title'])}: the API</title><link rel=stylesheet href=/docs.css>",
        f"<body><main><h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        "<p>An API in OpenAI's form. For programs: <a href=/openapi.json>openapi.json</a>.",
    ]
    shapes = document.get("components", {}).get("schemas", {})
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation, shapes))
    parts.append("<h2>Shapes</h2>")
    for name, shape in sorted(shapes.items()):
        text = escape(json.dumps(shape, indent=2, ensure_ascii=False))
        parts.append(
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
            f"<pre>{text}</pre></details>"
        )
    return "\n".join([*parts, "</main></body></html>"])


def _operation(path: str, method: str, operation: dict[str, Any], shapes: dict[str, Any]) -> str:
    heading = f"<section><h2><code>{method.upper()} {escape(path)}</code></h2>"
    about = f"<p>{escape(operation.get('description') or operation.get('summary', ''))}"
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = asked.get("schema", {}).get("$ref", "").rpartition("/")[2]
    fields = _fields(shapes[name]) if name in shapes else ""
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(response.get('description', ''))}"
        for status, response in sorted(operation.get("responses", {}).items())
    )
    return f"{heading}{about}{fields}<table><tr><th>Status<th>Meaning{rows}</table></section>"


def _fields(shape: dict[str, Any]) -> str:
    needed = set(shape.get("required", ()))
    rows = []
    for name, field in shape.get("properties", {}).items():
        mark = " (needed)" if name in needed else ""
        about = escape(field.get("description", ""))
        rows.append(
            f"<tr><td><code>{escape(name)}</code>{mark}<td>{escape(_kind(field))}<td>{about}"
        )
    return f"<table><tr><th>Field<th>Type<th>About{''.join(rows)}</table>"


def _kind(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if options := field.get("anyOf") or field.get("oneOf"):
        return " | ".join(dict.fromkeys(_kind(option) for option in options))
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("const", field.get("type", "any")))
