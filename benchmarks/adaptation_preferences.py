"""Claim: DPO with LoRA on SmolLM2 raises held-out pair accuracy by at least 10 points over the
start, at a divergence below 10 nats a sequence; beside trl at its settings no worse, and faster.

    HORNBOOK_DATA=... python benchmarks/adaptation_preferences.py [--seconds 300] [--peer]

Pairs are those of shared/data/instructions: the same answer said politely and rudely, either way
round preferred. A tenth of the prompts is held out, and nothing is chosen by it. Accuracy is that
the chosen answer is likelier a token than the rejected one, with a 95 % interval over pairs; reward
accuracy, that it has gained more. The divergence from the start, KL(model || start), is that of the
model's own answers: drawn at temperature 1 to held-out prompts, the divergence of the whole
distribution summed over their tokens.

--peer: trl's DPOTrainer with peft beside it, the same pairs in the same batches, the same rates
(up over a tenth of the steps, then down along a line), LoRA and float32; the two take turns of two
steps, and the speed is the median over turns, the first left out.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from claims import at_least, at_most, claim

from hornbook import bundle as bundles
from hornbook.adapters.methods import prepare
from hornbook.evaluation.evaluate import compared
from hornbook.evaluation.significance import draws, interval
from hornbook.generation.generate import generate, seeded
from hornbook.nn.precision import Precision
from hornbook.preference.encoding import Item
from hornbook.preference.task import Dpo
from hornbook.tasks.branches import lay
from hornbook.tasks.task import Metric
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock, linear

MODEL, BETA, RANK, ALPHA = "smollm2-135m-instruct", 0.1, 16, 32
BATCH, TURN, LONGEST_ANSWER, WARM_UP = 8, 2, 48, 0.1


def our_steps(
    task: Dpo, model: torch.nn.Module, batches: Sequence[Sequence[Item]], rate: float
) -> Iterator[float]:
    """Seconds of each step, collating included."""
    groups = decay_groups(model.named_parameters(), lr=rate, weight_decay=0.0)
    steps = train_steps(
        model, task.loss, ([task.collate(batch)] for batch in batches), adamw(groups),
        linear(WARM_UP), Clock(n_steps=len(batches) + 1),
        make_accelerator(Precision("cpu", "float32", "both train in it")),
    )  # fmt: skip
    while True:
        start = time.perf_counter()
        step = next(steps, None)
        if step is None:
            return
        print(f"  step {step.number + 1}: loss {step.loss:.4f}", flush=True)
        yield time.perf_counter() - start


def measured(task: Dpo, model: Any, pairs: Sequence[Any]) -> dict[str, Metric]:
    return {m.name: m for m in task.metrics(pairs, task.predict(model, task.items(pairs)))}


def with_interval(metric: Metric) -> str:
    resampled = [weights @ metric.statistics for weights in draws(len(metric.statistics))]
    assert metric.of is not None
    low, high = interval(metric.of(np.concatenate(resampled)))
    return f"{metric.value:.3f} [{low:.3f}, {high:.3f}]"


def divergence(task: Dpo, model: Any, items: Sequence[Item]) -> np.ndarray:
    """KL(model || start) of the model's own answers, nats each."""
    found = []
    for seed, item in enumerate(items):
        end = item.branches[0][-1]
        drawn = generate(
            model, item.stem, n_tokens=LONGEST_ANSWER, choose=lambda logits: logits,
            generator=seeded(seed), stop=end,
        )  # fmt: skip
        answer = list(drawn)
        own = Item(0, item.stem, (tuple(answer + [end] * (len(answer) < LONGEST_ANSWER)),))
        found.append(task.reference.beside(model, lay([own]))[2].item())
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=300, help="of our training, at most")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rate", type=float, default=2.2e-4, help="the peak")
    parser.add_argument("--held-out", type=int, default=60, help="pairs that are measured")
    parser.add_argument("--drawn", type=int, default=16, help="answers drawn for the divergence")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--peer", action="store_true", help="trl beside it")
    arguments = parser.parse_args()

    data = Path(os.environ["HORNBOOK_DATA"]) / "instructions/instruction-data-with-preference.json"
    bundle = bundles.open_model(arguments.model)
    parts = Dpo.open_data(str(data), {}, seed=0)
    longest = min(256, bundle.model.config.context_length)
    task = Dpo.make(bundle, parts, max_tokens=longest, beta=BETA)
    model = task.build(bundle)
    torch.manual_seed(0)
    prepare(model, "lora", rank=RANK, alpha=ALPHA)
    held_out = list(parts.test or [])[: arguments.held_out]
    items = task.items(parts.train)
    order = np.random.default_rng(0).permutation(len(items))
    n_steps = min(arguments.steps, len(items) // BATCH)
    batches = [
        [items[i] for i in order[at : at + BATCH]] for at in range(0, n_steps * BATCH, BATCH)
    ]

    began = time.perf_counter()
    start = measured(task, model, held_out)
    print(f"start: accuracy {with_interval(start['accuracy'])} on {len(held_out)} held-out pairs "
          f"({time.perf_counter() - began:.0f} s)", flush=True)  # fmt: skip

    ours = our_steps(task, model, batches, arguments.rate)
    if arguments.peer:
        from adaptation_preferences_peer import beside

        turns, theirs = beside(
            ours, arguments.model, batches, arguments, turn=TURN, beta=BETA,
            rank=RANK, alpha=ALPHA, warm_up=WARM_UP,
        )  # fmt: skip
        ratios = [peer / mine for peer, mine in turns[1:]]
        print(f"speed: {statistics.median(ratios):.2f} times trl's, over {len(ratios)} turns")
    else:
        spent, taken = 0.0, []
        for seconds in ours:
            spent += seconds
            taken.append(seconds)
            if spent >= arguments.seconds:
                break
        n_tokens = sum(task.length(item) for batch in batches[: len(taken)] for item in batch)
        print(f"{len(taken)} steps of {BATCH} pairs in {spent:.0f} s, {n_tokens / spent:,.0f} "
              "tokens a second, prompts counted once")  # fmt: skip

    model.eval()
    after = measured(task, model, held_out)
    kl = divergence(task, model, task.items(held_out)[: arguments.drawn])
    report("hornbook", start, after, kl)
    if arguments.peer:
        its = measured(task, theirs(), held_out)
        report("trl", start, its, None)
        other = compared([after["accuracy"]], [its["accuracy"]])[0]
        claim(
            "DPO, held-out pair accuracy, hornbook's minus trl's",
            f"{other.difference:+.3f} ({other.low:+.3f} to {other.high:+.3f})",
            "not below 0 by more than its interval",
            bool(other.high is not None and other.high >= 0),
        )
    gained = after["accuracy"].value - start["accuracy"].value
    at_least("DPO, points of held-out pair accuracy gained", 100 * gained, 10, digits=1)
    at_most("DPO, divergence, nats a sequence", float(kl.mean()), 10)


def report(
    name: str, start: dict[str, Metric], after: dict[str, Metric], kl: np.ndarray | None
) -> None:
    paired = after["accuracy"].statistics.copy()
    paired[:, 0] -= start["accuracy"].statistics[:, 0]
    gain = Metric("gain", paired, of=after["accuracy"].of)
    print(f"{name}: accuracy {with_interval(after['accuracy'])}, gained {with_interval(gain)}")
    for other in ("reward accuracy", "margin", "kl"):
        print(f"  {other} {with_interval(after[other])}")
    if kl is not None:
        print(f"  divergence of {len(kl)} answers of its own: {kl.mean():.2f} nats a sequence, "
              f"largest {kl.max():.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
