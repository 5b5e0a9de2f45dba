"""What a training run writes down: a plan beforehand, metrics.jsonl on the way, summary.json.

Losses are nats per token; None where one was not finite, as JSON has no word for that.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter

from hornbook.records.base import EnergySource, Environment, Record

Setting = str | int | float | bool | None | list[str] | list[int] | list[float]
RunStatus = Literal["finished", "stopped early", "out of time", "interrupted", "failed"]
Sharding = Literal["none", "ddp", "fsdp"]
Pattern = Literal[
    "too short",
    "no learning",
    "divergence",
    "leak",
    "overfitting",
    "noisy",
    "plateau",
    "still learning",
    "healthy",
]


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Finite = Annotated[float | None, BeforeValidator(_finite_or_none)]


class MemoryRecord(Record):
    """Bytes on one device at the moment when most are held, by what they are for."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # kept for the backward pass, embeddings and head aside
    head: int  # logits, their softmax and gradient
    working: int  # copies in another number format, buffers of gathers and products
    counts: int = 0  # n-grams of the training text, for a network on counts
    total: int
    activations_per_layer: int = 0  # what one block keeps for the backward pass


class ClusterRecord(Record):
    """The machines of a plan: `n_devices` alike, and what an hour of one costs."""

    n_devices: int
    device: str  # "cpu", "A100 80 GB", ...
    sharding: Sharding
    device_bytes: int  # memory of one device that a run may use
    matrix_speed: float  # FLOP/s of one device's matrix products: measured, or as stated
    utilisation: float  # share of it that training is expected to reach, 0..1
    speed_source: Literal["measured", "stated"]
    price_per_hour: float | None = None  # of one device
    currency: str = "USD"


class PlanRecord(Record):
    """What a run will take, worked out from the architecture alone; nothing is allocated for it."""

    model: str
    n_parameters: int
    vocab_size: int
    context_length: int
    batch_size: int  # sequences in one optimiser step, over all devices
    micro_batch_size: int  # sequences at once on one device
    n_steps: int
    n_tokens: int  # read in training, passes over the same text counted each time
    flops_per_token: float  # forward and backward
    flops: float  # of the whole run
    precision: str  # of matrix products: "float32", "bfloat16", "float16"
    gradient_checkpointing: bool
    memory: MemoryRecord
    seconds: float
    tokens_per_second: float
    cost: float | None = None
    cluster: ClusterRecord
    fits: bool
    verdict: str  # a sentence: fits, or does not
    changes: list[str] = Field(default_factory=list)  # settings that would make it fit
    notes: list[str] = Field(default_factory=list)
    settings: dict[str, Setting] = Field(default_factory=dict)  # sizes of the architecture


class PlanCheck(Record):
    """One quantity of the plan beside what happened. error: (predicted - actual) / actual."""

    quantity: str
    unit: Literal["", "tokens", "bytes", "seconds", "tokens/s", "FLOPs", "share"]
    predicted: float
    actual: float
    error: Finite = None


class StepRecord(Record):
    """A line of metrics.jsonl: one optimiser step; step, tokens and seconds count from the start.

    refused: the loss or gradient was not finite and the step was not taken.
    """

    kind: Literal["step"] = "step"
    step: int
    tokens: int
    seconds: float
    loss: Finite
    lr: float
    gradient_norm: Finite = None
    tokens_per_second: float = 0.0
    refused: bool = False


class EvaluationRecord(Record):
    """A line of metrics.jsonl: losses in nats per token. train_loss: by the same model, on a fixed
    sample of the training text, or averaged over recent steps where that was not measured.

    final: of the model that was kept, on the whole validation text, after those on a sample of it.
    metrics: the task's own, where a model is adapted; score: what the best is chosen by, lower is
    better, the loss when None.
    """

    kind: Literal["evaluation"] = "evaluation"
    step: int
    tokens: int
    seconds: float
    train_loss: Finite = None
    validation_loss: Finite
    bits_per_byte: Finite = None  # of the validation text
    sample: str = ""
    final: bool = False
    metrics: dict[str, Finite] = Field(default_factory=dict)
    score: Finite = None


class Metrics(Record):
    """metrics.jsonl of a run, in order; `final` where there was an evaluation at the end of all."""

    steps: list[StepRecord] = Field(default_factory=list)
    evaluations: list[EvaluationRecord] = Field(default_factory=list)
    final: EvaluationRecord | None = None

    @classmethod
    def from_lines(cls, text: str) -> Metrics:
        """Read metrics.jsonl.

        A last line that was cut short is left out; where a resumed run went back and took steps
        again, the later ones stand. Raises ValueError (pydantic's) for any other broken line.
        """
        lines = [line for line in text.split("\n")[:-1] if line.strip()]
        steps: list[StepRecord] = []
        evaluations: list[EvaluationRecord] = []
        final: EvaluationRecord | None = None
        for line in lines:
            record = _METRIC.validate_json(line)
            if isinstance(record, EvaluationRecord) and record.final:
                final = record
            elif isinstance(record, StepRecord):
                while steps and steps[-1].step >= record.step:
                    steps.pop()
                while evaluations and evaluations[-1].step > record.step:
                    evaluations.pop()
                steps.append(record)
            else:
                while evaluations and evaluations[-1].step >= record.step:
                    evaluations.pop()
                evaluations.append(record)
        return cls(steps=steps, evaluations=evaluations, final=final)


_METRIC: TypeAdapter[StepRecord | EvaluationRecord] = TypeAdapter(
    Annotated[StepRecord | EvaluationRecord, Field(discriminator="kind")]
)


class Referee(Record):
    """A counting model on the same validation text: what a language model is printed beside."""

    name: str  # "5-gram, Witten-Bell"
    order: int
    loss: float  # nats per token
    bits_per_byte: float | None = None


class Evidence(Record):
    """A number that a reading of the curves rests on. unit: "nats", "steps", "%", ..."""

    name: str
    value: Finite
    unit: str = ""


class CurveReading(Record):
    """The pattern found in a run's curves, the numbers for it, and what to try next.

    also: further patterns that were seen, less pressing than the first.
    """

    pattern: Pattern
    says: str  # one sentence with the decisive numbers
    evidence: list[Evidence] = Field(default_factory=list)
    advice: list[str] = Field(default_factory=list)
    also: list[Pattern] = Field(default_factory=list)


class CorpusRecord(Record):
    """What was trained on, as the run divided it. n_bytes: UTF-8."""

    name: str
    source: str = ""
    licence: str = ""
    n_train_tokens: int
    n_validation_tokens: int
    n_train_bytes: int | None = None
    n_validation_bytes: int | None = None
    sha256: str = ""
    notes: list[str] = Field(default_factory=list)


class RunSummary(Record):
    """summary.json of a training run: with metrics.jsonl, all that its report is made from."""

    model: str  # the family: "gpt", "llama", "bigram", ...
    n_parameters: int
    corpus: CorpusRecord
    unit: str  # what a token is: "character", "byte-level BPE, 8,192 pieces"
    vocab_size: int
    bytes_per_token: float | None = None  # of the validation text
    status: RunStatus
    message: str = ""  # why it failed or stopped
    n_steps: int
    n_tokens: int
    seconds: float  # evaluations included
    best_step: int | None = None
    best_validation_loss: Finite = None
    best_bits_per_byte: Finite = None
    last_validation_loss: Finite = None
    last_train_loss: Finite = None
    referees: list[Referee] = Field(default_factory=list)
    plan: PlanRecord | None = None
    checks: list[PlanCheck] = Field(default_factory=list)  # plan beside actual
    reading: CurveReading | None = None
    settings: dict[str, Setting] = Field(default_factory=dict)
    derived: dict[str, Setting] = Field(default_factory=dict)  # what a dial or default set
    energy_kwh: float | None = None
    emissions_kg: float | None = None
    energy_source: EnergySource = "none"
    environment: Environment
    hashes: dict[str, str] = Field(default_factory=dict)
    command: str
    started: str  # ISO 8601, UTC
