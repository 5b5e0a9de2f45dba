"""`hornbook data shard` and `hornbook data peek`: text to token files, and a look into them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.data.corpus import Corpus
    from hornbook.data.peek import Place
    from hornbook.data.shard_writer import Written
    from hornbook.text.tokenizer import Tokenizer

_COLOURS = ("black on bright_cyan", "black on bright_yellow", "black on bright_green")


def shard_command(
    sources: Annotated[
        list[str], typer.Argument(help="Corpora, files, folders, globs, tables, hub names.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write `train` and `validation` into.")],
    tokenizer: Annotated[
        str,
        typer.Option(
            help="gpt2, bert-base-uncased, a folder with a tokenizer.json, or one to train on the "
            "text first: character, word, bpe, wordpiece, unigram."
        ),
    ] = "gpt2",
    vocab_size: Annotated[
        int | None, typer.Option(help="Tokens of a tokenizer to be trained.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that tokenize.")] = 1,
    text: Annotated[str | None, typer.Option(help="Column with the text, for tables.")] = None,
    validation: Annotated[
        float | None, typer.Option(help="Share for validation; .1, or a corpus's own.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the division by document.")] = 0,
    shard_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a shard, at least (67,108,864).")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write text as token shards to train from. Interrupted, the same command goes on."""
    from hornbook.data.corpus import joined, open_corpus
    from hornbook.data.shard_writer import SHARD_TOKENS, shard_corpus

    share = validation
    opened = [open_corpus(s, text=text, validation_share=share, seed=seed) for s in sources]
    corpus = joined(opened)
    chosen = _tokenizer(tokenizer, vocab_size, corpus, out)
    size = shard_tokens or SHARD_TOKENS
    started = time.perf_counter()
    try:
        with _progress(corpus.n_bytes, quiet) as tell:
            train, held_out = shard_corpus(
                corpus, out, chosen, jobs=jobs, shard_tokens=size, progress=tell
            )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on behind the last whole shard", file=sys.stderr)
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - started
    parts = {"train": train, "validation": held_out}
    if as_json:
        found = {
            name: {
                "n_tokens": part.n_tokens,
                "n_documents": part.n_documents,
                "n_bytes": part.n_bytes,
                "n_shards": len(part.shards),
            }
            for name, part in parts.items()
        }
        about = {"vocab_size": train.vocab_size, "dtype": train.dtype, "notes": corpus.notes}
        print(json.dumps({"folder": str(out), **about, **found}, indent=2, ensure_ascii=False))
        return
    for note in corpus.notes:
        print(f"- {note}")
    for name, part in parts.items():
        print(
            f"{name}: {part.n_tokens:,} tokens of {part.n_documents:,} document(s), "
            f"{part.n_bytes:,} bytes, {len(part.shards)} shard(s) of {part.dtype[1:]}"
        )
    print(f"{(train.n_bytes + held_out.n_bytes) / 1e6 / max(seconds, 1e-9):.1f} MB/s; in {out}")
    print(f"Train on it: hornbook train gpt --data {out}; look at it: hornbook data peek {out}")


def peek_command(
    path: Annotated[Path, typer.Argument(help="A folder of shards, or a run.")],
    rows: Annotated[int, typer.Option(min=1, help="Windows to show.")] = 2,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a window; a run's own, else 64.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the order; a run's own, else 0.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what training reads first: decoded inputs, targets, and what carries loss."""
    from hornbook.data.peek import family_of, open_source, places

    if family_of(path) == "seq2seq":
        _peek_pairs(path, rows, context, seed, as_json)
        return
    source = open_source(path, context_length=context, seed=seed, n_rows=rows)
    windows = source.windows()
    batch = next(windows)
    found = places(*batch, source.tokenizer)[:rows]
    packing = windows.packing()
    if as_json:
        shown = {
            "source": source.name,
            "context_length": source.context_length,
            "batch_size": source.batch_size,
            "seed": source.seed,
            "packing": {**asdict(packing), "wasted_share": packing.wasted_share},
            "windows": [[asdict(place) for place in row] for row in found],
        }
        print(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    _show(found, f"{packing}")


def _peek_pairs(
    path: Path, rows: int, context: int | None, seed: int | None, as_json: bool
) -> None:
    """The same for a run on pairs: source, what is read of the target, what is to be written."""
    if context is not None:
        raise ConfigError(
            f"{path} reads pairs of texts, which have a length of their own",
            hint="Leave --context out.",
        )
    from rich.console import Console
    from rich.text import Text

    from hornbook.recipes.first_pairs import first_pairs

    found = first_pairs(path, seed=seed, n_rows=rows)
    if as_json:
        print(json.dumps({"source": str(path), **asdict(found)}, indent=1, ensure_ascii=False))
        return
    console = Console(highlight=False)
    for number, pair in enumerate(found.pairs, start=1):
        console.print(f"\npair {number}: {len(pair.places)} tokens to be written", style="bold")
        source, inputs, targets = Text("source  "), Text("inputs  "), Text("targets ")
        for i, token in enumerate(pair.source):
            source.append(_visible(token), _COLOURS[i % len(_COLOURS)])
        for i, place in enumerate(pair.places):
            colour = _COLOURS[i % len(_COLOURS)]
            inputs.append(_visible(place.text), colour)
            targets.append(_visible(place.target_text), colour)
        for line in (source, inputs, targets):
            console.print(line)
    console.print(
        f"\nFirst batch: {found.n_pairs:,} pairs of like length, {found.n_targets:,} targets of "
        f"equal weight; the source carries no loss. Padding: {found.padding:.1%} in rectangles, "
        "none on a processor."
    )


def _show(found: list[list[Place]], packing: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for number, row in enumerate(found, start=1):
        n_targets = sum(place.target is not None for place in row)
        console.print(
            f"\nwindow {number}: {len(row)} tokens, {n_targets} with a target", style="bold"
        )
        inputs, targets = Text("inputs  "), Text("targets ")
        for i, place in enumerate(row):
            colour = _COLOURS[i % len(_COLOURS)]
            inputs.append(_visible(place.text), colour)
            if place.target is None:
                targets.append("×", "white on red")
            else:
                targets.append(_visible(place.target_text), colour)
        console.print(inputs)
        console.print(targets)
        weight = next((place.weight for place in row if place.weight), 0.0)
        line = f"weights {weight:.3g} of the batch's loss each"
        if n_targets < len(row):
            line += (
                f"; 0 at the {len(row) - n_targets} marked ×: not this document's, or seen twice"
            )
        console.print(line)
    console.print(f"\n{packing}")


def _visible(text: str) -> str:
    return text.replace("\n", "⏎").replace("\t", "⇥")


def _tokenizer(name: str, vocab_size: int | None, corpus: Corpus, out: Path) -> Tokenizer:
    """A tokenizer by name or from a folder; or one trained now, kept for when this is resumed."""
    from hornbook.text.builtin import open_tokenizer
    from hornbook.text.tokenizer import Tokenizer
    from hornbook.text.train import ALGORITHMS, train_tokenizer

    if name not in ALGORITHMS or Path(name).exists():
        if vocab_size is not None:
            raise ConfigError(
                f"the tokenizer '{name}' has its vocabulary already",
                hint=f"Leave --vocab-size out, or train one: --tokenizer {', '.join(ALGORITHMS)}.",
            )
        return open_tokenizer(name)
    trained = out / f"{name}-{vocab_size or 'usual'}.json"
    if not trained.is_file():
        train_tokenizer(name, corpus.train, vocab_size).save(trained)
    return Tokenizer.load(trained)


@contextmanager
def _progress(n_bytes: int | None, quiet: bool) -> Iterator[Callable[[str, Written], None] | None]:
    """A bar in a terminal, a line every ten seconds elsewhere; on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if quiet:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    done = {"train": 0, "validation": 0}
    if console.is_terminal:
        with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task("tokenizing", total=n_bytes)

            def move(part: str, written: Written) -> None:
                done[part] = written.n_bytes
                text = f"{part}: {written.n_tokens:,} tokens, {written.n_shards} shards"
                bar.update(task, completed=sum(done.values()), description=text)

            yield move
        return
    said = time.monotonic()

    def say(part: str, written: Written) -> None:
        nonlocal said
        if time.monotonic() - said >= 10:
            said = time.monotonic()
            console.print(
                f"{part}: {written.n_tokens:,} tokens of {written.n_documents:,} documents, "
                f"{written.n_shards} shards",
                soft_wrap=True,
            )

    yield say
