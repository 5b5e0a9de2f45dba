"""What a run on pairs of texts reads first: each source, what the decoder is given and has to
answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hornbook.data.peek import Place, spelled
from hornbook.recipes.preparation import prepare
from hornbook.recipes.reading import pair_batches
from hornbook.recipes.training_run import read_settings
from hornbook.tasks.seq2seq import bounds
from hornbook.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PairShown:
    """source: tokens that the encoder reads, its end the last; places: of the decoder."""

    source: list[str]
    places: list[Place]


@dataclass(frozen=True)
class FirstPairs:
    """Some pairs of the first batch. n_pairs, n_targets: of all of it; padding: the share that
    rectangles of an epoch would waste, 0..1."""

    pairs: list[PairShown]
    n_pairs: int
    n_targets: int
    padding: float
    seed: int


def first_pairs(path: Path, *, seed: int | None = None, n_rows: int = 2) -> FirstPairs:
    """The first batch of a run of `hornbook train seq2seq`. seed: of the order; its own if None.

    Raises StudyError and DataError where the run or its data can't be read any more.
    """
    settings = read_settings(path / "config.yaml")
    if seed is not None:
        settings = settings.model_copy(update={"seed": seed})
    tokenizer = Tokenizer.load(path / "tokenizer.json")
    batches = pair_batches(settings, prepare(settings, tokenizer=tokenizer))
    numbers = [int(i) for part in next(batches) for i in part]
    start, _ = bounds(tokenizer)
    n_targets = sum(len(batches.targets[i]) for i in numbers)
    shown = []
    for i in numbers[:n_rows]:
        source, target = batches.sources[i].tolist(), batches.targets[i].tolist()
        places = [
            Place(read, spelled(tokenizer, read), due, spelled(tokenizer, due), 1 / n_targets)
            for read, due in zip([start, *target[:-1]], target, strict=True)
        ]
        shown.append(PairShown([spelled(tokenizer, token) for token in source], places))
    return FirstPairs(shown, len(numbers), n_targets, batches.padding(), settings.seed)
