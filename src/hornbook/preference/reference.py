"""The model that learning started from: the same with its adapter switched off, a copy, or, of a
run that is opened again, the model of that name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornbook.adapters.lora import adapters, switched_off
from hornbook.bundle import open_model
from hornbook.errors import CheckpointError, TrainingError, UnavailableError, UnknownNameError
from hornbook.tasks.branches import BranchBatch, batches, branch_log_probs, lay, summed

_MOST = 2**24  # logits made at once


class Reference:
    """What the model was. It is asked once about each item and remembers the answer.

    `begin` comes before the first step: it asks about the items that are learnt from, in batches
    that are the same whenever the run begins or goes on, for in another batch a number is rounded
    otherwise. Of other items, such as validation's, the answer is of the batch that they came in.

    An adapter switched off costs no memory; a model all of whose weights learn is copied by
    `begin`. base: the name of the model that a saved one was made of.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base
        self._copy: nn.Module | None = None
        self._known: dict[Hashable, list[float]] = {}  # by item
        self._met: dict[tuple[Hashable, ...], list[float]] = {}  # by the items of a batch

    def begin(
        self,
        model: nn.Module,
        items: Sequence[Any] = (),
        *,
        device: str = "cpu",
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Keep what is to be changed, nothing where it is an adapter that learns; and what it says
        of these items."""
        self._known.clear()
        self._met.clear()
        if self._copy is None and not adapters(model):
            self._copy = copy.deepcopy(model).eval().requires_grad_(False)
        n_done = 0
        for batch in batches(items):
            those = [items[i] for i in batch]
            parts = self._asked(model, lay(those, device)).tolist()
            for item in those:
                self._known[item] = parts[: len(item.branches)]
                parts = parts[len(item.branches) :]
            n_done += len(those)
            if progress:
                progress(n_done, len(items))

    @torch.no_grad()
    def _asked(self, model: nn.Module, batch: BranchBatch) -> Tensor:
        with self.of(model) as reference:
            return branch_log_probs(reference, batch)

    def is_known(self, model: nn.Module) -> bool:
        """Whether there is a reference: not for a saved model whose base isn't here any more."""
        if self._base and self._copy is None and not adapters(model):
            self._open_base(model)
        return self._copy is not None or bool(adapters(model))

    def _open_base(self, model: Any) -> None:
        """Without it there is less to be told of the model, and no reason to refuse it."""
        try:
            base: Any = open_model(self._base).model
        except (CheckpointError, UnavailableError, UnknownNameError):
            base = None
        self._base = ""
        if type(base) is type(model) and base.config.vocab_size == model.config.vocab_size:
            self._copy = base.eval().requires_grad_(False)

    @contextmanager
    def of(self, model: nn.Module) -> Iterator[Any]:
        """The reference as a model, inside this block. Raises TrainingError where none was kept."""
        if self._copy is not None:
            yield self._copy
        elif adapters(model):
            was_training = model.training
            model.eval()
            try:
                with switched_off(model):
                    yield model
            finally:
                model.train(was_training)
        else:
            raise TrainingError(
                "the model as it was before training is not known any more",
                hint="Call `begin` before the first step, or train an adapter: --method lora.",
            )

    def log_probs(self, model: nn.Module, items: Sequence[Any], batch: BranchBatch) -> Tensor:
        """The log-probabilities (N,) of a batch's branches. items: what the batch was laid of."""
        if all(item in self._known for item in items):
            known = [value for item in items for value in self._known[item]]
        else:
            if tuple(items) not in self._met:
                self._met[tuple(items)] = self._asked(model, batch).tolist()
            known = self._met[tuple(items)]
        return torch.tensor(known, device=batch.tokens.device)

    @torch.no_grad()
    def beside(self, model: Any, batch: BranchBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities under model and reference, and the divergence between them, (N,) each.

        The divergence KL(model || reference) in nats is that of the whole distributions at each
        token of the branch, summed: exact along the branch, which others wrote; along the model's
        own answers, its mean is the divergence a sequence.
        """
        hidden = _read(model, batch)
        with self.of(model) as reference:
            other = _read(reference, batch)
        n_rows = max(1, _MOST // model.config.vocab_size)
        parts: list[tuple[Tensor, ...]] = []
        for rows, others, targets in zip(
            hidden.split(n_rows), other.split(n_rows), batch.targets.split(n_rows), strict=True
        ):
            ours = F.log_softmax(model.logits(rows).float(), -1)
            with self.of(model) as reference:
                theirs = F.log_softmax(reference.logits(others).float(), -1)
            at = targets[:, None]
            divergence = (ours.exp() * (ours - theirs)).sum(-1)
            parts.append((ours.gather(1, at)[:, 0], theirs.gather(1, at)[:, 0], divergence))
        mine, its, divergence = (summed(torch.cat(found), batch) for found in zip(*parts))
        return mine, its, divergence


def _read(model: Any, batch: BranchBatch) -> Tensor:
    """Hidden states where tokens are guessed: (P, E)."""
    hidden: Tensor = model(batch.tokens, batch.layout)
    return hidden.index_select(0, batch.places)
