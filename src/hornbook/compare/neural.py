"""What the techniques that train a network share: cut texts to the plan, fine-tune, save, score."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from hornbook import files
from hornbook.compare.parts import read_settings
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.errors import BudgetError
from hornbook.interop.huggingface import read_weights, write_weights
from hornbook.models.bert import Bert
from hornbook.models.gpt import GPT
from hornbook.nn.precision import choose_precision
from hornbook.recipes.finetune import (
    LAST_CUTS,
    Settings,
    Speed,
    finetune,
    make_plan,
    measure_speed,
)
from hornbook.tasks.classification import Pool, TextClassifier, class_targets, run_over
from hornbook.text.tokenizer import Tokenizer

AnyTrunk = TypeVar("AnyTrunk", Bert, GPT)

RESERVE = 0.06  # of the budget, for the last validation and for giving back what was learnt


@dataclass
class FittedClassifier(Generic[AnyTrunk]):
    """A trained classifier with its tokenizer and how many tokens of a text it reads."""

    model: TextClassifier
    trunk: AnyTrunk
    tokenizer: Tokenizer
    max_tokens: int
    settings: dict[str, str | int | float] = field(default_factory=dict)  # how it was trained

    def scores(self, documents: list[Document]) -> np.ndarray:
        """Logits (N, L) float32."""
        if not documents:
            return np.zeros((0, self.model.head.out_features), np.float32)
        precision = choose_precision()
        self.model.to(precision.device).eval()
        tokens = self.tokenizer.encode([d.full for d in documents], max_tokens=self.max_tokens)
        with torch.autocast(
            precision.device, torch.bfloat16, enabled=precision.dtype == "bfloat16"
        ):
            return run_over(self.model, tokens, device=precision.device).numpy()


def fit_classifier(
    trunk: AnyTrunk,
    tokenizer: Tokenizer,
    pool: Pool,
    train: Labelled,
    validation: Labelled,
    context: Context,
    settings: Settings,
    *,
    prepare: Callable[[Any, int], None] = lambda trunk, n_frozen: None,
) -> tuple[FittedClassifier[AnyTrunk], HeldOut]:
    """Fine-tune a trunk within what is left of the budget; held-out scores of validation.

    Raises BudgetError, with an estimate, when not even a part of one pass fits.
    """
    problem, budget = context.problem, context.budget
    seconds = budget.remaining() - RESERVE * budget.seconds
    context.report("measuring speed")
    longest = min(256, trunk.config.context_length)
    tokens = tokenizer.encode([d.full for d in train.documents], max_tokens=longest)
    classifier = TextClassifier(
        trunk, pool=pool, d_model=trunk.config.d_model, n_labels=problem.n_labels
    )
    speed = measure_speed(classifier, tokens)
    n_blocks = len(trunk.blocks)
    plan = make_plan(
        [len(t) for t in tokens],
        speed,
        seconds,
        n_blocks,
        trunk.config.d_model,
        longest,
        passes_wanted=settings.passes_wanted,
        passes_needed=settings.passes_needed,
        may_freeze=settings.may_freeze,
    )
    if plan.n_passes < settings.passes_needed:
        raise BudgetError(
            f"{max(0.0, seconds):.0f} s allow {max(0.0, plan.n_passes):.2f} passes over "
            f"{len(train)} texts; training needs about {_seconds_for_a_pass(tokens, speed):.0f} s",
            hint="Give a larger --budget, or leave this technique out.",
        )
    context.report(f"plan: {plan.max_tokens} tokens, {plan.n_passes:.1f} passes")
    held_out = tokenizer.encode([d.full for d in validation.documents], max_tokens=plan.max_tokens)
    model = finetune(
        trunk,
        pool,
        [t[: plan.max_tokens - 1] + t[-1:] if len(t) > plan.max_tokens else t for t in tokens],
        class_targets(train.targets, problem.multi_label),
        problem.n_labels,
        held_out,
        lambda logits: quick_micro_f1(logits, validation.targets, problem.multi_label),
        n_frozen=plan.n_frozen,
        seconds=budget.remaining() - RESERVE * budget.seconds,
        settings=settings,
        seed=context.seed,
        report=context.report,
        prepare=prepare,
    )
    chosen = {**asdict(plan), **asdict(settings)}
    fitted = FittedClassifier(model, trunk, tokenizer, plan.max_tokens, chosen)
    rows = np.arange(len(train), len(train) + len(validation))
    return fitted, HeldOut(rows, fitted.scores(validation.documents))


def _seconds_for_a_pass(tokens: list[list[int]], speed: Speed) -> float:
    return sum(min(len(t), LAST_CUTS[-1]) for t in tokens) / speed.training


def quick_micro_f1(logits: Tensor, targets: np.ndarray, multi_label: bool) -> float:
    """Micro-F1 of logits (M, L) by the plainest rule, for choosing among checkpoints.

    Labels above even odds, and the best one in any case; for a single label only the best one.
    """
    best = torch.nn.functional.one_hot(logits.argmax(1), logits.shape[1]).bool()
    chosen = (best | (logits > 0) if multi_label else best).numpy()
    right = (chosen & targets).sum()
    return float(2 * right / max(1, chosen.sum() + targets.sum()))


def save_head(folder: Path, head: nn.Linear, max_tokens: int) -> None:
    """Write head.safetensors and classifier.json."""
    write_weights(folder / "head.safetensors", head.state_dict())
    files.write_text(folder / "classifier.json", json.dumps({"max_tokens": max_tokens}) + "\n")


def load_head(folder: Path) -> tuple[Mapping[str, Tensor], int]:
    """The head's weights and how many tokens are read. Raises CheckpointError."""
    max_tokens = int(read_settings(folder / "classifier.json", "max_tokens")["max_tokens"])
    return read_weights(folder / "head.safetensors"), max_tokens


def rebuild(
    trunk: AnyTrunk, pool: Pool, tokenizer: Tokenizer, folder: Path
) -> FittedClassifier[AnyTrunk]:
    """A loaded trunk and a saved head as the classifier they were."""
    weights, max_tokens = load_head(folder)
    n_labels, d_model = weights["weight"].shape
    model = TextClassifier(trunk, pool=pool, d_model=d_model, n_labels=n_labels)
    model.head.load_state_dict(weights)
    return FittedClassifier(model.eval(), trunk, tokenizer, max_tokens)


def vocabulary_size(texts: list[str], most: int = 8192) -> int:
    """How large a vocabulary these texts can teach: one entry per 200 characters, 512 to `most`."""
    return max(512, min(most, sum(len(text) for text in texts) // 200))
