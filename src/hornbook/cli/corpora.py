"""`hornbook data show` and `hornbook data stats` of running text."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hornbook.data.text_stats import TextStats

_LISTED = 100  # characters that --json tells the counts of


def running_text(name: str) -> bool:
    """Whether a path holds text without labels: a .txt file and the like, or a glob."""
    from hornbook.data.textfiles import is_text_file

    path = Path(name).expanduser()
    return (path.is_file() and is_text_file(path)) or any(sign in name for sign in "*?[")


def show_corpus(name: str, as_json: bool) -> None:
    """Print what a corpus is, how it is divided, and how it begins."""
    from hornbook.data.corpus import open_corpus

    corpus = open_corpus(name)
    first = next(corpus.train(), "")
    found = {
        "name": corpus.name,
        "source": corpus.source,
        "licence": corpus.licence,
        "n_bytes": corpus.n_bytes,
        "one_text": corpus.one_text,
        "notes": corpus.notes,
        "begins": first[:400],
    }
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    size = f"{corpus.n_bytes:,} bytes" if corpus.n_bytes is not None else "read in a stream"
    print(f"{corpus.name}: running text, {'one text' if corpus.one_text else 'documents'}, {size}")
    print(f"source: {corpus.source}; licence: {corpus.licence or 'not known'}")
    for note in corpus.notes:
        print(f"- {note}")
    for document in islice(corpus.train(), 1 if corpus.one_text else 3):
        excerpt = " ".join(document[:400].split())
        print(f"\n{excerpt[:240]}{'…' if len(excerpt) > 240 else ''}")
    print(f"\nCounts of characters, words, documents: hornbook data stats {name}")


def stats_command(
    source: Annotated[
        str, typer.Argument(help="A corpus's name, a file, folder, glob, table or hub name.")
    ],
    text: Annotated[str | None, typer.Option(help="Column with the text, for tables.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Count a corpus's documents, characters, bytes and words, and which characters there are."""
    from hornbook.data.corpus import open_corpus
    from hornbook.data.text_stats import corpus_stats, unseen

    corpus = open_corpus(source, text=text)
    train, validation = corpus_stats(corpus)
    unknown = unseen(train, validation)
    if as_json:
        found = {
            "name": corpus.name,
            "source": corpus.source,
            "notes": corpus.notes,
            "train": _counts(train),
            "validation": _counts(validation),
            "unseen": unknown,
        }
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(Text(corpus.name))
    for part in ("train", "validation"):
        table.add_column(part, justify="right")
    counts = _counts(train), _counts(validation)
    for row in ("documents", "characters", "bytes", "words", "lines", "different characters"):
        table.add_row(row, *(f"{c['n_' + row.replace(' characters', '')]:,}" for c in counts))
    lengths = [" / ".join(f"{n:,}" for n in part.lengths) for part in (train, validation)]
    table.add_row("document length, 5 / 50 / 95 / 100 %", *lengths)
    Console(highlight=False).print(table)
    print(
        "\ncharacters: " + " ".join(f"{c!r} {n:,}" for c, n in islice(train.characters.items(), 12))
    )
    if rare := [c for c, n in train.characters.items() if n < 10]:
        print(f"fewer than ten times: {len(rare)}: {' '.join(map(repr, rare[:40]))}")
    if unknown:
        n = sum(unknown.values())
        print(
            f"in validation only: {' '.join(map(repr, list(unknown)[:40]))}; {n:,} in all, unknown "
            "to a tokenizer of characters"
        )
    for note in corpus.notes:
        print(f"- {note}")


def _counts(stats: TextStats) -> dict[str, object]:
    return {
        "n_documents": stats.n_documents,
        "n_characters": stats.n_characters,
        "n_bytes": stats.n_bytes,
        "n_words": stats.n_words,
        "n_lines": stats.n_lines,
        "n_different": stats.n_different,
        "document_lengths": dict(zip(("p5", "p50", "p95", "longest"), stats.lengths)),
        "characters": dict(islice(stats.characters.items(), _LISTED)),
    }
