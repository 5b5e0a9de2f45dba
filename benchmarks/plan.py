"""The plan against what happened: peak memory and time of GPTs from tiny to medium.

    python benchmarks/plan.py             all sizes, about three minutes
    python benchmarks/plan.py --quick     the two smallest

Each model is planned, then trained for a few steps in a process of its own. Memory: the growth of
the process's resident peak over what it was before the model was built, libraries warmed up. Time:
the median step. The plan sees nothing of the training.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from claims import claim

# vocab_size, context_length, n_layers, n_heads, d_model, batch size
SIZES = {
    "tiny": (65, 64, 4, 4, 128, 12),
    "small": (65, 128, 6, 3, 192, 32),
    "small, 512 pieces": (512, 256, 6, 6, 384, 4),
    "medium, 8192 pieces": (8192, 256, 6, 6, 384, 4),
    "wide, 2048 pieces": (2048, 128, 4, 8, 768, 8),
}
WAYS = {  # how a step is taken: number format, checkpointing
    "float32": ("float32", False),
    "bfloat16": ("bfloat16", False),
    "float32, checkpointing": ("float32", True),
}
N_STEPS = 6


def recipe_of(size: tuple[int, ...], way: tuple[str, bool]) -> Any:
    from hornbook.evaluation.plan import Recipe
    from hornbook.models.gpt import GPTConfig

    vocab_size, context_length, n_layers, n_heads, d_model, batch_size = size
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        n_layers=n_layers,
        n_heads=n_heads,
        d_model=d_model,
        d_ff=4 * d_model,
    )
    return Recipe(
        family="gpt",
        config=config,
        n_tokens=N_STEPS * batch_size * context_length,
        batch_size=batch_size,
        precision=way[0],
        gradient_checkpointing=way[1],
    )


def planned(recipe: Any) -> dict[str, float]:
    from hornbook.evaluation.plan import plan, this_machine

    made = plan(recipe, *this_machine(recipe))
    return {"bytes": made.memory.total, "seconds": made.seconds / made.n_steps}


def trained(recipe: Any, n_steps: int) -> dict[str, float]:
    """Take steps in this process; the growth of its peak and the median of a step's seconds."""
    from dataclasses import replace

    import psutil

    from hornbook.training.memory import keep_freed_memory, return_freed_memory

    return_freed_memory() if recipe.gradient_checkpointing else keep_freed_memory()
    small = replace(
        recipe.config, n_layers=1, n_heads=2, d_model=32, d_ff=64, vocab_size=64, context_length=32
    )
    list(steps(replace(recipe, config=small, batch_size=2), 2))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = psutil.Process().memory_info().rss
    seconds = list(steps(recipe, n_steps))
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "bytes": 1024 * int(peak.split()[1]) - before,
        "seconds": statistics.median(seconds[1:]),
    }


def steps(recipe: Any, n_steps: int) -> Any:
    """Seconds of training steps: forward, backward, fused AdamW."""
    from contextlib import nullcontext

    import torch

    from hornbook.models.gpt import GPT
    from hornbook.nn.precision import DTYPES
    from hornbook.tasks.language_modeling import LanguageModel, loss_of, windows
    from hornbook.training.recomputation import recomputed

    model = LanguageModel(GPT(recipe.config)).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    dtype = DTYPES[recipe.precision]
    recomputing = recomputed(model) if recipe.gradient_checkpointing else nullcontext()
    with recomputing:
        for _ in range(n_steps):
            shape = (recipe.batch_size, recipe.context)
            tokens = torch.randint(0, recipe.config.vocab_size, shape)
            start = time.perf_counter()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = loss_of(model, windows(tokens, tokens)).total
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            yield time.perf_counter() - start


def run_apart(size: str, way: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--train", size, way]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes")
    parser.add_argument("--train", nargs=2, metavar=("SIZE", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, default=N_STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train:
        size, way = arguments.train
        print(json.dumps(trained(recipe_of(SIZES[size], WAYS[way]), arguments.steps)))
        return
    print("| model | step | memory planned | measured | ratio | time planned | measured | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    ratios = []
    for size in list(SIZES)[: 2 if arguments.quick else None]:
        for way in WAYS:
            plan = planned(recipe_of(SIZES[size], WAYS[way]))
            actual = run_apart(size, way)
            memory, duration = (plan[key] / actual[key] for key in ("bytes", "seconds"))
            ratios.append(memory)
            print(
                f"| {size} | {way} | {plan['bytes'] / 1e6:.0f} MB | {actual['bytes'] / 1e6:.0f} MB "
                f"| {memory:.2f} | {1000 * plan['seconds']:.0f} ms "
                f"| {1000 * actual['seconds']:.0f} ms | {duration:.2f} |",
                flush=True,
            )
    worst = max(abs(ratio - 1) for ratio in ratios)
    within = sum(abs(ratio - 1) <= 0.1 for ratio in ratios)
    print(f"\nthe worst is {worst:.0%} off")
    told, wanted = f"{within} of {len(ratios)} within 10 %", "all within 10 %"
    claim("peak memory, planned against measured", told, wanted, within == len(ratios))


if __name__ == "__main__":
    main()
