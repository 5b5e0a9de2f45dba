"""An adapter's folder opened by itself: where its base lies, and the head that it brings.

adapter_config.json names the base as whoever trained it called it: a folder, or a name of the hub.
Nothing is fetched for it: what can't be found on this machine is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from hornbook import files
from hornbook.errors import CheckpointError
from hornbook.interop.catalogue import CATALOGUE, model_at, where
from hornbook.interop.huggingface import read_weights
from hornbook.interop.peft import CONFIG, WEIGHTS
from hornbook.interop.peft_pieces import pieces_and_others
from hornbook.models.heads import HeadConfig, SequenceClassifier, SpanFinder, TokenClassifier
from hornbook.models.heads import bare_trunk as bare
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.text_heads import choice_scorer, text_classifier

_OUT = re.compile(r"(classifier|score|qa_outputs)\.weight")  # a row for each label


def holds_adapter(folder: Path) -> bool:
    """Whether an adapter is all there is: some trainers put its base's config.json beside it."""
    return (folder / CONFIG).is_file() and not any(folder.glob("model*.safetensors"))


def base_of(folder: Path, config: Mapping[str, Any]) -> Path:
    """Where the base of an adapter lies: as named, in runs/, beside the adapter or above it, or a
    model of the catalogue or of HORNBOOK_HOME.

    Raises CheckpointError where it is nowhere here, and where it is an adapter itself.
    """
    name = str(config.get("base_model_name_or_path") or "")
    found = [place for place in _places(folder, name) if name and place.exists()]
    for place in found:
        whole = model_at(place) or (place / "model" / "config.json").is_file()
        if whole and not holds_adapter(place):
            return place
    if any(map(holds_adapter, found)):
        raise CheckpointError(
            f"the base of the adapter in {folder} is an adapter too: '{name}'",
            hint="Open the model that came of them; of a run of ours it is in its folder 'model'.",
        )
    raise CheckpointError(
        f"the adapter in {folder} is for the model {name!r}, which is not on this machine"
        if name
        else f"{folder / CONFIG} does not say which model the adapter is for",
        hint=f'Write the folder of its base into {folder / CONFIG}: "base_model_name_or_path".',
    )


def _places(folder: Path, name: str) -> Iterator[Path]:
    yield Path(name).expanduser()
    yield Path("runs") / name
    for above in (folder, *folder.resolve().parents):
        yield above / name
    for entry in CATALOGUE.values():
        if name in (entry.name, entry.hub) and (known := where(entry.name)):
            yield known
    yield files.home() / "models" / name.replace("/", "--")


def with_head(base: Any, folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """A base's model with a head such as the adapter brings, for `peft.load_adapter` to fill.

    base: a bundle, whose model is taken over. Names of labels stand in a task.json of ours; peft
    keeps none.
    """
    model: Any = base.model
    brought = pieces_and_others(read_weights(folder / WEIGHTS), config)[1]
    if not brought:
        return model
    out = next((t for name, t in brought.items() if _OUT.search(name)), None)
    kind, card = config.get("task_type"), _card(folder)
    if out is None:
        trunk: Any = bare(model)
        fills = not isinstance(model, MaskedLM) and hasattr(trunk, "masked_lm_head")
        return MaskedLM(trunk) if fills else model
    if _for_choices(config, card):
        return choice_scorer(base)
    n_labels = len(out)
    numbered = tuple(f"LABEL_{i}" for i in range(n_labels))  # as transformers calls them
    said = tuple(card.get("labels") or card.get("label_names") or ())
    names = said if len(said) == n_labels else numbered
    mine = getattr(getattr(model, "config", None), "label_names", ())
    if names == numbered and len(mine) == n_labels:
        return model  # the base has this head, and knows what its labels are called
    if kind == "SEQ_CLS":
        usual = "regression" if n_labels == 1 else "single_label_classification"
        classifier: SequenceClassifier = text_classifier(base, names, card.get("problem", usual))
        return classifier
    if kind == "QUESTION_ANS":
        return SpanFinder(bare(model), HeadConfig(bare(model).config, ("start", "end"), "span"))
    return TokenClassifier(bare(model), HeadConfig(bare(model).config, names, "token"))


def _for_choices(config: Mapping[str, Any], card: Mapping[str, Any]) -> bool:
    """peft has no task of this kind: of what it saves only the base's class tells."""
    named = config.get("auto_mapping") or {}
    return card.get("task") == "choose" or str(named.get("base_model_class")).endswith(
        "ForMultipleChoice"
    )


def _card(folder: Path) -> dict[str, Any]:
    """Our task.json, {} where there is none."""
    path = folder / "task.json"
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", hint="Copy it again.") from error
    return card if isinstance(card, dict) else {}
