"""Claims: LoRA beside a base in 4 bits (QLoRA) ends with a held-out loss within 2 % of LoRA's
beside the same base in floats. The matrices it stands beside take at most a sixth of their bytes
where the base came in 4 bits, which it keeps, and a seventh where it is rounded to NF4.

    HORNBOOK_DATA=… python benchmarks/adaptation_qlora.py [--steps 100] [--model M]

SmolLM2 is taught the instructions of `adaptation_chat` (the first 85 % to learn from, the others
held out), three times alike but for the base: the same items in the same order, rank 16, seed, rate
and numbers.
lora: floats. qlora: SmolLM2's file is of 4 bits, Q4_1, and these stay. rounded: all its weights are
moved by a thousandth of themselves first, so that they lie between those steps and have to be
rounded to NF4, as those of a file of floats are.
Losses are nats a token of held-out answers. Bytes are those of the frozen matrices; what is not
rounded, embeddings and norms, is the same in all and said apart. Steps in 4 bits are slower, as
each unpacks the base: the seconds say by how much, if nothing else ran.
Needs: pip install 'hornbook[bench]'.
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
from hornbook.quantization.four_bits import matching
from hornbook.recipes.adaptation import adapt
from hornbook.recipes.adaptation_opening import read_some
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.tasks.chat import Chat, ChatParts
from hornbook.training.listeners import All

RATE, WITHIN = 3e-4, 0.02
MOVED = 1e-3  # of themselves: weights that lie on no steps any more


@dataclass(frozen=True)
class Told:
    """Of one method. before, after: held-out losses. matrices, rest: bytes of what is frozen."""

    before: float
    after: float
    matrices: int
    rest: int
    seconds: float


def taught(
    model: str,
    method: str,
    train: list[Dialogue],
    held_out: list[Dialogue],
    n_steps: int,
    *,
    moved: float = 0.0,
) -> Told:
    """Adapt a model by a method, on the same items in the same order.

    moved: each weight of a linear layer by about so much of itself, first.
    """
    task = Chat.make(opened := bundle.open_model(model), ChatParts("x", train, held_out))
    network = task.build(opened)
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in matching(network).values() if moved else ():
            layer.weight *= 1 + moved * torch.randn_like(layer.weight)
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
    n_train = int(len(dialogues) * 0.85)
    train, held_out = dialogues[:n_train], dialogues[n_train:]
    print(f"{what}: {len(train)} to learn from in {given.steps} steps, {len(held_out)} held out")
    found = {}
    for name, method, moved in (
        ("lora", "lora", 0.0),
        ("qlora", "qlora", 0.0),
        ("rounded", "qlora", MOVED),
    ):
        told = taught(given.model, method, train, held_out, given.steps, moved=moved)
        found[name] = told
        print(
            f"{name:8} held-out loss {told.before:.4f} before, {told.after:.4f} after; matrices "
            f"{told.matrices / 1e6:.1f} MB, the rest {told.rest / 1e6:.1f} MB; {told.seconds:.0f} s"
        )
    floats = found["lora"]
    for name, bits, smaller in (
        ("of a base that came in 4 bits", found["qlora"], 6),
        ("of a base rounded to NF4", found["rounded"], 7),
    ):
        more = bits.after / floats.after - 1
        at_most(f"QLoRA's held-out loss above LoRA's, a share, {name}", more, WITHIN, digits=4)
        fewer = floats.matrices / bits.matrices
        at_least(f"bytes of LoRA's matrices over QLoRA's, {name}", fewer, smaller)


if __name__ == "__main__":
    main()
