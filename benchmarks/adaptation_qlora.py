"""Claim: LoRA beside a base in 4 bits (QLoRA) ends with a held-out loss within 2 % of LoRA's beside
the same base in floats, and the matrices it stands beside take at most a seventh of their bytes.

    HORNBOOK_DATA=… python benchmarks/adaptation_qlora.py [--steps 100] [--model M]

SmolLM2 is taught the instructions of `adaptation_chat` (the first 85 % to learn from, the last 5 %
held out), twice alike but for the base: the same items in the same order, rank 16, seed, rate and
numbers. Losses are nats a token of held-out answers. Bytes are those of the frozen matrices; what
is not rounded, embeddings and norms, is the same in both and said apart.
Steps in 4 bits are slower, as each unpacks the base: the seconds say by how much, if nothing else
ran. SmolLM2's own file is of 4 bits already, which float bases are not: rounded once more, its
weights move as much as any. Needs: pip install 'hornbook[bench]'.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from adaptation_chat import BATCH, MODEL, RANK, conversations
from claims import at_least, at_most

from hornbook import bundle
from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.data.conversations import Dialogue
from hornbook.evaluation.likelihood import mean_loss
from hornbook.recipes.adaptation import adapt
from hornbook.recipes.adaptation_opening import read_some
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.tasks.chat import Chat, ChatParts
from hornbook.training.listeners import All

RATE, WITHIN, SMALLER = 3e-4, 0.02, 7.0


@dataclass(frozen=True)
class Told:
    """Of one method. before, after: held-out losses. matrices, rest: bytes of what is frozen."""

    before: float
    after: float
    matrices: int
    rest: int
    seconds: float


def taught(
    model: str, method: str, train: list[Dialogue], held_out: list[Dialogue], n_steps: int
) -> Told:
    """Adapt a model by a method, on the same items in the same order."""
    task = Chat.make(opened := bundle.open_model(model), ChatParts("x", train, held_out))
    network = task.build(opened)
    torch.manual_seed(0)
    prepare(network, method, rank=RANK, read=partial(read_some, task, network, train))
    held_items = task.items(held_out)

    def loss() -> float:
        network.eval()
        return mean_loss(network, task.loss, (task.collate([item]) for item in held_items))[0]

    before = loss()
    settings = AdaptSettings(
        task="chat", model=model, data="instructions", method=method, rank=RANK, steps=n_steps,
        examples_per_step=BATCH, lr=RATE, precision="float32",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        progress = adapt(
            network, task, task.items(train), None, settings, Path(scratch), All([])
        )  # fmt: skip
    bases = [layer.base for layer in lora.adapters(network).values()]
    matrices = sum(map(_bytes, bases))
    changes = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return Told(before, loss(), matrices, _bytes(network) - matrices - changes, progress.seconds)


def _bytes(module: torch.nn.Module) -> int:
    return sum(x.numel() * x.element_size() for x in [*module.parameters(), *module.buffers()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--model", default=MODEL)
    given = parser.parse_args()
    what, dialogues = conversations()
    train, held_out = dialogues[: int(len(dialogues) * 0.85)], dialogues[-len(dialogues) // 20 :]
    print(f"{what}: {len(train)} to learn from in {given.steps} steps, {len(held_out)} held out")
    found = {}
    for method in ("lora", "qlora"):
        found[method] = told = taught(given.model, method, train, held_out, given.steps)
        print(
            f"{method:6} held-out loss {told.before:.4f} before, {told.after:.4f} after; matrices "
            f"{told.matrices / 1e6:.1f} MB, the rest {told.rest / 1e6:.1f} MB; {told.seconds:.0f} s"
        )
    floats, bits = found["lora"], found["qlora"]
    more = bits.after / floats.after - 1
    at_most("QLoRA's held-out loss above LoRA's, a share", more, WITHIN, digits=4)
    at_least("bytes of LoRA's matrices over QLoRA's", floats.matrices / bits.matrices, SMALLER)


if __name__ == "__main__":
    main()
