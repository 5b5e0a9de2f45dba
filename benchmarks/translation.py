"""Claim: an encoder-decoder trained from nothing on Multi30k reaches 30 sacreBLEU within an hour of
two cores, English to German on flickr2016 (13a, one reference); and its beam search writes the
texts that transformers writes, faster.

    HORNBOOK_DATA=… python benchmarks/translation.py [--time 55m] [--run RUN] [--beams 5]

Trains with `hornbook train seq2seq` for --time (or takes the finished --run), then scores the test
part, greedily and with beams, with 95 % intervals by bootstrap over its 1,000 sentences. Then both
libraries search with the same weights over the same sentences in the same batches, in turns; the
first turn is left out and the ratio is the median. Texts that differ are counted: where two tokens
are equally likely, rounding decides.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from claims import at_least

from hornbook import bundle
from hornbook.data.written import SourceText, open_sources
from hornbook.evaluation.evaluate import with_intervals
from hornbook.generation.translate import translate
from hornbook.tasks.seq2seq import bounds
from hornbook.tasks.writing_metrics import bleu, chrf

SETTINGS = ("d_model=256", "n_layers=3", "n_heads=4", "dropout=0.15", "label_smoothing=0.1")
LONGEST = 56  # tokens written at most
AT_ONCE, TURNS = 32, 5


def train(data: Path, length: str, out: Path) -> None:
    """As anybody would: by the command."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    command = [sys.executable, "-m", "hornbook.cli.main", "train", "seq2seq", "--data", str(data)]
    command += ["--source", "en", "--target", "de", "--tokenizer", "bpe", "--vocab-size", "8000"]
    subprocess.run(
        [*command, *settings, "--time", length, "--out", str(out), "--quiet"], check=True
    )


def score(opened: bundle.Bundle, test: list[SourceText], n_beams: int) -> None:
    """BLEU and chrF of a search, with their intervals."""
    began = time.perf_counter()
    written = translate(
        opened.model,
        opened.tokenizer,
        [one.source for one in test],
        max_tokens=LONGEST,
        n_beams=n_beams,
    )
    seconds = time.perf_counter() - began
    metrics = [measure(written, [one.targets for one in test]) for measure in (bleu, chrf)]
    figures = ", ".join(
        f"{m.name} {m.value:.2f} ({m.low:.2f} to {m.high:.2f})" for m in with_intervals(metrics)
    )
    search = "greedy" if n_beams == 1 else f"{n_beams} beams"
    print(f"{search}: {figures}; {len(test)} sentences in {seconds:.1f} s")
    at_least(f"Multi30k en-de from nothing, flickr2016, sacreBLEU, {search}", metrics[0].value, 30)
    if n_beams == 1:
        print(f"  signature {metrics[0].note}")


def beside(opened: bundle.Bundle, folder: Path, test: list[SourceText], n_beams: int) -> None:
    """The same search by transformers, in turns with ours."""
    from transformers import MarianMTModel

    theirs = MarianMTModel.from_pretrained(folder).eval()
    start, end = bounds(opened.tokenizer)
    ratios, n_different, n = [], 0, 0
    for turn in range(TURNS):
        sources = [one.source for one in test[turn * AT_ONCE : (turn + 1) * AT_ONCE]]
        rows = opened.tokenizer.encode(sources, special=False)
        rows = [[*row, end] for row in rows]
        width = max(map(len, rows))
        ids = torch.tensor([[*row, *[end] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        began = time.perf_counter()
        said = theirs.generate(
            ids,
            attention_mask=mask,
            num_beams=n_beams,
            max_new_tokens=LONGEST - 1,
            decoder_start_token_id=start,
            eos_token_id=end,
            pad_token_id=end,
        )
        between = time.perf_counter()
        ours = translate(
            opened.model, opened.tokenizer, sources, max_tokens=LONGEST - 1, n_beams=n_beams
        )
        ended = time.perf_counter()
        n_different += sum(
            opened.tokenizer.decode(row) != text for row, text in zip(said.tolist(), ours)
        )
        n += len(sources)
        if turn:
            ratios.append((between - began) / (ended - between))
    print(
        f"{n_beams} beams, {AT_ONCE} sentences at once: {min(ratios):.2f} to {max(ratios):.2f} "
        f"times transformers' generate; {n_different} of {n} texts differ"
    )
    at_least(f"{n_beams} beams, speed, times transformers' generate", statistics.median(ratios), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", default="55m", help="how long to train")
    parser.add_argument(
        "--run", type=Path, default=Path("runs/translation"), help="where the run is, or will be"
    )
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--n", type=int, help="score only so many sentences")
    given = parser.parse_args()
    data = Path(os.environ["HORNBOOK_DATA"]) / "multi30k"
    if not (given.run / "summary.json").is_file():
        train(data, given.time, given.run)
    summary = json.loads((given.run / "summary.json").read_text(encoding="utf-8"))
    print(f"trained in {summary['seconds'] / 60:.1f} minutes, {summary['n_steps']:,} steps")
    columns = {"source": "en", "target": "de", "test": "test_2016_flickr"}
    test = (open_sources(str(data), columns, seed=0).test or [])[: given.n]
    opened = bundle.load(given.run)
    score(opened, test, 1)
    score(opened, test, given.beams)
    beside(opened, given.run / "model", test, given.beams)


if __name__ == "__main__":
    main()
