"""Claim: teaching SmolLM2 to answer, with LoRA, runs at 2x trl's SFTTrainer or more and holds no
more memory; the model ends its turn by itself on 95 of 100 held-out prompts or more, and its
held-out loss falls.

    python benchmarks/adaptation_chat.py            # all of it
    python benchmarks/adaptation_chat.py speed [--turns 5] [--float32] [--recompute]
    python benchmarks/adaptation_chat.py memory [--steps 6] [--float32] [--recompute]
    HORNBOOK_DATA=... python benchmarks/adaptation_chat.py quality [--seconds 900] [--answers 100]

trl runs at its defaults: 8 conversations a step, padded to the longest, bfloat16 where weights are
multiplied, gradient checkpointing, fused AdamW, loss on completions only; with "--float32" in
float32 and without checkpointing, which is faster on many a processor. We run our defaults: the
same conversations in the same order, laid end to end, the number format chosen by measurement;
with "--recompute" under gradient checkpointing, for less memory. Both adapt all linear layers of
the blocks, rank 16, from the same folder of weights.
Tokens are the conversations' own, without padding. The two take turns, four steps each, so that a
busy machine slows both alike; the first turn is left out, and the ratio is the median over turns.
Memory is the peak of a process of its own each.

The conversations are the 1,100 of HORNBOOK_DATA/instructions (the first 85 % to learn from, the
next 10 % to test, the last 5 % to validate), or made-up ones of the same lengths without it.
Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from claims import at_least, at_most
from turns import answer_turns, asked_turns

from hornbook import bundle
from hornbook.adapters.methods import prepare
from hornbook.data.conversations import Dialogue, read_dialogues
from hornbook.nn.precision import choose_precision
from hornbook.recipes.adaptation import Adaptation
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.records import EvaluationRecord
from hornbook.tasks.chat import Chat, ChatParts
from hornbook.training.accelerator import make_accelerator
from hornbook.training.listeners import All
from hornbook.training.loop import train_steps
from hornbook.training.memory import keep_freed_memory, peak_bytes, return_freed_memory
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.recomputation import recomputed
from hornbook.training.schedules import Clock, linear

MODEL, BATCH, TURN, RANK = "smollm2-135m-instruct", 8, 4, 16
PEER = "trl's SFTTrainer"


def conversations() -> tuple[str, list[Dialogue]]:
    """The instructions, or questions of the same lengths where they are not there."""
    folder = os.environ.get("HORNBOOK_DATA")
    path = Path(folder or "") / "instructions" / "instruction-data.json"
    if folder and path.is_file():
        return "1,100 instructions", read_dialogues(path).dialogues
    rng = random.Random(0)
    words = ("red", "fox", "runs", "home", "sees", "that", "it", "is", "late", "this", "year")

    def text(n: int) -> str:
        return " ".join(rng.choice(words) for _ in range(n))

    made = [
        ({"role": "user", "content": text(rng.randint(6, 24))},
         {"role": "assistant", "content": text(rng.randint(2, 20))})
        for _ in range(1100)
    ]  # fmt: skip
    return "1,100 made-up instructions", [Dialogue(f"row {i}", m) for i, m in enumerate(made)]


def exported(folder: Path, model: str) -> Path:
    """A model as a Hugging Face folder, which both open."""
    opened = bundle.open_model(model)
    bundle.save(
        folder,
        opened.model,
        opened.tokenizer,
        template=opened.template,
        stop_tokens=opened.stop_tokens,
    )
    return folder


def our_turns(folder: Path, dialogues: list[Dialogue], recompute: bool) -> None:
    """Answer turns, after a step on a batch that is not among theirs."""
    ours = our_steps(folder, dialogues, recompute=recompute)
    next(ours)  # what is built once
    answer_turns(ours, TURN)


def our_steps(
    folder: Path, dialogues: list[Dialogue], *, recompute: bool = False
) -> Iterator[float]:
    """Seconds of each of our steps, collating included. recompute: gradient checkpointing."""
    return_freed_memory() if recompute else keep_freed_memory()  # as the recipe does
    opened = bundle.load(folder)
    task = Chat.make(opened, ChatParts("instructions", dialogues, dialogues))
    model = task.build(opened)
    prepare(model, "lora", rank=RANK)
    items = task.items(dialogues)
    recomputing = recomputed(model) if recompute else nullcontext()
    optimizer = adamw(decay_groups(model.named_parameters(), lr=2e-4, weight_decay=0.0))
    batches = (
        [task.collate(items[i : i + BATCH])] for i in range(0, len(items) - BATCH + 1, BATCH)
    )
    steps = train_steps(
        model, task.loss, batches, optimizer, linear(0.0), Clock(n_steps=10**6), make_accelerator()
    )
    with recomputing:
        while True:
            start = time.perf_counter()
            if next(steps, None) is None:
                return
            yield time.perf_counter() - start


def train_peer(folder: Path, dialogues: list[Dialogue], *, float32: bool, callback: object) -> None:
    """trl's SFTTrainer over the dialogues in order."""
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers.utils import logging

    logging.set_verbosity_error()

    class InOrder(trl.SFTTrainer):
        def _get_train_sampler(self, *_: object) -> SequentialSampler:
            return SequentialSampler(self.train_dataset)

    rows = [{"prompt": list(d.messages[:-1]), "completion": [d.messages[-1]]} for d in dialogues]
    plain = {"bf16": False, "gradient_checkpointing": False} if float32 else {}
    with tempfile.TemporaryDirectory() as scratch:
        InOrder(
            model=str(folder),
            args=trl.SFTConfig(
                scratch, num_train_epochs=1, save_strategy="no", report_to=[], disable_tqdm=True,
                use_cpu=True, logging_steps=10**9, model_init_kwargs={"dtype": "float32"}, **plain,
            ),
            train_dataset=Dataset.from_list(rows),
            peft_config=LoraConfig(
                r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM"
            ),
            callbacks=[callback],
        ).train()  # fmt: skip


def speed(model: str, turns: int, float32: bool, recompute: bool) -> None:
    from peer_turns import TakingTurns

    what, dialogues = conversations()
    used = dialogues[: (turns + 1) * TURN * BATCH]
    chosen = choose_precision()
    print(f"{what}; {torch.get_num_threads()} threads; ours: {chosen.dtype} ({chosen.reason})")
    print(f"theirs: {'float32, no checkpointing' if float32 else 'bfloat16, checkpointing'}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = exported(Path(scratch) / "model", model)
        opened = bundle.load(folder)
        task = Chat.make(opened, ChatParts("", used, used))
        n_tokens = sum(len(i.tokens) for i in task.items(used)[TURN * BATCH :]) / turns
        del opened, task
        ours = asked_turns(
            [__file__, "turns-of-ours", "--folder", str(folder), "--steps", str(len(used)),
             *["--recompute"] * recompute]
        )  # fmt: skip
        taking = TakingTurns(ours, TURN)
        train_peer(folder, used, float32=float32, callback=taking)
        ours.close()
    counted = taking.turns[1:]
    for name, seconds in zip((PEER, "hornbook"), zip(*counted, strict=True), strict=True):
        best, middle = (n_tokens / f(seconds) for f in (min, statistics.median))
        print(f"{name:24}{middle:9.0f} tokens/s, {best:.0f} at best")
    ratios = [theirs / ours for theirs, ours in counted]
    print(f"ratio: {statistics.median(ratios):.2f} (each turn: "
          f"{', '.join(f'{r:.2f}' for r in ratios)})")  # fmt: skip
    form = ", both float32" if float32 else " at its defaults"
    at_least(f"SFT with LoRA, tokens a second, times trl's{form}", statistics.median(ratios), 2)


def memory(model: str, steps: int, float32: bool, recompute: bool) -> None:
    """Each trains `steps` steps in a process of its own, on the longest conversations."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = exported(Path(scratch) / "model", model)
        peaks = {}
        for who in ("theirs", "ours"):
            command = [sys.executable, __file__, f"memory-of-{who}", "--folder", str(folder)]
            command += ["--steps", str(steps)] + ["--float32"] * float32
            command += ["--recompute"] * recompute
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peaks[who] = float(done.stdout.split()[-1])
        for who, peak in peaks.items():
            print(f"{PEER if who == 'theirs' else 'hornbook':24}{peak:9,.0f} MB at most")
        at_most("SFT with LoRA, peak memory, times trl's", peaks["ours"] / peaks["theirs"], 1)


def memory_of(who: str, folder: Path, steps: int, float32: bool, recompute: bool) -> None:
    from transformers import TrainerCallback

    _, dialogues = conversations()
    longest = sorted(dialogues, key=lambda d: -sum(len(m["content"]) for m in d.messages))
    used = longest[: steps * BATCH]
    if who == "ours":
        for _ in our_steps(folder, used, recompute=recompute):
            pass
    else:
        train_peer(folder, used, float32=float32, callback=TrainerCallback())
    print(peak_bytes() / 1e6)


def quality(name: str, seconds: float, n_answers: int, out: Path | None) -> None:
    what, dialogues = conversations()
    n_train, n_test = int(len(dialogues) * 0.85), int(len(dialogues) * 0.1)
    train, test = dialogues[:n_train], dialogues[n_train : n_train + n_test]
    validation = dialogues[n_train + n_test :]
    print(f"{what}: {len(train)} to learn from, {len(test)} to test, {len(validation)} validate")
    opened = bundle.open_model(name)
    task = Chat.make(
        opened, ChatParts("instructions", train, validation, test), n_answers=n_answers
    )
    model = task.build(opened)
    n_trainable = prepare(model, "lora", rank=RANK).n_trainable
    print(f"LoRA of rank {RANK}: {n_trainable:,} of {sum(p.numel() for p in model.parameters()):,}")
    for finding in task.check(ChatParts("instructions", train, validation, test)):
        print(f"- {finding.level}: {finding.what}")

    def validate() -> EvaluationRecord:
        held_out = task.items(validation)
        with torch.inference_mode():
            losses = [task.loss(model, task.collate([i])) for i in held_out]
        mean = sum(float(x.total) for x in losses) / sum(x.n_targets for x in losses)
        print(f"  validation loss {mean:.4f}", flush=True)
        return EvaluationRecord(step=0, tokens=0, seconds=0.0, validation_loss=mean)

    def judge() -> dict[str, float]:
        said = task.predict(model.eval(), task.items(test))
        return {metric.name: metric.value for metric in task.metrics(test, said)}

    before = judge()
    settings = AdaptSettings(
        task="chat", model=name, data="instructions", method="lora", rank=RANK, time=seconds,
        examples_per_step=BATCH, lr=3e-4, evaluations=4,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = out or Path(scratch)
        adaptation = Adaptation(model, task, task.items(train), validate, settings, folder)
        progress = adaptation.run(All([]))
        adaptation.take_best()
    print(
        f"{progress.step} steps of {BATCH}, {progress.seconds:.0f} s, best at {progress.best_step}"
    )
    after = judge()
    print(f"{'on the test part':28}{'before':>10}{'after':>10}")
    for name, label in (
        ("loss", "nats a token of answers"),
        ("ended", f"ended by itself, of {min(n_answers, len(test))}"),
        ("n_written", "tokens an answer"),
    ):
        print(f"{label:28}{before[name]:10.3f}{after[name]:10.3f}")
    at_least("share of held-out prompts whose answer ends by itself", after["ended"], 0.95)
    at_most("held-out loss, against the one before", after["loss"], before["loss"], digits=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    inner = ("memory-of-ours", "memory-of-theirs", "turns-of-ours")
    parser.add_argument("part", nargs="?", choices=("all", "speed", "memory", "quality", *inner),
                        default="all")  # fmt: skip
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--float32", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--answers", type=int, default=100)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.part in ("all", "speed"):
        speed(given.model, given.turns, given.float32, given.recompute)
    if given.part in ("all", "memory"):
        memory(given.model, given.steps, given.float32, given.recompute)
    if given.part in ("all", "quality"):
        quality(given.model, given.seconds, given.answers, given.out)
    if given.part not in inner:
        return
    if given.part == "turns-of-ours":
        used = conversations()[1][: given.steps]
        our_turns(given.folder, [*used[:BATCH], *used], given.recompute)
    else:
        who = given.part.rpartition("-")[2]
        memory_of(who, given.folder, given.steps, given.float32, given.recompute)


if __name__ == "__main__":
    main()
