"""AdamW over the rows of an embedding that were ever touched.

A row that no text has had yet has moments of zero, so that AdamW does nothing to it but decay; a
vocabulary holds tens of thousands, and a small set of texts uses some thousands. The moments of the
touched ones lie end to end, in the order in which they came:

    rows     [ 5  9  2  30 ]           which row of the embedding each is
    moments  [ m5 m9 m2 m30 ... ]      room for more

A step takes these rows out of the embedding, updates them, and lays them back: the numbers are
those of AdamW over all rows. When most rows are touched that costs more than it saves, and the
moments become the optimiser's own, as it keeps them of every other parameter; so they are in what
is saved, whichever way they lie.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.adamw import adamw as update

from hornbook.training.rows import RowGradients, summed

MOST = 1 / 3  # of all rows; beyond, all are updated


class RowSteps:
    """Has an AdamW update embeddings whose gradients come by rows (`training.rows`) row by row."""

    def __init__(self, optimizer: AdamW) -> None:
        self._tables: dict[Tensor, _Table] = {}
        self._whole: set[Tensor] = set()  # whose moments are the optimiser's for good
        optimizer.register_step_pre_hook(self._step)
        RowGradients(optimizer)  # of what is left: rows that are most of all
        optimizer.register_state_dict_post_hook(self._save)
        optimizer.register_load_state_dict_post_hook(self._forget)

    @torch.no_grad()
    def _step(self, optimizer: Any, *_: object) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                if parameter in self._whole:
                    continue
                if not gradient.is_sparse:
                    self._give_back(optimizer, parameter)
                    continue
                gradient = parameter.grad = summed(gradient)
                table = self._table(optimizer, parameter)
                if table is None or not table.takes(gradient.indices()[0]):
                    self._give_back(optimizer, parameter)
                    continue
                table.step(parameter, gradient, group, getattr(optimizer, "grad_scale", None))
                parameter.grad = None

    def _table(self, optimizer: AdamW, parameter: Tensor) -> _Table | None:
        """The parameter's moments by rows; None where they are the optimiser's for good."""
        if parameter not in self._tables:
            state = optimizer.state.get(parameter)
            table = _Table(parameter)
            if state:
                touched = state["exp_avg_sq"].any(1).nonzero().squeeze(1)
                if not table.takes(touched):
                    return None
                table.fill(state)
                del optimizer.state[parameter]
            self._tables[parameter] = table
        return self._tables[parameter]

    def _give_back(self, optimizer: AdamW, parameter: Tensor) -> None:
        """Make the moments of all rows the optimiser's."""
        self._whole.add(parameter)
        if (table := self._tables.pop(parameter, None)) is not None and table.n_steps:
            optimizer.state[parameter] = table.state(parameter)

    def _forget(self, _: object) -> None:
        """What was loaded tells anew which rows were touched."""
        self._tables.clear()
        self._whole.clear()

    def _save(self, optimizer: Any, saved: dict[str, Any]) -> None:
        """Lay all rows' moments into what is saved."""
        for group, names in zip(optimizer.param_groups, saved["param_groups"], strict=True):
            for parameter, name in zip(group["params"], names["params"], strict=True):
                if (table := self._tables.get(parameter)) is not None and table.n_steps:
                    saved["state"][name] = table.state(parameter)


class _Table:
    """Moments of the touched rows of one embedding (V, E)."""

    def __init__(self, parameter: Tensor) -> None:
        n_rows = len(parameter)
        self.most = int(MOST * n_rows)
        self.places = torch.full((n_rows,), -1, device=parameter.device)  # of each row, -1: none
        self.rows = self.places[:0]
        self.step_count = torch.zeros((), device=parameter.device)
        self.mean, self.square, self.gradient = (parameter.new_zeros(0, parameter.shape[1]),) * 3

    @property
    def n_steps(self) -> int:
        return int(self.step_count)

    def takes(self, touched: Tensor) -> bool:
        """Make room for rows, each named once; False, and nothing is done, where it is too much."""
        new = touched[self.places[touched] < 0]
        n = len(self.rows) + len(new)
        if n > self.most:
            return False
        self.places[new] = torch.arange(len(self.rows), n, device=new.device)
        self.rows = torch.cat([self.rows, new])
        if n > len(self.mean):
            room = min(self.most, 2 * n)
            self.mean, self.square, self.gradient = (
                torch.cat([x, x.new_zeros(room - len(x), x.shape[1])])
                for x in (self.mean, self.square, self.gradient)
            )
        return True

    def step(
        self, parameter: Tensor, gradient: Tensor, group: dict[str, Any], divisor: Tensor | None
    ) -> None:
        """gradient: by rows, each once. divisor: what it is to be divided by, none when None."""
        n, touched = len(self.rows), self.places[gradient.indices()[0]]
        self.gradient[touched] = gradient.values()
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rows = parameter.index_select(0, self.rows)
        update(
            [rows],
            [self.gradient[:n]],
            [self.mean[:n]],
            [self.square[:n]],
            [],
            [self.step_count],
            fused=group["fused"],
            grad_scale=divisor,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        parameter.index_copy_(0, self.rows, rows)
        self.gradient[touched] = 0.0

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """As AdamW keeps it, of all rows."""

        def whole(moments: Tensor) -> Tensor:
            return torch.zeros_like(parameter).index_copy_(0, self.rows, moments[: len(self.rows)])

        return {
            "step": self.step_count.clone(),
            "exp_avg": whole(self.mean),
            "exp_avg_sq": whole(self.square),
        }

    def fill(self, state: dict[str, Tensor]) -> None:
        """Take up what AdamW kept, of the rows that there is room for."""
        n = len(self.rows)
        self.step_count = state["step"].clone().float()
        self.mean[:n] = state["exp_avg"][self.rows]
        self.square[:n] = state["exp_avg_sq"][self.rows]
