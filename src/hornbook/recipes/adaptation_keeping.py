"""What a fine-tuning run keeps of its model: adapter/, of methods with one, and a plain model/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from hornbook import bundle as bundles
from hornbook import files
from hornbook.adapters import lora
from hornbook.adapters.methods import WITH_ADAPTER
from hornbook.interop import peft
from hornbook.interop.turns import write_turns
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.tasks.task import Task


def keep(
    folder: Path, model: nn.Module, task: Task, bundle: bundles.Bundle, settings: AdaptSettings
) -> None:
    """Write adapter/, then model/ with the adapter merged: the model is a plain one afterwards."""
    card = {"task": task.name} | task.card()
    card_text = json.dumps(card, indent=2, ensure_ascii=False) + "\n"
    tokenizer = getattr(task, "tokenizer", None) or bundle.tokenizer
    template = getattr(task, "template", None) or bundle.template
    stop_tokens = getattr(task, "stop_tokens", None) or bundle.stop_tokens
    if settings.method in WITH_ADAPTER:
        with files.atomic_folder(folder / "adapter") as inside:
            peft.save_adapter(inside, model, base_name=settings.model, family=bundle.family)
            files.write_text(inside / "task.json", card_text)
            if template is not bundle.template:  # else the base's own hold
                tokenizer.save(inside / "tokenizer.json")
                write_turns(
                    inside,
                    tokenizer,
                    template=template,
                    stop_tokens=stop_tokens,
                    context_length=None,
                )
        lora.merge(model)
    with files.atomic_folder(folder / "model") as inside:
        bundles.save(inside, model, tokenizer, template=template, stop_tokens=stop_tokens)
        files.write_text(inside / "task.json", card_text)
        write: Any = getattr(task, "write_beside", None)  # what other libraries open it by
        if write:
            write(inside)
