"""`hornbook tokenizer`: train one, compare the algorithms, count, show, adapt and audit."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.working import working
from hornbook.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hornbook.data.corpus import Corpus, Documents
    from hornbook.text.measure import Measures

app = typer.Typer(
    help="Train, compare and look into tokenizers.", no_args_is_help=True, rich_markup_mode=None
)

_DATA = Annotated[str, typer.Option(help="A corpus's name, a file, folder, glob or table.")]
_SOURCE = Annotated[str, typer.Argument(help="A corpus's name, a file, folder, glob or table.")]
_TEXT = Annotated[str | None, typer.Option(help="Column with the text, for tables.")]
_SIZE = Annotated[int | None, typer.Option(help="Tokens in the vocabulary (8192).")]
_OUT = Annotated[Path, typer.Option(help="Folder for the tokenizer.json.")]
_OVERWRITE = Annotated[bool, typer.Option("--overwrite", help="Replace a tokenizer there.")]
_TOKENIZER = Annotated[
    str, typer.Option(help="gpt2, bert-base-uncased, or a folder with a tokenizer.json.")
]
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("train")
def train_command(
    data: _DATA,
    out: _OUT,
    algorithm: Annotated[
        str, typer.Option(help="character, word, bpe, wordpiece or unigram.")
    ] = "bpe",
    vocab_size: _SIZE = None,
    text: _TEXT = None,
    overwrite: _OVERWRITE = False,
    as_json: _JSON = False,
) -> None:
    """Learn a vocabulary from the training part of a corpus, and measure it on the rest."""
    from hornbook.cli.tokenizer_tables import as_dict, in_words
    from hornbook.text.measure import measure
    from hornbook.text.train import ALGORITHMS, train_tokenizer

    _ = ALGORITHMS[algorithm]  # a wrong name is told before anything is read
    path = _free(out, overwrite)
    corpus = _open(data, text)
    with working(f"learning {algorithm} from {corpus.name}") as say:
        tokenizer = train_tokenizer(algorithm, corpus.train, vocab_size, say=say)
        if vocab_size and algorithm != "character" and tokenizer.vocab_size < vocab_size:
            raise ConfigError(
                f"a vocabulary of {vocab_size:,} is larger than the text supports: "
                f"{tokenizer.vocab_size:,} tokens",
                hint=f"Ask for --vocab-size {tokenizer.vocab_size} or less, or give more text.",
            )
        found = measure(tokenizer, corpus.validation())
    tokenizer.save(path)
    if as_json:
        print(json.dumps({"path": str(path), "held_out": as_dict(found)}, indent=2))
        return
    print(f"{path}: {tokenizer.vocab_size:,} tokens")
    print(f"held-out part of {corpus.name}: {in_words(found)}")


@app.command("compare")
def compare_command(
    source: _SOURCE,
    vocab_size: _SIZE = None,
    tokenizer: Annotated[
        list[str] | None, typer.Option(help="Another one to compare: a name or a folder.")
    ] = None,
    text: _TEXT = None,
    as_json: _JSON = False,
) -> None:
    """Put the algorithms side by side: learnt from your text, measured on a part held out."""
    from hornbook.cli.tokenizer_tables import as_dict, show_measures
    from hornbook.text.builtin import BUILT_IN, is_here, open_tokenizer
    from hornbook.text.measure import measure
    from hornbook.text.train import ALGORITHMS, train_tokenizer

    corpus = _open(source, text)
    names = [*filter(is_here, BUILT_IN), *(tokenizer or [])]
    others = {name: open_tokenizer(name) for name in names}
    rows: dict[str, Measures] = {}
    for algorithm in ALGORITHMS:
        with working(f"learning {algorithm} from {corpus.name}") as say:
            learnt = train_tokenizer(algorithm, corpus.train, vocab_size, say=say)
            rows[algorithm] = measure(learnt, corpus.validation())
    for name, other in others.items():
        with working(f"measuring {name}"):
            rows[name] = measure(other, corpus.validation())
    if as_json:
        print(json.dumps({name: as_dict(found) for name, found in rows.items()}, indent=2))
        return
    show_measures(rows)
    print(f"Measured on the held-out part of {corpus.name}. WordPiece and BERT read lower case.")


@app.command("count")
def count_command(
    source: Annotated[str, typer.Argument(help="A file, folder, glob, table or corpus; or -.")],
    tokenizer: _TOKENIZER = "gpt2",
    text: _TEXT = None,
    as_json: _JSON = False,
) -> None:
    """Count the tokens of a text, without special ones."""
    from hornbook.text.builtin import open_tokenizer
    from hornbook.text.measure import count_tokens

    opened = open_tokenizer(tokenizer)
    documents = (lambda: iter((sys.stdin.read(),))) if source == "-" else _all_of(source, text)
    with working(f"counting the tokens of {source}"):
        n = count_tokens(opened, documents())
    print(json.dumps({"tokens": n, "tokenizer": tokenizer, "source": source}) if as_json else n)


@app.command("show")
def show_command(
    text: Annotated[str, typer.Argument(help="A text.")],
    tokenizer: _TOKENIZER = "gpt2",
    as_json: _JSON = False,
) -> None:
    """Show the tokens of a text in colours, with their ids and the characters they stand for."""
    from hornbook.cli.tokenizer_tables import show_tokens
    from hornbook.text.builtin import open_tokenizer

    opened = open_tokenizer(tokenizer)
    encoding = opened([text])[0]
    if as_json:
        keys = ("ids", "tokens", "offsets", "word_ids", "special")
        print(json.dumps({key: getattr(encoding, key) for key in keys}, ensure_ascii=False))
        return
    show_tokens(text, encoding)


@app.command("adapt")
def adapt_command(
    data: _DATA,
    out: _OUT,
    base: Annotated[str, typer.Option("--from", help="The old tokenizer.")] = "gpt2",
    vocab_size: _SIZE = None,
    text: _TEXT = None,
    overwrite: _OVERWRITE = False,
    as_json: _JSON = False,
) -> None:
    """Learn a new vocabulary in an old tokenizer's ways, and count what it saves."""
    from hornbook.cli.tokenizer_tables import as_dict, show_measures
    from hornbook.text.adapt import adapt
    from hornbook.text.builtin import open_tokenizer
    from hornbook.text.measure import measure
    from hornbook.text.train import USUAL_SIZE

    path = _free(out, overwrite)
    old = open_tokenizer(base)
    corpus = _open(data, text)
    with working(f"adapting {base} to {corpus.name}") as say:
        new = adapt(old, corpus.train, vocab_size or USUAL_SIZE, say=say)
        before, after = (measure(t, corpus.validation()) for t in (old, new))
    new.save(path)
    if as_json:
        pair = {"before": as_dict(before), "after": as_dict(after)}
        print(json.dumps({"path": str(path), **pair}, indent=2))
        return
    show_measures({"before": before, "after": after})
    change = after.n_tokens / max(before.n_tokens, 1) - 1
    print(
        f"{path}: {before.n_tokens:,} -> {after.n_tokens:,} tokens on the held-out part of "
        f"{corpus.name} ({change:+.1%})"
    )


@app.command("audit")
def audit_command(
    source: _SOURCE,
    tokenizer: _TOKENIZER = "gpt2",
    top: Annotated[int, typer.Option(min=1, help="How many words to list.")] = 20,
    add: Annotated[int, typer.Option(min=0, help="Give so many of them a token each.")] = 0,
    out: Annotated[Path | None, typer.Option(help="With --add: folder for the result.")] = None,
    text: _TEXT = None,
    overwrite: _OVERWRITE = False,
    as_json: _JSON = False,
) -> None:
    """List the words that a tokenizer splits worst; --add gives them tokens of their own."""
    from hornbook.cli.tokenizer_tables import show_words
    from hornbook.text.builtin import open_tokenizer
    from hornbook.text.measure import count_tokens, words_of, worst_split

    if bool(add) != bool(out):
        raise ConfigError("--add and --out belong together", hint="For example: --add 50 --out DIR")
    path = _free(out, overwrite) if out else None
    opened = open_tokenizer(tokenizer)
    documents = _all_of(source, text)
    with working(f"reading {source}"):
        found = worst_split(opened, words_of(documents()), n=max(top, 4 * add))
    report: dict[str, Any] = {"worst": [asdict(split) for split in found[:top]]}
    if path:
        chosen = [s.word for s in found if opened.can_add(s.word)][:add]
        larger = opened.with_tokens(chosen)
        with working("counting before and after"):
            before, after = (count_tokens(t, documents()) for t in (opened, larger))
        larger.save(path)
        report |= {"added": chosen, "before": before, "after": after, "path": str(path)}
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    show_words(found[:top])
    if path:
        print(
            f"{path}: {len(chosen)} words added, {before:,} -> {after:,} tokens "
            f"({after / max(before, 1) - 1:+.1%}). A model's embedding needs as many new rows."
        )
    elif found:
        print(
            f"To give them tokens: hornbook tokenizer audit {source} --tokenizer {tokenizer} "
            f"--add {min(top, len(found))} --out DIR"
        )


def _open(source: str, text: str | None) -> Corpus:
    from hornbook.data.corpus import open_corpus

    corpus = open_corpus(source, text=text)
    for note in corpus.notes:
        print(f"- {note}", file=sys.stderr)
    return corpus


def _all_of(source: str, text: str | None) -> Documents:
    """All documents of a source; a text file as it stands, not divided into two parts."""
    from hornbook.data.textfiles import documents_of, is_text_file

    path = Path(source).expanduser()
    if path.is_file() and is_text_file(path) and not text:
        notes: list[str] = []
        if next(documents_of(path, notes), None) is None:
            raise DataError(f"{path} is empty", hint="Give a file with some text.")
        return lambda: documents_of(path, notes)
    corpus = _open(source, text)
    return lambda: chain(corpus.train(), corpus.validation())


def _free(out: Path, overwrite: bool) -> Path:
    """Where the tokenizer goes. Raises ConfigError when one is there, unless it may be replaced."""
    path = out / "tokenizer.json"
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists already", hint="Give another --out, or --overwrite.")
    return path
