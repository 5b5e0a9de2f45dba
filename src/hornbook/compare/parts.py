"""Parts of a saved model that techniques share: linked base models, small settings files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hornbook.errors import CheckpointError

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def link_model(source: Path, target: Path) -> None:
    """Put a model's files into the new folder `target`, so that what is saved stands alone.

    Hard links where the disk allows it: the same bytes in five models take the room of one.
    """
    target.mkdir()
    for name in MODEL_FILES:
        whole = (source / name).resolve()
        try:
            os.link(whole, target / name)
        except OSError:  # another disk, or links are not allowed there
            shutil.copyfile(whole, target / name)


def read_settings(path: Path, *keys: str) -> dict[str, Any]:
    """A small JSON object that must hold these keys. Raises CheckpointError when it does not."""
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        return {key: settings[key] for key in keys}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error!r}",
            hint="The saved model is incomplete; fit the technique again.",
        ) from error
