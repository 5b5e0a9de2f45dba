"""What a model is about to see: the tokens of a window, what it shall answer, and what counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hornbook.data.corpus import open_corpus
from hornbook.data.packing import Tokens, pack_corpus
from hornbook.data.shards import MANIFEST, TOKENIZER, TokenShards
from hornbook.data.windows import IGNORE, Windows
from hornbook.errors import ConfigError, DataError
from hornbook.text.builtin import open_tokenizer
from hornbook.text.tokenizer import Tokenizer

NEXT_TOKEN = ("gpt", "llama", "modern-gpt", "bigram", "ngram")  # families whose windows these are


@dataclass(frozen=True)
class Place:
    """One place of a window. target: the next token, None where there is none to be guessed.

    weight: its share in the batch's loss.
    """

    token: int
    text: str
    target: int | None
    target_text: str
    weight: float


@dataclass(frozen=True)
class Source:
    """Tokens with what made them, and how training reads them. name: for people."""

    name: str
    tokens: Tokens
    tokenizer: Tokenizer
    context_length: int
    batch_size: int
    seed: int
    cross_documents: bool

    def windows(self) -> Windows:
        """What training reads first."""
        return Windows(
            self.tokens,
            context_length=self.context_length,
            batch_size=self.batch_size,
            seed=self.seed,
            cross_documents=self.cross_documents,
        )


def open_source(
    path: Path, *, context_length: int | None = None, seed: int | None = None, n_rows: int = 2
) -> Source:
    """Open a folder of shards (its training part), or a run's data as its config.yaml tells.

    What is given goes before what a run was set to; shards are shown with a context of 64 and seed
    0. Raises DataError where the folder is neither, ConfigError for a run that doesn't predict the
    next token.
    """
    folder = path / "train" if (path / "train" / MANIFEST).is_file() else path
    settings: dict[str, Any] = {}
    if (folder / MANIFEST).is_file():
        tokens: Tokens = TokenShards.open(folder, verify=False)
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    elif (path / "config.yaml").is_file():
        settings = _settings(path / "config.yaml")
        tokenizer = open_tokenizer(path)
        data = Path(settings["data"]).expanduser()
        if (data / "train" / MANIFEST).is_file():
            tokens = TokenShards.open(data / "train", verify=False)
        else:
            tokens, _ = pack_corpus(open_corpus(data, text=settings.get("text")), tokenizer)
    else:
        raise DataError(
            f"{path} is neither a folder of shards nor a run",
            hint=f"Shards have a {MANIFEST}, runs a config.yaml. Make shards: hornbook data shard "
            "TEXT --out DIR",
        )
    return Source(
        name=str(path),
        tokens=tokens,
        tokenizer=tokenizer,
        context_length=context_length or settings.get("context_length") or 64,
        batch_size=settings.get("batch_size") or n_rows,
        seed=settings.get("seed", 0) if seed is None else seed,
        cross_documents=bool(settings.get("cross_documents")),
    )


def family_of(path: Path) -> str:
    """The family that a run trains; "" where the folder is no run."""
    file = path / "config.yaml"
    return str(_read(file).get("family", "")) if file.is_file() else ""


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {error}", hint="Is the run complete?") from error
    if not isinstance(found, dict) or "data" not in found:
        raise DataError(f"{path} names no data", hint="Is it a run of `hornbook train`?")
    return found


def _settings(path: Path) -> dict[str, Any]:
    found = _read(path)
    family = found.get("family", NEXT_TOKEN[0])
    if family not in NEXT_TOKEN:
        raise ConfigError(
            f"a {family} does not learn to predict the next token, which is what is shown here",
            hint=f"Families shown: {', '.join(NEXT_TOKEN)}; of seq2seq its pairs.",
        )
    return found


def places(tokens: np.ndarray, targets: np.ndarray, tokenizer: Tokenizer) -> list[list[Place]]:
    """The places of each window of a batch: tokens and targets (B, T)."""
    n_targets = int((targets != IGNORE).sum())
    return [
        [
            Place(
                token,
                spelled(tokenizer, token),
                None if target == IGNORE else target,
                "" if target == IGNORE else spelled(tokenizer, target),
                0.0 if target == IGNORE else 1 / n_targets,
            )
            for token, target in zip(row.tolist(), aims.tolist())
        ]
        for row, aims in zip(tokens, targets)
    ]


def spelled(tokenizer: Tokenizer, token: int) -> str:
    """The text of one token; as its vocabulary writes it where it has none of its own."""
    if token >= len(tokenizer.tokens):
        return f"?{token}"  # shards of another vocabulary
    text = tokenizer.decode([token])
    return tokenizer.tokens[token] if not text or "\ufffd" in text else text
