"""Claim: sharding a corpus and training from it takes under 400 MB, whatever the corpus' size.

    python benchmarks/shards.py [--gigabytes 5] [--tokenizer words|bpe] [--jobs 2] [--folder DIR]

Makes a text of so many gigabytes (random passages of the built-in corpus), writes it as shards as
`hornbook data shard` does in a process of its own, then reads random windows and the validation
part in order in another, and prints the peak resident memory of each and of its children. "words"
is a vocabulary of 65,000 words between spaces, which the Rust library splits four times as fast as
BPE. With --folder what is made stays, and an interrupted run goes on; else it is all removed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from claims import at_most

CONTEXT, BATCH = 1024, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--tokenizer", choices=["words", "bpe"], default="words")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--part", choices=["make", "write", "read"])
    arguments = parser.parse_args()
    if arguments.part:
        parts = {"make": make, "write": write, "read": read}
        parts[arguments.part](arguments)
        return
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="hornbook-shards-"))
    try:
        for part in ("make", "write", "read"):  # each in a process that has nothing else in it
            command = [sys.executable, __file__, "--part", part, "--folder", str(folder)]
            command += ["--gigabytes", str(arguments.gigabytes), "--jobs", str(arguments.jobs)]
            subprocess.run([*command, "--tokenizer", arguments.tokenizer], check=True)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def make(arguments: argparse.Namespace) -> None:
    """The text: passages of the built-in corpus, after each a word never seen; and a tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    from hornbook.data.corpus import open_corpus
    from hornbook.text.train import train_tokenizer

    path, n_bytes = arguments.folder / "text.txt", int(arguments.gigabytes * 1e9)
    if path.is_file() and path.stat().st_size >= n_bytes:
        return
    arguments.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(arguments.folder).free
    if free < 3 * n_bytes:
        raise SystemExit(f"{free / 1e9:.0f} GB free, {3 * n_bytes / 1e9:.0f} needed")
    corpus = open_corpus("pydocs")
    saved = arguments.folder / "tokenizer.json"
    if arguments.tokenizer == "bpe":
        train_tokenizer("bpe", corpus.train, 8192).save(saved)
    else:
        words = dict.fromkeys(word for text in corpus.train() for word in text.split())
        known = {word: i for i, word in enumerate(["<unk>", *list(words)[:65_000]])}
        rust = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
        rust.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        rust.save(str(saved))
    original = "\n".join(corpus.train())
    rng = random.Random(0)
    written = 0
    with path.with_suffix(".part").open("w", encoding="utf-8") as file:
        while written < n_bytes:
            at = original.index(" ", rng.randrange(len(original) - 4000)) + 1
            piece = original[at : original.index(" ", at + rng.randrange(100, 3000))]
            written += file.write(f"{piece}\n{rng.getrandbits(128):x}\n")
    path.with_suffix(".part").rename(path)


def write(arguments: argparse.Namespace) -> None:
    from hornbook.data.corpus import open_corpus
    from hornbook.data.shard_writer import shard_corpus
    from hornbook.text.tokenizer import Tokenizer

    folder = arguments.folder
    watch = Watch()
    start = time.perf_counter()
    corpus = open_corpus(folder / "text.txt", validation_share=0.01)
    counted = time.perf_counter() - start
    train, validation = shard_corpus(
        corpus, folder / "shards", Tokenizer.load(folder / "tokenizer.json"), jobs=arguments.jobs
    )
    seconds = time.perf_counter() - start
    n_bytes = train.n_bytes + validation.n_bytes
    print(
        f"writer: {n_bytes / 1e9:.2f} GB, {(train.n_tokens + validation.n_tokens) / 1e6:,.0f}M "
        f"tokens, {len(train.shards)} + {len(validation.shards)} shards, {arguments.jobs} jobs: "
        f"{seconds:.0f} s this time, of which {counted:.0f} s to know the length"
    )
    watch.say("writer")


def read(arguments: argparse.Namespace) -> None:
    from hornbook.data.shards import TokenShards
    from hornbook.data.windows import Windows

    watch = Watch()
    start = time.perf_counter()
    shards = TokenShards.open(arguments.folder / "shards" / "train")
    opened = time.perf_counter() - start
    windows = Windows(shards, context_length=CONTEXT, batch_size=BATCH, seed=0)
    n_batches = min(8000, 2 * windows.n_windows // BATCH)
    start = time.perf_counter()
    for _ in range(n_batches):
        next(windows)
    rate = n_batches * BATCH * CONTEXT / (time.perf_counter() - start) / 1e6
    start = time.perf_counter()
    validation = TokenShards.open(arguments.folder / "shards" / "validation")
    in_order = Windows.in_order(validation, context_length=CONTEXT, batch_size=BATCH)
    n_read = sum(tokens.size for tokens, _ in in_order)
    print(
        f"reader: {len(shards) / 1e6:,.0f}M tokens opened and verified in {opened:.1f} s; "
        f"{n_batches * BATCH:,} random windows of {CONTEXT} ({windows.epoch:.2f} epochs): "
        f"{rate:.0f}M tokens/s; validation in order: "
        f"{n_read / (time.perf_counter() - start) / 1e6:.0f}M tokens/s"
    )
    print(f"reader: {windows.packing()}")
    watch.say("reader")


class Watch:
    """The peak resident memory of this process and of each of its children, mapped files included.

    On Linux the kernel's own high-water mark, looked at five times a second; elsewhere what is
    resident at these times. (getrusage would count what the parent held when it started a child.)
    """

    def __init__(self) -> None:
        self.peaks: dict[int, int] = {}
        self.together = 0  # of those that are there at the same time
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            self.look()
            time.sleep(0.2)

    def look(self) -> None:
        me = psutil.Process()
        together = 0
        for process in [me, *me.children(recursive=True)]:
            try:
                resident = process.memory_info().rss
                status = Path(f"/proc/{process.pid}/status")
                if status.exists():
                    lines = status.read_text().splitlines()
                    peak = next((x for x in lines if x.startswith("VmHWM")), "VmHWM: 0 kB")
                    resident = int(peak.split()[1]) * 1024
            except (psutil.Error, OSError):  # it has just ended
                continue
            self.peaks[process.pid] = max(self.peaks.get(process.pid, 0), resident)
            together += self.peaks[process.pid]
        self.together = max(self.together, together)

    def say(self, who: str) -> None:
        self.look()
        own = self.peaks.pop(psutil.Process().pid)
        others = ", ".join(f"{peak / 1e6:.0f}" for peak in self.peaks.values()) or "none"
        print(
            f"{who}: peak memory {own / 1e6:.0f} MB; children {others}; together at most "
            f"{self.together / 1e6:.0f} MB"
        )
        at_most(f"{who}, peak memory of all its processes, MB", self.together / 1e6, 400, digits=0)


if __name__ == "__main__":
    main()
