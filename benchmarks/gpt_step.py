"""Claims on a GPT-2's training step (6 layers, 384 wide, 6 heads, context 256, vocabulary 8,192,
batch 16): at least 4x the tokens a second of transformers' GPT2LMHeadModel at its defaults, 1.3x of
it tuned (bfloat16 autocast, fused AdamW), 60 % of the matrix peak measured in the same run.

    python benchmarks/gpt_step.py [--rounds 5]

A step each in turn, ours in processes of their own, medians; the same random batch. The defaults:
float32, dropout .1, AdamW as torch gives it. Ours: the same architecture (`models.gpt`), no
dropout, the number format that this machine multiplies fastest; and the modern page with Muon
beside it. The factor 4 presumes native bfloat16; where products are fastest in float32, everything
runs in that, and how much a step at the whole of its peak would be is printed with it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import torch
from claims import at_least
from transformers import GPT2Config, GPT2LMHeadModel
from turns import answer_turns, asked_turns

from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.precision import choose_precision
from hornbook.tasks.language_modeling import LanguageModel, loss_of, windows
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.memory import keep_freed_memory
from hornbook.training.optimizers import adamw, decay_groups, muon_and_adamw
from hornbook.training.schedules import Clock, linear

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, BATCH = 6, 384, 6, 256, 8192, 16
SIZES = {"n_layers": LAYERS, "n_heads": HEADS, "d_model": WIDTH, "d_ff": 4 * WIDTH}
# 6 N + 12 L d T, N of the matrices and the head (Kaplan et al. 2020).
FLOPS = 6 * (LAYERS * 12 * WIDTH**2 + VOCABULARY * WIDTH) + 12 * LAYERS * WIDTH * CONTEXT


def peer(tokens: torch.Tensor, *, tuned: bool) -> Iterator[float]:
    """Seconds of each of transformers' steps."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS
    )
    model = GPT2LMHeadModel(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, fused=tuned or None)

    while True:
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=tuned):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield time.perf_counter() - start


def ours(tokens: torch.Tensor, *, modern: bool) -> Iterator[float]:
    """Seconds of each of our steps."""
    keep_freed_memory()  # as the recipe does
    if modern:
        trunk = ModernGPT(ModernGPTConfig(VOCABULARY, CONTEXT, **SIZES))
        model = LanguageModel(trunk)
        optimizer = muon_and_adamw(model.named_parameters())
    else:
        model = LanguageModel(GPT(GPTConfig(VOCABULARY, CONTEXT, **SIZES)))
        optimizer = adamw(decay_groups(model.named_parameters(), lr=1e-4, weight_decay=0.1))
    batch = windows(tokens, tokens.roll(-1, 1))
    endless = ([batch] for _ in iter(int, 1))
    steps = train_steps(
        model, loss_of, endless, optimizer, linear(0.1), Clock(n_steps=10**6), make_accelerator()
    )
    return (step.seconds for step in steps)


def peak() -> float:
    """FLOP/s of large products in the fastest format, the best of ten."""
    dtype = choose_precision().torch_dtype
    a, b = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    seconds = []
    with torch.inference_mode():
        for _ in range(10):
            start = time.perf_counter()
            a @ b
            seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ours", choices=("gpt2", "modern"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    tokens = torch.randint(VOCABULARY, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(0))
    if arguments.ours:
        answer_turns(ours(tokens, modern=arguments.ours == "modern"), 1)
        return
    chosen = choose_precision()
    print(f"{torch.get_num_threads()} threads; chosen: {chosen.dtype} ({chosen.reason})")
    steps = {
        "transformers, defaults": peer(tokens, tuned=False),
        "transformers, tuned": peer(tokens, tuned=True),
        "hornbook gpt2": asked_turns([__file__, "--ours", "gpt2"]),
        "hornbook gpt (modern, Muon)": asked_turns([__file__, "--ours", "modern"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    peaks = []
    for round_ in range(arguments.rounds + 1):
        peaks.append(peak())
        for name, step in steps.items():
            took = next(step)
            if round_:  # the first builds kernels and moments
                seconds[name].append(took)
    speeds = {name: BATCH * CONTEXT / statistics.median(s) for name, s in seconds.items()}
    most = max(peaks)
    print(f"matrix peak {most / 1e9:.0f} GFLOP/s; {FLOPS / 1e6:.1f} MFLOPs a token")
    for name, speed in speeds.items():
        print(f"{name:30}{speed:8,.0f} tokens/s{speed * FLOPS / most:8.0%} of the peak")
    us = speeds["hornbook gpt2"]
    ceiling = most / FLOPS / speeds["transformers, defaults"]
    print(f"a step of products alone, all at the peak, would be {ceiling:.2f} times the defaults")
    defaults, tuned = (us / speeds[f"transformers, {how}"] for how in ("defaults", "tuned"))
    at_least("GPT-2's training step, times transformers' defaults", defaults, 4)
    at_least("GPT-2's training step, times transformers tuned", tuned, 1.3)
    at_least("GPT-2's training step, share of the matrix peak", us * FLOPS / most, 0.6)


if __name__ == "__main__":
    main()
