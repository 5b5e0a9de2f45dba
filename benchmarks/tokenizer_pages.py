"""Claim: the BPE page learns 8,000 merges from 1.1 MB in less than 60 s, the Rust trainer's merges.

    python benchmarks/tokenizer_pages.py [--rounds 3] [--merges 8000]

On one core. Prints what each page takes beside the Rust trainer of the same algorithm, and how many
tokens the text has with either vocabulary; then the speed of encoding with GPT-2's vocabulary, by
the `tokenizers` library as hornbook calls it, and by tiktoken, in turn. Text: tinyshakespeare, else
docstrings, which is said. Needs: pip install 'hornbook[bench]'; encoding needs GPT-2's vocabulary.
"""

from __future__ import annotations

import os

os.environ["RAYON_NUM_THREADS"] = "1"  # before the library starts its threads

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from typing import TypeVar

from claims import at_most, claim
from tokenizers import Tokenizer as RustTokenizer
from tokenizers import models, trainers

from hornbook.data.corpus import open_corpus
from hornbook.errors import UnavailableError
from hornbook.text import bpe, unigram, wordpiece
from hornbook.text.builtin import open_tokenizer
from hornbook.text.byte_level import ALPHABET, BYTE_OF, byte_level
from hornbook.text.tokenizer import BERT_SPECIALS, END_OF_TEXT, Tokenizer
from hornbook.text.train import pieces_of, train_bpe, train_wordpieces

T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--merges", type=int, default=8000)
    arguments = parser.parse_args()
    try:
        corpus = open_corpus("tinyshakespeare")
    except UnavailableError:
        corpus = open_corpus("pydocs")
    text = "".join(itertools.chain(corpus.train(), corpus.validation()))[:1_200_000]
    print(f"{corpus.name}, {len(text.encode()) / 1e6:.2f} MB; one thread")
    training(text, arguments.merges, arguments.rounds)
    encoding(text, arguments.rounds)


def training(text: str, n_merges: int, rounds: int) -> None:
    size = 1 + len(ALPHABET) + n_merges
    pieces = list(pieces_of([text]))
    pages: list[float] = []
    rusts: list[float] = []
    for _ in range(rounds):
        page, seconds = timed(lambda: bpe.train(pieces, size))
        pages.append(seconds)
        rust, seconds = timed(
            lambda: train_bpe(pieces, size, special=[END_OF_TEXT], min_frequency=2)
        )
        rusts.append(seconds)
    ours = [(page.tokens[left], page.tokens[right]) for left, right in page.merges]
    theirs = [tuple(merge) for merge in json.loads(rust.rust.to_str())["model"]["merges"]]
    same = "the same" if ours == theirs else "NOT the same"
    ids = page.encode(text[:100_000]) == rust.encode([text[:100_000]])[0]
    print(f"\n{'':12}{'page':>9}{'Rust':>9}{'ratio':>7}   tokens of the text: page, Rust")
    row("bpe", statistics.median(pages), statistics.median(rusts), page.tokenizer(), rust, pieces)
    print(f"{'':12}{len(ours):,} merges, {same}; the same ids of 100,000 characters: {ids}")
    at_most("BPE page, 1.1 MB to 8,000 merges, seconds", max(pages), 60, digits=1)
    claim("BPE page, the Rust trainer's merges", same, "the same", ours == theirs)

    words, page_s = timed(lambda: wordpiece.train(pieces, n_merges))
    counted, rust_s = timed(
        lambda: train_wordpieces(pieces, n_merges, special=BERT_SPECIALS, min_frequency=2)
    )
    row("wordpiece", page_s, rust_s, words.tokenizer(), counted, pieces)
    print(f"{'':12}the page joins by score, the Rust trainer by count: other vocabularies")
    likely, page_s = timed(lambda: unigram.train(pieces, n_merges))
    library, rust_s = timed(lambda: unigram_of_the_library(pieces, n_merges))
    row("unigram", page_s, rust_s, likely.tokenizer(), library, pieces)


def unigram_of_the_library(pieces: list[str], vocab_size: int) -> Tokenizer:
    rust = byte_level(RustTokenizer(models.Unigram()))
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    rust.train_from_iterator(pieces, trainer)
    return Tokenizer(rust)


def row(
    name: str, page: float, rust: float, ours: Tokenizer, theirs: Tokenizer, pieces: list[str]
) -> None:
    n_ours, n_theirs = (sum(map(len, t.encode(pieces, special=False))) for t in (ours, theirs))
    print(f"{name:12}{page:8.1f}s{rust:8.1f}s{page / rust:7.1f}   {n_ours:,}, {n_theirs:,}")


def encoding(text: str, rounds: int) -> None:
    import tiktoken
    from tiktoken_ext.openai_public import r50k_pat_str

    try:
        gpt2 = open_tokenizer("gpt2")
    except UnavailableError as error:
        print(f"\nno comparison of encoding: {error}")
        return
    ranks = {
        bytes(BYTE_OF[c] for c in token): i
        for i, token in enumerate(gpt2.tokens)
        if token != END_OF_TEXT
    }
    peer = tiktoken.Encoding(
        "gpt2",
        pat_str=r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={END_OF_TEXT: gpt2.id_of(END_OF_TEXT)},
    )
    lines = text.splitlines(keepends=True)
    for what, texts in (("lines", lines), ("one text", [text])):
        ways: dict[str, Callable[[], list[list[int]]]] = {
            "hornbook": lambda texts=texts: gpt2.encode(texts, read_special=False),
            "tiktoken": lambda texts=texts: peer.encode_ordinary_batch(texts, num_threads=1),
        }
        speed: dict[str, list[float]] = {name: [] for name in ways}
        found: dict[str, list[list[int]]] = {}
        for _ in range(rounds):
            for name, encode in ways.items():
                found[name], seconds = timed(encode)
                speed[name].append(len(text.encode()) / seconds / 1e6)
        ours, theirs = (statistics.median(speed[name]) for name in ways)
        print(
            f"\nencoding as {what}: hornbook {ours:.2f} MB/s, tiktoken {theirs:.2f} MB/s, "
            f"ratio {ours / theirs:.2f}; the same ids: {found['hornbook'] == found['tiktoken']}"
        )


def timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


if __name__ == "__main__":
    main()
