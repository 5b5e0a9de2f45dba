"""What a person may set when a model is adapted, and what is decided where they don't."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from hornbook.config import Seconds, Settings
from hornbook.recipes.dial import Decay, Precision

METHODS = ("full", "head", "last-N", "lora", "dora", "qlora")
ADAPTERS = frozenset({"lora", "dora", "qlora"})


class AdaptSettings(Settings):
    """One fine-tuning run; config.yaml, which repeats it. None is for `decided` to decide."""

    task: str
    model: str  # a path, a run, a name of the catalogue or of the hub
    data: str
    columns: dict[str, str] = Field(
        default_factory=dict
    )  # what a person named, by the task's names
    method: str = "full"
    rank: int = Field(16, ge=1)  # of an adapter
    alpha: float | None = Field(None, gt=0)  # twice the rank when None
    adapter_dropout: float = Field(0.0, ge=0, lt=1)
    targets: str | None = None  # a pattern of the layers adapted, all in the blocks when None
    rank_stabilized: bool = False  # scale by alpha / sqrt(rank): Kalajdzievski 2023
    optimizer: Literal["adamw", "adamw-8bit"] = "adamw"  # 8 bits a moment: a quarter of its memory
    lr: float | None = Field(None, gt=0)  # peak rate of the trunk
    layer_decay: float = Field(1.0, gt=0, le=1)  # a block's rate is this share of the next one's
    head_lr_scale: float = Field(1.0, gt=0)  # of the head's rate, over `lr`
    epochs: float | None = Field(None, gt=0)
    steps: int | None = Field(None, ge=1)
    time: Seconds | None = None
    tokens_per_step: int = Field(2048, ge=1)
    examples_per_step: int | None = Field(None, ge=1)  # a step is so many examples, not tokens
    micro_batches: int = Field(1, ge=1)  # parts of a step; less memory, same result
    warm_up: float = Field(0.1, ge=0, lt=1)  # share of the run
    decay: Decay = "linear"
    weight_decay: float = Field(0.01, ge=0)
    clip: float = Field(1.0, gt=0)
    max_tokens: int | None = Field(None, ge=2)  # read of an example; the task's own when None
    dropout: float = Field(0.0, ge=0, lt=1)  # of the trunk
    evaluations: int = Field(6, ge=1)
    patience: int | None = Field(None, ge=1)  # evaluations without a better one, then stop
    gradient_checkpointing: bool = False
    trackers: tuple[str, ...] = ()  # accelerate's: tensorboard, wandb, ...
    precision: Precision = "auto"
    seed: int = 0
    options: dict[str, Any] = Field(default_factory=dict)  # the task's own

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        if method not in METHODS[:2] + METHODS[3:] and not re.fullmatch(r"last-[1-9]\d*", method):
            raise ValueError(f"allowed: {', '.join(METHODS)} (last-2: the upper two blocks)")
        return method

    @model_validator(mode="after")
    def _one_length(self) -> AdaptSettings:
        given = [name for name in ("epochs", "steps", "time") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both say how long to train; give one")
        return self


# At a width of 768. AdamW's usual rate for all weights of an encoder (Devlin et al. 2019, appendix
# A.3); ten times that for an adapter (Schulman et al. 2025, "LoRA Without Regret").
RATES = {"full": 5e-5, "last": 5e-5, "head": 1e-3, "lora": 5e-4, "dora": 5e-4, "qlora": 5e-4}
# A preference goes on pulling when all pairs are told apart; the divergence grows with the rate.
# Each token of a text is a target where words are tagged: steady gradients bear larger steps, and
# a span's head begins from nothing. Of classifiers it was measured (experiments/LOG.md).
# Vectors of texts are tuned at 2e-5 at a width of 768 (Reimers and Gurevych 2019, section 3.2).
PACE = {"dpo": 0.1, "ipo": 0.1, "orpo": 0.1, "kto": 0.1, "tag": 2.0, "answer": 2.0, "embed": 0.4}
PACE |= {"classify": 2.0, "pairs": 2.0, "fill": 2.0}
# A text has one target where it is classified: 2,048 tokens of short ones leave few steps an epoch.
# Names are rare in a text, and data with tags or answers small.
TOKENS = {"classify": 1024, "pairs": 1024, "tag": 1024, "answer": 1024}
EPOCHS = 3.0


@dataclass(frozen=True)
class Decided:
    """The settings with nothing left open, and which of them were decided here."""

    settings: AdaptSettings
    names: tuple[str, ...]


def usual_rate(settings: AdaptSettings, *, d_model: int) -> float:
    """The peak rate where nobody says, for the method, the task and the model's width."""
    rate = RATES[settings.method.partition("-")[0]] * PACE.get(settings.task, 1.0)
    return float(f"{rate * 768 / d_model:.2g}")


def decided(settings: AdaptSettings, *, d_model: int) -> Decided:
    """Rate and length. d_model: the model's width; wider models take smaller steps."""
    found: dict[str, Any] = {}
    if settings.lr is None:
        found["lr"] = usual_rate(settings, d_model=d_model)
    if "tokens_per_step" not in settings.model_fields_set and settings.task in TOKENS:
        found["tokens_per_step"] = TOKENS[settings.task]
    if settings.epochs is settings.steps is settings.time is None:
        found["epochs"] = EPOCHS
    return Decided(settings.model_copy(update=found), tuple(found))
