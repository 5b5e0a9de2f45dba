"""`hornbook data clean`: texts freed of mark-up, or those with certain words, as JSON lines."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from hornbook.errors import ConfigError, DataError


def clean_command(
    source: Annotated[str, typer.Argument(help="A file, folder, glob, table or corpus.")],
    out: Annotated[Path, typer.Option(help="The .jsonl to write, a text a line.")],
    any_of: Annotated[
        str, typer.Option("--any", help="Keep texts with one of these words: pandas,sklearn")
    ] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Leave the texts as they are.")] = False,
    text: Annotated[str | None, typer.Option(help="Column with the text, for tables.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Strip HTML, read entities and tidy white space; or keep texts that hold certain words."""
    from hornbook.data.clean import clean_text, holds_any
    from hornbook.data.corpus import open_corpus
    from hornbook.files import atomic_file

    words = [word.strip() for word in any_of.split(",") if word.strip()]
    if raw and not words:
        raise ConfigError("--raw without --any changes nothing", hint="Give words: --any a,b")
    if out.exists() and not overwrite:
        raise DataError(f"{out} exists already", hint="Choose another, or --overwrite.")
    corpus = open_corpus(source, text=text)
    wanted = holds_any(words) if words else bool
    n_read = n_kept = n_before = n_after = 0
    with atomic_file(out) as path, path.open("w", encoding="utf-8") as file:
        for document in chain(corpus.train(), corpus.validation()):
            cleaned = document if raw else clean_text(document)
            n_read += 1
            n_before += len(document)
            if cleaned and wanted(cleaned):
                n_kept += 1
                n_after += len(cleaned)
                file.write(json.dumps({"text": cleaned}, ensure_ascii=False) + "\n")
        if not n_kept:
            raise DataError(
                f"none of {n_read:,} texts is left",
                hint=f"Is one of {', '.join(words)} in them?" if words else "Are they empty?",
            )
    counts = {"n_read": n_read, "n_kept": n_kept, "share_kept": n_kept / n_read}
    counts |= {"characters_before": n_before, "characters_after": n_after}
    if as_json:
        print(json.dumps({"out": str(out), **counts}, indent=2))
        return
    print(f"{n_kept:,} of {n_read:,} texts kept ({n_kept / n_read:.1%}), in {out}")
    print(f"{n_after:,} of {n_before:,} characters kept")
