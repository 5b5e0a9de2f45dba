"""Adapters in peft's folders: adapter_config.json and adapter_model.safetensors, head included.

What we save gives the same logits in peft; what peft saves gives them here. A fused layer of ours
is written as the matrices that transformers has; where those are fused too (GPT-2), the changes of
its parts become one of larger rank, its B block-diagonal (docs/decisions/0011).
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from hornbook import files
from hornbook.adapters import lora
from hornbook.adapters.dora import Dora
from hornbook.adapters.fingerprint import fingerprint
from hornbook.adapters.fused import Part
from hornbook.adapters.heads import SwitchedHead
from hornbook.adapters.low_rank import LowRank
from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.catalogue import CATALOGUE
from hornbook.interop.huggingface import family_of, read_weights
from hornbook.interop.names import Family, Row, bert, gpt2, modernbert, to_ours, to_theirs
from hornbook.interop.peft_pieces import PREFIX, Piece, change_of, piece_of, pieces_and_others

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_MARK = "base_fingerprint"
_TASKS = {
    "SequenceClassification": "SEQ_CLS",
    "TokenClassification": "TOKEN_CLS",
    "QuestionAnswering": "QUESTION_ANS",
    "CausalLM": "CAUSAL_LM",
    "LMHead": "CAUSAL_LM",
    "MarianMT": "SEQ_2_SEQ_LM",
}
# Modules of a head that hold another tensor once more; peft wants them in the file.
_TIED = {
    "BertForMaskedLM": {
        "cls.predictions.decoder.weight": f"{bert.PREFIX}embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    "ModernBertForMaskedLM": modernbert.COPIES,
}
# Settings that change what the numbers mean, with the value that changes nothing.
_PLAIN = {
    "bias": "none",
    "lora_bias": False,
    "trainable_token_indices": None,
    "target_parameters": None,
    "layer_replication": None,
    "use_qalora": False,
    "alora_invocation_tokens": None,
    "use_bdlora": None,
}


def save_adapter(
    folder: Path, model: Any, *, base_name: str, family: str = "", adapter: str = ""
) -> None:
    """Write an adapter and its head as peft does.

    base_name: what the base is called, a path, or a name of the catalogue, instead of which the
    hub's is written. family: what
    the base's config.json calls it, when the caller wants to be sure. adapter: which one, the
    active one when "". Raises ConfigError when the model has no such adapter or no folder format.
    """
    kind, ours = family_of(model), _changes(model, adapter)
    mine = kind.config_to_theirs(model.config)["model_type"]
    if family and family != mine:
        raise ConfigError(f"the model is a {mine}, not a {family}", hint="Name its own base.")
    rows = {row.ours: row for row in kind.table(model.config)}
    pieces: dict[str, Piece] = {}
    for name, change in ours.items():
        layer = model.get_submodule(name)
        for theirs, begin, end in _slices(kind, rows[f"{name}.weight"], layer.out_features):
            if piece := piece_of(change, layer.base, begin, end):
                pieces[theirs] = piece
    saved = _head_to_theirs(model, kind, rows, adapter)
    first = next(iter(ours.values()))
    config = _config(kind, first, pieces, sorted(_owners(saved)), _linear(kind, rows))
    config["base_model_name_or_path"] = _hub_name(base_name)
    weights = {f"{PREFIX}{name}": tensor for name, tensor in saved.items()}
    for name, piece in pieces.items():
        weights |= {f"{PREFIX}{name}.{end}": t for end, t in piece.tensors().items()}
    whole = {name: t.detach().float().cpu().contiguous().clone() for name, t in weights.items()}
    files.write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    with files.atomic_file(folder / WEIGHTS) as temporary:
        save_file(whole, temporary, metadata={"format": "pt", _MARK: fingerprint(model)})


def load_adapter(
    folder: Path, model: Any, *, base_name: str = "", adapter: str = lora.DEFAULT
) -> None:
    """Attach what a folder holds and make it the active adapter; all else is frozen.

    adapter: its name here. The first adapter's head takes the place of the model's; with more than
    one, each has its own. base_name: what this model is called. Raises CheckpointError for a
    damaged folder, another base (both named), settings that can't be followed, and tensors that
    have no place here or don't fit.
    """
    config = read_settings(folder)
    weights = read_weights(folder / WEIGHTS)
    _refuse_another_base(folder, config, model, base_name)
    kind = family_of(model)
    rows = {row.ours: row for row in kind.table(model.config)}
    pieces, others = pieces_and_others(weights, config)
    head = _head_to_ours(model, kind, rows, others)
    placed = []
    for ours in lora.linear_layers(model):
        layer, row = model.get_submodule(ours), rows.get(f"{ours}.weight")
        found = [
            (Part(theirs.rpartition(".")[2], begin, end), pieces.pop(theirs))
            for theirs, begin, end in (_slices(kind, row, layer.out_features) if row else ())
            if theirs in pieces
        ]
        if found:
            base = layer.base if isinstance(layer, lora.LoRALinear) else layer
            placed.append((ours, change_of(ours, base, found, config)))
    if pieces:
        raise CheckpointError(
            f"the adapter in {folder} changes what this model has not: {sorted(pieces)[:6]}",
            hint=f"It is for '{config.get('base_model_name_or_path')}'.",
        )
    known = lora.names(model)
    model.requires_grad_(False)
    for ours, change in placed:
        lora.add_change(lora.adaptable(model, ours), adapter, change)
    for name, layer in lora.adapters(model).items():
        layer.active = adapter if name in dict(placed) else None
    if head:
        _place_head(model, head, adapter, known)


def _changes(model: nn.Module, adapter: str) -> dict[str, LowRank]:
    layers = lora.adapters(model)
    found = {
        name: layer.changes[adapter or layer.active]  # type: ignore[index]
        for name, layer in layers.items()
        if (adapter or layer.active) in layer.changes  # type: ignore[operator]
    }
    if not found:
        raise ConfigError(
            f"the model holds no adapter{f' {adapter!r}' * bool(adapter)}",
            hint=f"It holds: {lora.names(model)}.",
        )
    return found  # type: ignore[return-value]


def _slices(kind: Family, row: Row, n_rows: int) -> list[tuple[str, int, int]]:
    """Their modules of one of our layers, each with its rows of it."""
    shares, begin, found = row.shares or (1,) * len(row.theirs), 0, []
    unit = n_rows // sum(shares)
    for weight, share in zip(row.theirs, shares, strict=True):
        found.append((_module(kind, weight), begin, begin + unit * share))
        begin += unit * share
    return found


def _module(kind: Family, weight: str) -> str:
    """Their module by its weight; GPT-2's own files leave out what stands before it."""
    bare = kind is gpt2.FAMILY
    return (gpt2.PREFIX if bare else "") + weight.removesuffix(".weight")


def _config(
    kind: Family,
    first: LowRank,
    pieces: Mapping[str, Piece],
    modules_to_save: list[str],
    linear: set[str],
) -> dict[str, Any]:
    stabilized = first.config.rank_stabilized

    def alpha(piece: Piece) -> float:
        rank = len(piece.a)
        return piece.scale * (math.sqrt(rank) if stabilized else rank)

    usual = next(iter(pieces.values()))
    unusual = {n: p for n, p in pieces.items() if (len(p.a), p.scale) != _like(usual)}
    task = next((t for part, t in _TASKS.items() if part in kind.architecture), None)
    return {
        "peft_type": "LORA",
        "task_type": task,
        "auto_mapping": None if task else _class_of(kind),
        "r": len(usual.a),
        "lora_alpha": alpha(usual),
        "lora_dropout": first.config.dropout,
        "use_rslora": stabilized,
        "use_dora": isinstance(first, Dora),
        "target_modules": _shortest(set(pieces), linear),
        "modules_to_save": modules_to_save or None,
        "rank_pattern": {re.escape(n): len(p.a) for n, p in unusual.items()},
        "alpha_pattern": {re.escape(n): alpha(p) for n, p in unusual.items()},
        "bias": "none",
        "fan_in_fan_out": kind.model_type == "gpt2",
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _class_of(kind: Family) -> dict[str, str]:
    """How peft names a base that is of none of its tasks."""
    return {"base_model_class": kind.architecture, "parent_library": "transformers"}


def _like(piece: Piece) -> tuple[int, float]:
    return len(piece.a), piece.scale


def _shortest(targets: set[str], linear: set[str]) -> list[str]:
    """Last parts of names where they pick these modules and no others, else the whole names."""
    last = {name.rpartition(".")[2] for name in targets}
    picked = {name for name in linear if name.rpartition(".")[2] in last}
    return sorted(last if picked == targets else targets)


def _linear(kind: Family, rows: Mapping[str, Row]) -> set[str]:
    """Their modules that hold a weight: more than the linear ones, which is the safe side."""
    weights = [name for row in rows.values() for name in row.theirs if name.endswith(".weight")]
    return {_module(kind, name) for name in weights}


def _owners(tensors: Mapping[str, Tensor]) -> set[str]:
    """The modules that hold these tensors, without those inside others of them."""
    owners = {name.rpartition(".")[0] for name in tensors}
    return {o for o in owners if not any(o.startswith(f"{other}.") for other in owners)}


def _head_to_theirs(
    model: Any, kind: Family, rows: Mapping[str, Row], adapter: str
) -> dict[str, Tensor]:
    """The head's tensors under their names, copies of others included; none of a bare decoder."""
    if not hasattr(model, "trunk"):
        return {}
    head = model.head
    if isinstance(head, SwitchedHead):
        head = head.heads[adapter] if adapter else head.current
    mine = {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    theirs = to_theirs(mine, [rows[name] for name in mine])
    for repeated, original in _TIED.get(kind.architecture, {}).items():
        source = theirs.get(original)
        theirs[repeated] = model.trunk.token_embedding().detach() if source is None else source
    return theirs


def _head_to_ours(
    model: Any, kind: Family, rows: Mapping[str, Row], others: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The head's tensors by our names below "head."; none where there were none."""
    copies = _TIED.get(kind.architecture, {})
    theirs = {name: tensor for name, tensor in others.items() if name not in copies}
    of_head = [row for row in rows.values() if row.ours.startswith("head.")]
    known = {name for row in of_head for name in row.theirs} if hasattr(model, "trunk") else set()
    if strange := sorted(theirs.keys() - known):
        raise CheckpointError(
            f"the adapter brings modules that this model's head has not: {strange[:6]}",
            hint="Open the base with the head that the adapter was trained with.",
        )
    there = [row for row in of_head if all(name in theirs for name in row.theirs)]
    shapes = {row.ours: theirs[row.theirs[0]].shape for row in there}  # labels may be others
    ours = to_ours({name: theirs[name] for row in there for name in row.theirs}, there, shapes)
    return {name.removeprefix("head."): tensor for name, tensor in ours.items()}


def _place_head(model: Any, weights: dict[str, Tensor], adapter: str, known: list[str]) -> None:
    """Fill the only adapter's head where it stands; each of several gets its own."""
    if not known and adapter == lora.DEFAULT and not isinstance(model.head, SwitchedHead):
        _fill(model.head, weights)
        model.head.requires_grad_(True)
        return
    if not isinstance(model.head, SwitchedHead):
        switched = SwitchedHead(model.head)
        for name in known:
            switched.heads[name] = model.head
        model.head = switched
    head = copy.deepcopy(model.head.base)
    _fill(head, weights)
    model.head.heads[adapter] = head.requires_grad_(True)
    model.head.active = adapter


def _fill(head: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put weights into a head, which gets as many outputs as they have."""
    mine = dict(head.named_parameters())
    for name, tensor in weights.items():
        if mine[name].shape[1:] != tensor.shape[1:]:
            raise CheckpointError(
                f"head.{name} is {tuple(tensor.shape)}, not {tuple(mine[name].shape)}",
                hint="The adapter is for another base.",
            )
        owner, _, last = name.rpartition(".")
        module = head.get_submodule(owner)
        setattr(module, last, nn.Parameter(tensor.to(mine[name].dtype)))
        if isinstance(module, nn.Linear):
            module.out_features = len(module.weight)


def read_settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json. Raises CheckpointError when it is missing, damaged, or asks for what is
    not done here."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} has no {CONFIG}", hint="Name the folder of an adapter, as peft saves it."
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="Copy it again.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        said = config.get("peft_type") if isinstance(config, dict) else None
        raise CheckpointError(
            f"{path} describes an adapter of the kind {said!r}", hint="LORA is opened, DoRA too."
        )
    wrong = [
        f"{name} is {config[name]!r}"
        for name, plain in _PLAIN.items()
        if config.get(name, plain) not in (plain, None)
    ]
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(("pissa", "olora", "corda", "lora_ga", "loftq")):
        wrong.append(f"init_lora_weights is {start!r}, which changes the base")
    if wrong:
        raise CheckpointError(
            f"{path} asks for what is not done here: {'; '.join(wrong)}",
            hint="Merge it with the library that made it, and open the merged model.",
        )
    return config


def _refuse_another_base(
    folder: Path, config: Mapping[str, Any], model: nn.Module, base_name: str
) -> None:
    """By the fingerprint where we saved it, else by the names' last parts."""
    name = str(config.get("base_model_name_or_path") or "")
    try:
        with safe_open(folder / WEIGHTS, framework="pt") as opened:
            mark = (opened.metadata() or {}).get(_MARK)
    except OSError as error:
        raise CheckpointError(f"{folder / WEIGHTS}: {error}", hint="Copy it again.") from error
    if mark is not None:
        other = mark != fingerprint(model)
    else:
        other = bool(name and base_name) and _last(name) != _last(_hub_name(base_name))
    if other:
        raise CheckpointError(
            f"the adapter in {folder} was trained on '{name or 'a model without a name'}', and "
            f"this is '{base_name or type(model).__name__}'"
            + ", which has other weights than then"
            * (name == base_name != ""),
            hint=f"Open '{name}' and load it there." if name else "Open the model it is for.",
        )


def _hub_name(name: str) -> str:
    return CATALOGUE[name].hub if name in CATALOGUE else name


def _last(name: str) -> str:
    return Path(name).name.lower()
