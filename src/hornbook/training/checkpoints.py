"""Checkpoints: all that a run needs to go on as if it had never stopped, whole or not at all.

    folder/step-00000120/
        model.safetensors       weights and buffers, by name
        optimizer.safetensors   each parameter's moments, as "name/moment"
        random.safetensors      torch's random state, of each process
        state.json              the caller's state, Python's and numpy's random state
        manifest.json           the step, the score, and the SHA-256 of the files above

Written beside its place and renamed: killed at any moment, a run leaves the checkpoints of before.
What a disk did to a file later is seen by its checksum, and the checkpoint before is taken, saying
so. Nothing in one is a program. It holds state, not settings: who resumes makes model and optimiser
as they were made, and the weights move to any number of processes.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hornbook.errors import CheckpointError
from hornbook.files import atomic_folder, sha256, write_text
from hornbook.training.optimizers import AnyOptimizer
from hornbook.training.parts import placed_as, whole

MODEL, OPTIMIZER, RANDOM = "model.safetensors", "optimizer.safetensors", "random.safetensors"
STATE, MANIFEST = "state.json", "manifest.json"
WRAPPERS = ("module.", "_orig_mod.")  # what DDP and torch.compile put before names


@dataclass(frozen=True)
class Checkpoint:
    """One that is whole. step: steps taken, so the number to go on from. score: lower is better.

    skipped: a sentence for each newer one that is damaged.
    """

    folder: Path
    step: int
    score: float | None
    state: dict[str, Any]
    skipped: tuple[str, ...] = ()

    def load_into(self, model: nn.Module, optimizer: AnyOptimizer | None = None) -> None:
        """Put weights (and moments) back. With an optimiser, the random state too: to go on.

        Every process calls it. Raises CheckpointError when the names or shapes are others.
        """
        _load_model(model, self.folder / MODEL)
        if optimizer is not None:
            whole_state = _read_json(self.folder / STATE)
            _load_optimizer(model, optimizer, whole_state["optimized"], self.folder / OPTIMIZER)
            _set_random_state(whole_state["random"], load_file(self.folder / RANDOM))


def save_checkpoint(
    folder: Path,
    step: int,
    model: nn.Module,
    optimizer: AnyOptimizer,
    state: dict[str, Any],
    *,
    score: float | None = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint after `step` steps; returns its folder. All processes call it, one writes.

    state: what else the run needs (data position, clock, best so far), as JSON. score: what the
    best is chosen by, lower is better. keep: how many of the newest stay; the best one stays too.
    Raises CheckpointError when it cannot be written (full disk): those of before are intact.
    """
    place = folder / f"step-{step:08d}"
    model_tensors = {name: _on_disk(x) for name, x in _tensors(model).items()}
    optimizer_tensors = {name: _on_disk(x) for name, x in _moments(model, optimizer).items()}
    plain_random, random_tensors = _random_state()
    error = None
    if _rank() == 0:
        whole_state = {
            "state": state,
            "optimized": _optimized(model, optimizer),
            "random": plain_random,
        }
        try:
            _remove_leftovers(folder)
            with atomic_folder(place) as temporary:
                save_file(model_tensors, temporary / MODEL)
                save_file(optimizer_tensors, temporary / OPTIMIZER)
                save_file(random_tensors, temporary / RANDOM)
                write_text(temporary / STATE, json.dumps(whole_state))
                sums = {path.name: _synced_sum(path) for path in sorted(temporary.iterdir())}
                manifest = {"step": step, "score": score, "sha256": sums}
                write_text(temporary / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            _sync(folder)
            _prune(folder, keep)
        except (OSError, SafetensorError) as problem:
            error = f"{type(problem).__name__}: {problem}"
    if _several():
        told = [error]
        dist.broadcast_object_list(told, src=0)  # the others wait here until it is written
        error = told[0]
    if error:
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {folder}: {error}",
            hint="Is the disk full? Earlier checkpoints are intact: make room, then resume.",
        )
    return place


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest whole checkpoint, None where there is none; `skipped` says what was passed over.

    Raises CheckpointError when there are some and all are damaged.
    """
    skipped: list[str] = []
    for place in reversed(_places(folder)):
        try:
            step, score = _verified(place)
        except CheckpointError as problem:
            skipped.append(f"{place.name} was passed over: {problem.message}")
            continue
        state = _read_json(place / STATE)["state"]
        return Checkpoint(place, step, score, state, tuple(skipped))
    if skipped:
        raise CheckpointError(
            f"every checkpoint in {folder} is damaged: {'; '.join(skipped)}",
            hint="Start the run anew; look after the disk.",
        )
    return None


def best_checkpoint(folder: Path) -> Checkpoint | None:
    """The whole checkpoint with the lowest score, None where none has one."""
    scored = sorted(
        (s, -i, p) for i, p in enumerate(_places(folder)) if (s := _score(p)) < math.inf
    )
    skipped: list[str] = []
    for score, _, place in scored:
        try:
            step, _ = _verified(place)
        except CheckpointError as problem:
            skipped.append(f"{place.name} was passed over: {problem.message}")
            continue
        return Checkpoint(place, step, score, _read_json(place / STATE)["state"], tuple(skipped))
    return None


# What is in a folder


def _places(folder: Path) -> list[Path]:
    """The folders of checkpoints, oldest first."""
    return sorted(folder.glob("step-" + "[0-9]" * 8 + "*"))


def _verified(place: Path) -> tuple[int, float | None]:
    """Step and score. Raises CheckpointError when a file is missing or not as it was written."""
    manifest = _read_json(place / MANIFEST)
    if not {"step", "score", "sha256"} <= manifest.keys() or (
        manifest["sha256"].keys() != {MODEL, OPTIMIZER, RANDOM, STATE}
    ):
        raise CheckpointError(f"{MANIFEST} is not one of a checkpoint")
    for name, expected in manifest["sha256"].items():
        if not (place / name).is_file():
            raise CheckpointError(f"{name} is missing")
        if sha256(place / name) != expected:
            raise CheckpointError(f"{name} is not as it was written (checksum)")
    return manifest["step"], manifest["score"]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{path.name} cannot be read ({problem})") from problem
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is not one of a checkpoint")
    return content


def _score(place: Path) -> float:
    """The score a checkpoint says it has; infinite where it has none or can't be read."""
    try:
        score = _read_json(place / MANIFEST).get("score")
    except CheckpointError:
        return math.inf
    return score if isinstance(score, float | int) and math.isfinite(score) else math.inf


def _prune(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` and the best."""
    places = _places(folder)
    best = min(places, key=_score)  # the first of equals
    for place in places[: -max(1, keep)]:
        if place != best or _score(place) == math.inf:
            shutil.rmtree(place)


def _remove_leftovers(folder: Path) -> None:
    """What a process that was killed while writing left: hidden folders beside the good ones."""
    for leftover in [*folder.glob(".step-*.part"), *folder.glob(".step-*.old")]:
        shutil.rmtree(leftover)


def _synced_sum(path: Path) -> str:
    _sync(path)
    return sha256(path)


def _sync(path: Path) -> None:
    """Have the system write a file, or a folder's entries, to the disk now."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders, and keeps their entries by itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# What is in a file


def _name(name: str) -> str:
    while prefix := next((w for w in WRAPPERS if name.startswith(w)), ""):
        name = name.removeprefix(prefix)
    return name


def _on_disk(x: Tensor) -> Tensor:
    return whole(x.detach()).cpu().contiguous()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name; what is tied, once."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, x in model.state_dict(keep_vars=True).items():
        found.setdefault(id(x), (_name(name), x))
    return dict(found.values())


def _optimized(model: nn.Module, optimizer: AnyOptimizer) -> list[str]:
    """The names of the optimiser's parameters, in its own order."""
    names = {id(p): _name(name) for name, p in model.named_parameters()}
    return [names[id(p)] for group in optimizer.param_groups for p in group["params"]]


def _moments(model: nn.Module, optimizer: AnyOptimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, as "name/moment"."""
    names = _optimized(model, optimizer)
    return {
        f"{names[i]}/{key}": value
        for i, moments in optimizer.state_dict()["state"].items()
        for key, value in moments.items()
        if value is not None
    }


def _load_model(model: nn.Module, path: Path) -> None:
    mine, theirs = _tensors(model), load_file(path)
    _agree({n: tuple(x.shape) for n, x in mine.items()}, theirs, path)
    with torch.no_grad():
        for name, x in mine.items():
            x.copy_(placed_as(x, theirs[name].to(x.device)))


def _load_optimizer(
    model: nn.Module, optimizer: AnyOptimizer, optimized: list[str], path: Path
) -> None:
    names = _optimized(model, optimizer)
    if set(names) != set(optimized):
        raise CheckpointError(
            f"{path} trains other parameters: {sorted(set(names) ^ set(optimized))[:10]} differ",
            hint="Resume with the settings of the run that wrote it.",
        )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    places = {name: i for i, name in enumerate(names)}
    state: dict[int, dict[str, Tensor]] = {}
    for full_name, x in load_file(path).items():
        name, _, key = full_name.rpartition("/")
        parameter = parameters[places[name]]
        moment = x.to(parameter.device)
        if x.shape == parameter.shape:
            moment = placed_as(parameter, moment)
        state.setdefault(places[name], {})[key] = moment
    groups = optimizer.state_dict()["param_groups"]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as problem:
        raise CheckpointError(
            f"{path} is another optimiser's: {problem}",
            hint="Resume with the settings of the run that wrote it.",
        ) from problem


def _agree(mine: dict[str, tuple[int, ...]], theirs: dict[str, Tensor], path: Path) -> None:
    """Raise CheckpointError with all differences unless names and shapes are the same."""
    found = {name: tuple(x.shape) for name, x in theirs.items()}
    if found == mine:
        return
    shapes = {n: f"{found[n]} for {mine[n]}" for n in mine.keys() & found.keys()
              if found[n] != mine[n]}  # fmt: skip
    raise CheckpointError(
        f"{path} holds another model: missing {sorted(mine.keys() - found.keys())[:10]}, "
        f"unknown {sorted(found.keys() - mine.keys())[:10]}, other shapes {shapes}",
        hint="Resume with the settings of the run that wrote it.",
    )


# Random state, and who else is there


def _random_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Python's and numpy's (this process') for JSON; torch's, of every process, as tensors."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)
    plain = {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
    }
    mine = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine["cuda"] = torch.cuda.get_rng_state()
    all_of_them = [mine]
    if _several():
        all_of_them = [{}] * dist.get_world_size()
        dist.all_gather_object(all_of_them, mine)
    tensors = {f"{k}.{rank}": x for rank, one in enumerate(all_of_them) for k, x in one.items()}
    return plain, tensors


def _set_random_state(plain: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """A process that was not there when the checkpoint was written takes the first one's."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = plain["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(tensors.get(f"torch.{_rank()}", tensors["torch.0"]))
    if torch.cuda.is_available() and "cuda.0" in tensors:
        torch.cuda.set_rng_state(tensors.get(f"cuda.{_rank()}", tensors["cuda.0"]))


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def _rank() -> int:
    return dist.get_rank() if _several() else 0
