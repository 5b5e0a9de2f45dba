"""Claims on characters, against nanoGPT's recipe for a processor, in one run:

    tinyshakespeare, wall time to validation loss 1.886      at most 1/10 of the recipe's
    the same, loss after the recipe's wall time              at most 1.50
    the same, loss within 5 minutes                          at most 1.4697 (its GPU figure)
    Sherlock, loss within 10 minutes                         at most 1.3476; a bigram 2.42

    python benchmarks/language_model.py [--only shakespeare|sherlock] [--quick | --long]

The peer: nanoGPT's README (Karpathy 2023), `--device=cpu --compile=False --block_size=64
--batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000
--dropout=0.0`, its other settings as published (learning rate 1e-3 to 1e-4 by a cosine, warm-up of
100, beta2 .99, decay .1, clip 1), written here in plain torch, float32. Only its steps are timed,
none of its evaluations. Ours: `hornbook train gpt --time`, evaluations, counting and checkpoints
included, alone and on counts (`--counting`: a network on top of n-gram counts of the same training
text, said so). Both losses: over the whole validation text, nats a character.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from claims import at_most
from torch import Tensor, nn

from hornbook.config import settings_from
from hornbook.data.windows import Windows
from hornbook.models import ngram
from hornbook.recipes import training_run
from hornbook.recipes.dial import Asked
from hornbook.recipes.preparation import Prepared, prepare

CONTEXT, BATCH, N_STEPS, N_LAYERS, N_HEADS, D_MODEL = 64, 12, 2000, 4, 4, 128
WARM_UP, PEAK, FLOOR = 100, 1e-3, 1e-4
WANTED, GPU_FIGURE, SHERLOCK = 1.886, 1.4697, 1.3476


class PeerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm_1, self.norm_2 = (nn.LayerNorm(D_MODEL, bias=False) for _ in range(2))
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.out = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.up = nn.Linear(D_MODEL, 4 * D_MODEL, bias=False)
        self.down = nn.Linear(4 * D_MODEL, D_MODEL, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        heads = self.qkv(self.norm_1(x)).view(b, t, 3, N_HEADS, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*heads, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, D_MODEL))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Peer(nn.Module):
    """The published recipe's GPT: learned positions, tied head, no biases."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, D_MODEL)
        self.positions = nn.Embedding(CONTEXT, D_MODEL)
        self.blocks = nn.Sequential(*(PeerBlock() for _ in range(N_LAYERS)))
        self.norm = nn.LayerNorm(D_MODEL, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * N_LAYERS) if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def peer(prepared: Prepared, n_steps: int) -> tuple[float, float]:
    """Train the recipe; seconds of its steps, and its loss over the whole validation text."""
    torch.manual_seed(1337)
    model = Peer(prepared.tokenizer.vocab_size)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99))
    text = torch.from_numpy(prepared.train.tokens.astype(np.int64))
    start = time.perf_counter()
    for step in range(n_steps):
        share = (step - WARM_UP) / (n_steps - WARM_UP)
        falling = FLOOR + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - FLOOR)
        for group in optimizer.param_groups:
            group["lr"] = PEAK * (step + 1) / (WARM_UP + 1) if step < WARM_UP else falling
        at = torch.randint(len(text) - CONTEXT, (BATCH,))
        x = torch.stack([text[i : i + CONTEXT] for i in at])
        y = torch.stack([text[i + 1 : i + 1 + CONTEXT] for i in at])
        F.cross_entropy(model(x).flatten(0, 1), y.flatten()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    seconds = time.perf_counter() - start
    total = n = 0.0
    with torch.inference_mode():
        for tokens, targets in Windows.in_order(
            prepared.validation.tokens, context_length=CONTEXT, batch_size=64, stride=CONTEXT // 2
        ):
            logits = model(torch.from_numpy(tokens)).flatten(0, 1)
            loss = F.cross_entropy(logits, torch.from_numpy(targets).flatten(), reduction="sum")
            total, n = total + float(loss), n + int((targets >= 0).sum())
    return seconds, total / n


class Silent:
    """A listener that shows nothing."""

    def begin(self, plan: object) -> None: ...
    def hear(self, step: object) -> None: ...
    def hear_evaluation(self, evaluation: object) -> None: ...
    def end(self, summary: object) -> None: ...


def ours(data: str, seconds: float, **settings: object) -> tuple[float, float]:
    """A run sized to the clock; its wall time from the text in memory on, and its loss."""
    with tempfile.TemporaryDirectory() as scratch:
        asked = training_run.asked_for({"data": data, "time": seconds, **settings})
        session = training_run.open_new(asked, Path(scratch) / "run", Silent())
        summary = session.carry_out(Silent(), command="")
    assert summary.best_validation_loss is not None
    return summary.seconds, summary.best_validation_loss


def line(what: str, seconds: float | None, loss: float, wanted: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:7.1f} s"
    print(f"{what:46}{took:>10}{loss:9.4f}", flush=True)
    if wanted:
        within = "" if seconds is None else f" in {seconds:.0f} s"
        at_most(f"{what}, validation loss{within}", loss, wanted, digits=4)


def shakespeare(quick: bool, long: bool) -> None:
    prepared = prepare(settings_from(Asked, data="tinyshakespeare"))
    print(
        "tinyshakespeare, characters, 90/10" + ("; QUICK: a tenth of everything" if quick else "")
    )
    seconds, loss = peer(prepared, N_STEPS // (10 if quick else 1))
    line("nanoGPT's recipe, 2,000 steps", seconds, loss)
    for name, counting in (("gpt on counts", True), ("gpt alone", False)):
        for share, wanted in ((0.1, WANTED), (1.0, 1.50)):
            line(name, *ours("tinyshakespeare", share * seconds, counting=counting), wanted)
        if counting or long:
            most = 290.0 if long else 12.0 if quick else 120.0
            line(name, *ours("tinyshakespeare", most, counting=counting), GPU_FIGURE)


def sherlock(quick: bool, long: bool) -> None:
    prepared = prepare(settings_from(Asked, data="sherlock"))
    print("Sherlock, characters, 80/20")
    counted = ngram.fit(prepared.train.tokens, prepared.tokenizer.vocab_size, 5)
    losses = counted.losses(prepared.validation.tokens)
    line("bigram by counting", None, losses[1], 2.42)
    line("5-gram by counting", None, losses[4])
    line("bigram by gradient", *ours("sherlock", 20.0, family="bigram"), 2.42)
    most = 590.0 if long else 12.0 if quick else 120.0
    for name, counting in (("gpt on counts", True), ("gpt alone", False)):
        if counting or long:
            line(name, *ours("sherlock", most, counting=counting), SHERLOCK)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("shakespeare", "sherlock"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the time; no figures")
    parser.add_argument("--long", action="store_true", help="the full 5 and 10 minutes, and alone")
    arguments = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; losses over the whole validation text")
    if arguments.only != "sherlock":
        shakespeare(arguments.quick, arguments.long)
    if arguments.only != "shakespeare":
        sherlock(arguments.quick, arguments.long)


if __name__ == "__main__":
    main()
