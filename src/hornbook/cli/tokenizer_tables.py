"""What `hornbook tokenizer` prints: measures side by side, words split worst, a text in tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from hornbook.text.encoding import Encoding
    from hornbook.text.measure import Measures, SplitWord

_COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green")


def as_dict(found: Measures) -> dict[str, Any]:
    """All figures, those that follow from others included."""
    names = ("tokens_per_word", "bytes_per_token", "unknown_share")
    return asdict(found) | {name: getattr(found, name) for name in names}


def in_words(found: Measures) -> str:
    return (
        f"{found.n_tokens:,} tokens, {found.tokens_per_word:.2f} a word, "
        f"{found.bytes_per_token:.2f} bytes each; {found.used_share:.0%} of the vocabulary used, "
        f"{found.unknown_share:.2%} unknown"
    )


def show_measures(rows: dict[str, Measures]) -> None:
    """A row a tokenizer, and below the words that each of them splits worst."""
    table = _table("tokenizer", "vocab", "tokens/word", "bytes/token", "used", "unknown")
    table.add_column("MB/s", justify="right", no_wrap=True)
    for name, found in rows.items():
        table.add_row(
            Text(name if len(name) <= 18 else f"…{name[-17:]}"),  # a folder's
            f"{found.vocab_size:,}",
            f"{found.tokens_per_word:.2f}",
            f"{found.bytes_per_token:.2f}",
            f"{found.used_share:.0%}",
            f"{found.unknown_share:.2%}",
            f"{found.bytes_per_second / 1e6:.1f}",
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(Text("\nsplits worst", "bold"))
    for name, found in rows.items():
        words = "  ".join(_cut(split) for split in found.worst[:3]) or "nothing"
        console.print(Text(f"{name}: {words}", "dim"), soft_wrap=True)
    console.print()


def show_words(worst: Sequence[SplitWord]) -> None:
    """Words, how often they occur, and what a token of their own would save."""
    if not worst:
        print("No word is split into three or more tokens.")
        return
    table = _table("word", "times", "tokens", "could save")
    table.add_column("pieces", overflow="fold")
    for split in worst:
        numbers = (f"{split.count:,}", str(len(split.pieces)), f"{split.saved:,}")
        table.add_row(Text(split.word), *numbers, Text(_cut(split), style="dim"))
    Console(highlight=False).print(table)


def show_tokens(text: str, encoding: Encoding) -> None:
    """The text in colours, a colour a token, and a row a token with its id and its characters."""
    line = Text()
    table = _table("token", "id", "characters")
    table.add_column("of the text", no_wrap=True)
    shown = 0  # a character of several tokens is shown once
    for i, (start, end) in enumerate(encoding.offsets):
        token = encoding.tokens[i]
        if encoding.special[i] and start == end:  # added around the text
            line.append(token, "dim")
            table.add_row(Text(token, "dim"), str(encoding.ids[i]), "", "")
            continue
        style = _COLOURS[i % len(_COLOURS)]
        line.append(text[shown:start])  # spaces that no token stands for
        line.append(text[max(start, shown) : end], style)
        shown = max(shown, end)
        part = Text(repr(text[start:end])[1:-1], style)
        table.add_row(Text(token), str(encoding.ids[i]), f"{start}–{end}", part)
    console = Console(highlight=False)
    console.print(line, soft_wrap=True)
    console.print(table)
    n_bytes = len(text.encode(errors="replace"))
    print(f"{len(encoding)} tokens, {len(text)} characters, {n_bytes} bytes")


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cut(split: SplitWord) -> str:
    return "·".join(split.pieces).strip()
