"""Exactness shown on this machine: two ways to the same numbers, and how far apart they come out.

    record = verify(bundle.open_model("minilm"))

The loop, the checkpoints, the adapters and the readers are those that train and answer; nothing is
computed by a shorter way for the sake of the check. On the processor, in float32.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornbook import __version__, runs
from hornbook import bundle as bundles
from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.bundle import Bundle
from hornbook.generation.batch import Batch
from hornbook.generation.request import Request, Sampling
from hornbook.nn.losses import LossSum
from hornbook.nn.precision import Precision
from hornbook.recipes.adaptation_opening import set_dropout
from hornbook.recipes.verification_subject import Subject, end_to_end, side_by_side, subject_of
from hornbook.records import CheckRecord, VerificationRecord
from hornbook.training.accelerator import make_accelerator
from hornbook.training.checkpoints import latest_checkpoint, save_checkpoint
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.recomputation import recomputed
from hornbook.training.schedules import Clock

# The same sums in another order: float32 keeps 24 bits, and a deep model loses some on the way.
ROUNDING = 1e-5
FLOAT32 = Precision("cpu", "float32", "for exactness")
N_STEPS, STOPPED_AFTER = 4, 2
DROPOUT = 0.1

Check = Callable[[Subject], CheckRecord]


def verify(
    opened: Bundle, *, heard: Callable[[CheckRecord], None] = lambda _: None
) -> VerificationRecord:
    """Check everything that is promised to be exact. The bundle's model becomes float32, and is
    otherwise left as it was. heard: told of each check when it is done.

    Raises ConfigError for a model that learns nothing, and as `Fill.make` for an encoder without a
    token that hides words.
    """
    began = time.monotonic()
    subject = subject_of(opened)
    checks, left_out = [], []
    for check, why_not in (
        (accumulated, None),
        (resumed, None),
        (beside_others, None),
        (written_beside_others, None if subject.writes else "it writes no text by itself"),
        (merged, None if _has_linear(subject) else "no linear layer stands in a block"),
        (saved_and_opened, None),
        (recomputed_blocks, None if _has_blocks(subject) else "it has no blocks"),
    ):
        if why_not:
            left_out.append(f"{check.__name__.replace('_', ' ')}: {why_not}")
            continue
        with torch.random.fork_rng():
            record = check(subject)
        checks.append(record)
        heard(record)
    return VerificationRecord(
        model=opened.name,
        kind=subject.kind,
        n_parameters=sum(p.numel() for p in subject.model.parameters()),
        holds=all(check.holds for check in checks),
        checks=checks,
        left_out=left_out,
        seconds=time.monotonic() - began,
        n_threads=torch.get_num_threads(),
        at=runs.now(),
        hornbook=__version__,
    )


def accumulated(subject: Subject) -> CheckRecord:
    """The gradient of several small batches of unlike numbers of targets is that of the big one.

    Dropout is off: what it draws goes by a token's place in its batch.
    """
    began, items = time.monotonic(), subject.items
    parts = [items[:1], items[1:3], items[3:]]
    one, n_targets = _gradients(subject, [items])
    several, of_parts = _gradients(subject, parts)
    note = f"gradients of {sum(n_targets)} targets at once and in parts of {_listed(of_parts)}"
    return _record("accumulation equals the big batch", apart(one, several), ROUNDING, began, note)


def resumed(subject: Subject) -> CheckRecord:
    """A run that is stopped, written to disk and gone on with from other weights ends with the bits
    of one that was never stopped; dropout and AdamW's moments included."""
    began = time.monotonic()
    straight = _Run(subject)
    straight.steps(0, N_STEPS)
    expected = _weights(straight.model)
    with tempfile.TemporaryDirectory() as folder:
        stopped = _Run(subject)
        stopped.steps(0, STOPPED_AFTER)
        save_checkpoint(Path(folder), STOPPED_AFTER, stopped.model, stopped.optimizer, {})
        del straight, stopped
        again = _Run(subject)
        with torch.no_grad():
            for parameter in again.model.parameters():
                parameter.zero_()
        found = latest_checkpoint(Path(folder))
        assert found is not None
        found.load_into(again.model, again.optimizer)
        again.steps(found.step, N_STEPS)
    note = f"all weights after {N_STEPS} steps, stopped after {STOPPED_AFTER} and never stopped"
    difference = apart(expected, _weights(again.model))
    return _record("a resumed run is an uninterrupted one", difference, 0.0, began, note)


@torch.inference_mode()
def beside_others(subject: Subject) -> CheckRecord:
    """What is said of a text does not depend on what else is in the batch, nor on padding."""
    began = time.monotonic()
    read, model, items = subject.read, subject.model, subject.items
    alone = [read(model, [item], end_to_end)[0] for item in items]
    ways = [read(model, items, lay) for lay in (end_to_end, side_by_side)]
    difference = max(apart(alone, way) for way in ways)
    note = f"{len(items)} texts alone, end to end with all others, and padded"
    return _record("an answer is its text's alone", difference, ROUNDING, began, note)


def written_beside_others(subject: Subject) -> CheckRecord:
    """The same seed writes the same text, whatever is written beside it."""
    began = time.monotonic()
    prompts = [item[: len(item) // 2 + 1] for item in subject.items]
    alone = [_written(subject, [number], prompts)[0] for number in range(len(prompts))]
    together = _written(subject, range(len(prompts)), prompts)
    n_other = sum(a != b for a, b in zip(alone, together, strict=True))
    note = f"texts that differ, of {len(prompts)} drawn alone and {len(prompts)} at once"
    return _record("a drawn text is its seed's alone", float(n_other), 0.0, began, note)


def merged(subject: Subject) -> CheckRecord:
    """An adapter merged into the weights says what it says beside them; taken off again, the base
    is what it was, to the last bit."""
    began = time.monotonic()
    model = copy.deepcopy(subject.model)
    before = _read(subject, model)
    prepare(model, "lora", rank=8)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in lora.own_parameters(model).items():
            if name.endswith(".b"):  # zero in a fresh adapter, which changes nothing
                parameter.normal_(std=0.02)
    beside = _read(subject, model)
    with lora.merged(model):
        difference = apart(beside, _read(subject, model))
    lora.detach(model)
    if not all(map(torch.equal, before, _read(subject, model))):
        difference = float("inf")  # the base itself was changed
    note = f"outputs, which the adapter moves by {_short(apart(before, beside))}"
    return _record("an adapter merged is the adapter beside", difference, ROUNDING, began, note)


def saved_and_opened(subject: Subject) -> CheckRecord:
    """Written to disk and opened again, model and tokenizer are what they were."""
    began, opened = time.monotonic(), subject.opened
    with tempfile.TemporaryDirectory() as folder:
        bundles.save(
            Path(folder) / "model",
            subject.model,
            opened.tokenizer,
            template=opened.template,
            stop_tokens=opened.stop_tokens,
        )
        again = subject_of(bundles.load(Path(folder) / "model"))
    difference = apart(_read(subject, subject.model), _read(again, again.model))
    note = "outputs before and after, the texts encoded anew"
    return _record("opened again it is what was saved", difference, 0.0, began, note)


def recomputed_blocks(subject: Subject) -> CheckRecord:
    """Blocks that forget what they computed, and compute it again on the way back (gradient
    checkpointing), give the same gradients; dropout included."""
    began = time.monotonic()
    model = copy.deepcopy(subject.model).train()
    set_dropout(model, DROPOUT)

    def gradients() -> list[Tensor]:
        torch.manual_seed(0)
        model.zero_grad()
        subject.loss(model, subject.items).total.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    kept = gradients()
    with recomputed(model) as n_blocks:
        again = gradients()
    note = f"gradients with all kept and with {n_blocks} blocks recomputed"
    return _record("recomputation changes no gradient", apart(kept, again), 0.0, began, note)


def apart(expected: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """The largest difference of two numbers in one place, as a share of the largest number there
    is; infinite where there are not as many, or one is no number. Equal infinities, such as the
    logarithm of what never happens, do not differ."""
    if not expected or [x.shape for x in expected] != [x.shape for x in found]:
        return float("inf")
    pairs = zip(expected, found, strict=True)
    differences = [float((x - y).abs().masked_fill(x == y, 0).max()) for x, y in pairs]
    if not all(map(math.isfinite, differences)):  # max() of a list would pass over a NaN
        return float("inf")
    if not any(differences):
        return 0.0
    largest = max(float(x[x.isfinite()].abs().max()) for x in expected if x.isfinite().any())
    return max(differences) / largest if largest else float("inf")


# How a check is run


class _Run:
    """A short training run of a copy: the loop, AdamW, dropout, another batch each step."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.accelerator = make_accelerator(FLOAT32)  # seeds too: every run begins alike
        self.model = copy.deepcopy(subject.model)
        set_dropout(self.model, DROPOUT)
        groups = decay_groups(self.model.named_parameters(), lr=1e-3, weight_decay=0.1)
        self.optimizer = adamw(groups)

    def steps(self, first: int, last: int) -> None:
        items = self.subject.items
        batches = [[items[i % 2 :: 2]] for i in range(first, last)]
        for _ in train_steps(
            self.model, self.subject.loss, batches, self.optimizer, lambda progress: 1 - progress,
            Clock(n_steps=N_STEPS), self.accelerator, first_step=first,
        ):  # fmt: skip
            pass
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3  # its peak, as `train_steps` wants it to go on


def _gradients(subject: Subject, parts: Sequence[Any]) -> tuple[list[Tensor], list[int]]:
    """The gradient that one step of the loop uses, and the targets of each part."""
    model = copy.deepcopy(subject.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    found: list[Tensor] = []
    n_targets: list[int] = []

    def loss(model: nn.Module, items: Any) -> LossSum:
        said = subject.loss(model.eval(), items)  # the loop puts it into training mode
        n_targets.append(said.n_targets)
        return said

    def keep(*_: Any) -> None:
        found.extend(p.grad.clone() for p in model.parameters() if p.grad is not None)

    optimizer.register_step_pre_hook(keep)
    for _ in train_steps(
        model, loss, [list(parts)], optimizer, lambda _: 1.0, Clock(n_steps=1),
        make_accelerator(FLOAT32), clip=float("inf"),
    ):  # fmt: skip
        pass
    return found, n_targets


def _weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@torch.inference_mode()
def _read(subject: Subject, model: nn.Module) -> list[Tensor]:
    return subject.read(model.eval(), subject.items, end_to_end)


def _written(subject: Subject, numbers: Sequence[int], prompts: Sequence[Any]) -> list[list[int]]:
    """What is drawn after the prompts of those numbers, each with its number as seed."""
    batch = Batch(subject.opened, n_slots=4)
    asked = {batch.add(Request(prompts[i], 8, Sampling(seed=i), n_logprobs=0)): i for i in numbers}
    found: dict[int, list[int]] = {i: [] for i in numbers}
    while batch.n_running or batch.n_waiting:
        for piece in batch.step():
            found[asked[piece.request]] += [scored.token for scored in piece.tokens]
    return [found[i] for i in numbers]


def _has_linear(subject: Subject) -> bool:
    blocks = ("blocks.", "encoder.", "decoder.", "trunk.blocks.")
    return any(name.startswith(blocks) for name in lora.linear_layers(subject.model))


def _has_blocks(subject: Subject) -> bool:
    return any(isinstance(m, nn.ModuleList) and len(m) for m in subject.model.modules())


def _record(name: str, difference: float, allowed: float, began: float, note: str) -> CheckRecord:
    return CheckRecord(
        name=name,
        difference=difference,
        allowed=allowed,
        holds=difference <= allowed,
        seconds=time.monotonic() - began,
        note=note,
    )


def _listed(numbers: Sequence[int]) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} and {last}"


def _short(number: float) -> str:
    return f"{number:.2g}"
