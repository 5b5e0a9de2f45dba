"""`hornbook data`: which data sets and corpora there are, what is in one, what is wrong with it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.clean import clean_command
from hornbook.cli.corpora import running_text, show_corpus, stats_command
from hornbook.cli.dialogues import check_command
from hornbook.cli.select import select_command
from hornbook.cli.shards import peek_command, shard_command

if TYPE_CHECKING:
    from hornbook.data.corpora import CorpusCard
    from hornbook.data.datasets import Card

app = typer.Typer(
    help="List, show and audit data sets and corpora; write token shards; pick what to label.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("stats")(stats_command)
app.command("clean")(clean_command)
app.command("shard")(shard_command)
app.command("peek")(peek_command)
app.command("check")(check_command)
app.command("select")(select_command)

_NAME = Annotated[str, typer.Argument(help="A data set's name, a file or a folder.")]
_TEXT = Annotated[str | None, typer.Option(help="Column with the text.")]
_LABEL = Annotated[str | None, typer.Option(help="Column with the label or labels.")]
_TITLE = Annotated[str | None, typer.Option(help="Column with a title.")]
_SEPARATOR = Annotated[str | None, typer.Option(help="What separates several labels.")]
_JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_command(as_json: _JSON = False) -> None:
    """List the data sets and corpora known by name."""
    from hornbook.data.corpora import corpus_cards
    from hornbook.data.datasets import cards

    found, corpora = cards(), corpus_cards()
    if as_json:
        known = [{"kind": "labelled", **card._asdict()} for card in found]
        known += [{"kind": "running text", **card._asdict()} for card in corpora]
        print(json.dumps(known, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    tables: list[tuple[str, Sequence[Card | CorpusCard]]]
    tables = [("Labelled texts", found), ("Running text", corpora)]
    for heading, rows in tables:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for column in (heading, "what", "size", "licence"):
            table.add_column(column, no_wrap=column == heading)
        for card in rows:
            table.add_row(card.name, card.summary, card.size, card.licence)
        console.print(table)
        print()
    print(
        "Your own: a csv, tsv, jsonl or parquet file, a folder a label, or owner/name of the hub;\n"
        "running text also as txt, a folder or a glob of files, each also .gz, .xz, .zst, or tar."
    )


@app.command("show")
def show_command(
    name: _NAME,
    text: _TEXT = None,
    label: _LABEL = None,
    title: _TITLE = None,
    label_separator: _SEPARATOR = None,
    as_json: _JSON = False,
) -> None:
    """Show a data set or corpus: sizes, labels, notes, and a few texts."""
    from hornbook.data.corpora import CORPORA
    from hornbook.data.datasets import DATASETS
    from hornbook.data.open import open_dataset

    if (name in CORPORA and name not in DATASETS) or running_text(name):
        show_corpus(name, as_json)
        return

    dataset = open_dataset(
        name, text=text, label=label, title=title, label_separator=label_separator
    )
    counts = Counter(label for example in dataset.examples for label in example.labels)
    found: dict[str, Any] = {
        "name": dataset.name,
        "source": dataset.source,
        "licence": dataset.licence,
        "multi_label": dataset.multi_label,
        "n_train": len(dataset.train),
        "n_test": None if dataset.test is None else len(dataset.test),
        "labels": dict(counts.most_common()),
        "notes": dataset.notes,
    }
    if as_json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    kind = "several labels a text" if dataset.multi_label else "one label a text"
    test = "no test split" if dataset.test is None else f"{len(dataset.test):,} test texts"
    print(f"{dataset.name}: {len(dataset.train):,} training texts, {test}, {len(counts)} labels")
    print(f"{kind}; source: {dataset.source}; licence: {dataset.licence or 'not known'}")
    for note in dataset.notes:
        print(f"- {note}")
    print("\nlabels: " + ", ".join(f"{k} {n:,}" for k, n in counts.most_common(20)))
    if len(counts) > 20:
        print(f"  and {len(counts) - 20} rarer ones")
    first = {example.labels: example for example in reversed(dataset.train)}
    for example in sorted(first.values(), key=lambda e: -counts[e.labels[0]])[:3]:
        excerpt = " ".join(example.document.full.split())
        print(f"\n[{', '.join(example.labels)}] {excerpt[:240]}{'…' if len(excerpt) > 240 else ''}")


@app.command("audit")
def audit_command(
    name: _NAME,
    text: _TEXT = None,
    label: _LABEL = None,
    title: _TITLE = None,
    label_separator: _SEPARATOR = None,
    seed: Annotated[int, typer.Option(help="Seed of the splits.")] = 0,
    as_json: _JSON = False,
) -> None:
    """Audit a data set: duplicates, leaks, empty texts, label counts, likely label errors."""
    from hornbook.data.audit import audit
    from hornbook.data.open import open_dataset
    from hornbook.data.splits import make_splits

    dataset = open_dataset(
        name, text=text, label=label, title=title, label_separator=label_separator
    )
    splits = make_splits(dataset, seed=seed)
    found = audit(splits, multi_label=dataset.multi_label)
    if as_json:
        print(found.model_dump_json(indent=2))
        return
    print(f"{dataset.name}: {found.n_texts:,} texts, {found.n_labels} labels")
    print(
        f"words a text: {found.words_median:.0f} in the middle, 90 % between "
        f"{found.words_p5:.0f} and {found.words_p95:.0f}, {found.words_max:,} at most"
    )
    print(
        f"duplicates: {found.n_exact_duplicates:,} exact, {found.n_near_duplicates:,} near; "
        f"{found.n_leaks:,} test texts have a near-duplicate in training"
    )
    for sentence in [*dataset.notes, *splits.notes, *found.findings]:
        print(f"- {sentence}")
    if found.label_issues:
        print("\nLabels that look wrong (given -> suggested):")
    for issue in found.label_issues[:10]:
        change = f"{', '.join(issue.given)} -> {', '.join(issue.suggested) or 'none'}"
        print(f"  {issue.id}: {change}: {' '.join(issue.excerpt.split())[:100]}")
