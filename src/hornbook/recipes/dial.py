"""One dial for a language model: its depth sets the width, heads and rates.

Every value that follows from the dial is shown, saved with the run, and can be set instead.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from hornbook.config import Seconds, Settings, settings_from
from hornbook.errors import ConfigError
from hornbook.models.presets import preset

Family = Literal["bigram", "gpt", "gpt2", "llama", "bert", "modern-bert", "seq2seq"]
ENCODERS = frozenset({"bert", "modern-bert"})
Decay = Literal["linear", "cosine", "warm-up-stable-decay"]
OptimizerName = Literal["muon", "adamw", "adamw-8bit"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class Asked(Settings):
    """What a person may set; None is for the dial to decide."""

    family: Family = "gpt"
    data: str
    text: str | None = None  # the column of a table
    source: str | None = None  # of pairs: a column, or the ending of parallel files; and
    target: str | None = None  # what is written from it
    tokenizer: str | None = None  # an algorithm's name, `gpt2`, or a folder
    vocab_size: int | None = Field(None, ge=2)
    depth: int | None = Field(None, ge=1, le=96)  # the dial; by the length of the run when None
    preset: str | None = None
    d_model: int | None = Field(None, ge=1)
    n_heads: int | None = Field(None, ge=1)
    n_layers: int | None = Field(None, ge=1)
    context_length: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)  # windows in one optimiser step
    micro_batch_size: int | None = Field(None, ge=1)  # windows at once; less memory, same result
    time: Seconds | None = None
    steps: int | None = Field(None, ge=1)
    epochs: float | None = Field(None, gt=0)
    optimizer: OptimizerName | None = None
    lr: float | None = Field(None, gt=0)  # of the matrices inside blocks
    lr_embedding: float | None = Field(None, gt=0)
    lr_head: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    warm_up: float | None = Field(None, ge=0, lt=1)  # share of the run
    decay: Decay = "linear"
    clip: float = Field(1.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # of a seq2seq's targets, while it learns
    positions: Literal["rotary", "alibi"] | None = None  # of a modern-bert
    counting: bool = False  # the network stands on n-gram counts of the training text
    cross_documents: bool = False
    gradient_checkpointing: bool = False
    sharded: bool = False  # over several processes: FSDP, instead of DDP
    trackers: tuple[str, ...] = ()  # accelerate's: tensorboard, wandb, ...
    precision: Precision = "auto"
    evaluations: int = Field(10, ge=1)
    patience: int | None = Field(None, ge=1)  # evaluations without a better loss, then stop
    seed: int = 0

    @model_validator(mode="after")
    def _one_length(self) -> Asked:
        given = [name for name in ("time", "steps", "epochs") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how long to train; give one")
        if self.counting and self.family != "gpt":
            raise ValueError(f"counting is for the family 'gpt', not '{self.family}'")
        if self.sharded and self.optimizer == "adamw-8bit":
            raise ValueError(
                "optimizer 'adamw-8bit' keeps its moments in blocks, which are not for sharded "
                "weights; take adamw, whose moments are divided over the processes"
            )
        for_pairs = {
            "source and target are": self.source or self.target,
            "label_smoothing is": self.label_smoothing,
        }
        if self.family != "seq2seq":
            for what, value in for_pairs.items():
                if value:
                    raise ValueError(f"{what} for the family 'seq2seq', not '{self.family}'")
        return self


class Resolved(Asked):
    """`Asked` with every value decided; written to config.yaml, which repeats the run."""

    tokenizer: str
    vocab_size: int
    depth: int
    d_model: int
    n_heads: int
    n_layers: int
    context_length: int
    batch_size: int
    micro_batch_size: int
    optimizer: OptimizerName
    lr: float
    lr_embedding: float
    lr_head: float
    weight_decay: float
    warm_up: float


def resolve(
    asked: Asked, *, vocab_size: int, n_tokens: int, tokenizer: str, longest: int | None = None
) -> Resolved:
    """Decide what was left open. n_tokens: of the training text; longest: of a pair's texts.

    The width is 64 a layer (Kaplan et al. 2020: the ratio hardly matters between 32 and 128), a
    head 64 wide. Raises ConfigError when widths don't divide or the text is too short.
    """
    length = {"time": 120.0} if _no_length(asked) else {}
    depth = asked.depth or _depth(length.get("time", asked.time))
    published = _published(asked)
    n_layers = published.get("n_layers") or asked.n_layers or depth
    d_model = published.get("d_model") or asked.d_model or 64 * depth
    n_heads = published.get("n_heads") or asked.n_heads or _heads(d_model)
    context = asked.context_length or published.get("context_length")
    if context is None:  # what holds the longest pair, or windows of a usual length
        context = -(-longest // 8) * 8 if longest else _context(n_tokens, vocab_size)
    batch = asked.batch_size or max(1, 2048 // context)
    optimizer = asked.optimizer or _usual_optimizer(asked.family)
    muon = optimizer == "muon"
    narrow = (256 / d_model) ** 0.5  # wider models take smaller steps
    decided: dict[str, Any] = {
        "tokenizer": tokenizer,
        "depth": depth,
        "vocab_size": vocab_size,
        "n_layers": n_layers,
        "d_model": d_model,
        "n_heads": n_heads,
        "context_length": context,
        "batch_size": batch,
        "micro_batch_size": asked.micro_batch_size or batch,
        "optimizer": optimizer,
        "lr": asked.lr or _rate(asked.family, muon) * (1.0 if muon else narrow),
        "lr_embedding": asked.lr_embedding or (0.01 if muon else _outer(asked.family)) * narrow,
        "lr_head": asked.lr_head or (0.003 if muon else _outer(asked.family)) * narrow,
        "weight_decay": 0.1 if asked.weight_decay is None else asked.weight_decay,
        "warm_up": _warm_up(asked.family) if asked.warm_up is None else asked.warm_up,
    }
    _check(d_model, n_heads, batch, decided["micro_batch_size"])
    return settings_from(Resolved, **(asked.model_dump() | decided | length))


def derived(asked: Asked, resolved: Resolved) -> dict[str, str | int | float | bool | None]:
    """What the dial decided: the values that nobody gave."""
    given = {name for name, value in asked.model_dump().items() if value is not None}
    if asked.preset:
        given.add("depth")  # which a preset's sizes don't follow from
    return {k: v for k, v in resolved.model_dump().items() if k not in given and v is not None}


def _published(asked: Asked) -> dict[str, int]:
    """The sizes of the preset, none without one. Raises ConfigError for other sizes beside it."""
    if asked.preset is None:
        return {}
    config = preset(asked.preset)[1]
    names = ("n_layers", "d_model", "n_heads", "context_length")
    sizes = {name: getattr(config, name) for name in names}
    for name in names[:3]:
        given = getattr(asked, name)
        if given not in (None, sizes[name]):
            raise ConfigError(
                f"the preset {asked.preset} has {name} {sizes[name]}, not {given}",
                hint="Leave one of them out.",
            )
    return sizes


def _no_length(asked: Asked) -> bool:
    return asked.time is None and asked.steps is None and asked.epochs is None


def _depth(seconds: float | None) -> int:
    """A short run wants many small steps: measured on two cores, experiments/LOG.md."""
    if seconds is None or seconds > 600:
        return 4
    return 2 if seconds < 60 else 3


def _heads(d_model: int) -> int:
    """As many heads as are about 64 wide and divide the width."""
    wanted = max(1, round(d_model / 64))
    return min(
        (n for n in range(1, d_model + 1) if d_model % n == 0), key=lambda n: abs(n - wanted)
    )


def _context(n_tokens: int, vocab_size: int) -> int:
    """128 characters or 256 pieces of words, fewer where the text is short."""
    usual = 128 if vocab_size < 512 else 256
    return max(1, min(usual, 2 ** int(math.log2(max(2, n_tokens // 4)))))


def _rate(family: str, muon: bool) -> float:
    """The usual peak rate of a matrix; large for the bigram's table, whose rows are rarely read."""
    return 0.02 if muon else 0.03 if family == "bigram" else _outer(family)


def _outer(family: str) -> float:
    """Of embedding and head by AdamW; measured for pairs of texts, experiments/LOG.md."""
    return 2e-3 if family == "seq2seq" else 1e-3


def _warm_up(family: str) -> float:
    """Longer where norms stand behind the sums: their first gradients are large near the output
    (Xiong et al. 2020)."""
    return 0.1 if family == "seq2seq" else 0.02


def _usual_optimizer(family: str) -> OptimizerName:
    return "muon" if family == "gpt" else "adamw"


def _check(d_model: int, n_heads: int, batch_size: int, micro_batch_size: int) -> None:
    if d_model % n_heads:
        allowed = [n for n in range(1, d_model + 1) if d_model % n == 0]
        near = sorted(sorted(allowed, key=lambda n: abs(n - n_heads))[:4])
        raise ConfigError(
            f"d_model ({d_model}) must be a multiple of n_heads ({n_heads})",
            hint=f"Try n_heads in {near}.",
        )
    if batch_size % micro_batch_size:
        raise ConfigError(
            f"batch_size ({batch_size}) must be a multiple of micro_batch_size "
            f"({micro_batch_size})",
            hint="Choose a micro-batch that divides the batch: the result is the same.",
        )
