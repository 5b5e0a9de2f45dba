"""LoRA: MiniLM stays frozen, small adapters beside its matrices learn (Hu et al. 2021)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from hornbook import files
from hornbook.adapters import lora
from hornbook.compare.neural import FittedClassifier, fit_classifier, rebuild, save_head
from hornbook.compare.parts import link_model, read_settings
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.interop.catalogue import find_model
from hornbook.interop.huggingface import load_bert, read_weights, write_weights
from hornbook.models.bert import Bert
from hornbook.nn.layout import Ragged
from hornbook.recipes.finetune import Settings
from hornbook.text.tokenizer import Tokenizer

RANK = 6  # on all layers of MiniLM: an adapter of less than a hundredth of its base
SETTINGS = Settings(lr=1e-3, head_lr_scale=1.0)


class Lora:
    """MiniLM with LoRA adapters and a linear head; the base's weights are not touched."""

    name: ClassVar[str] = "lora"
    summary: ClassVar[str] = "MiniLM frozen, low-rank adapters trained after a linear probe"
    needs_members: ClassVar[bool] = False

    def __init__(
        self,
        fitted: FittedClassifier[Bert] | None = None,
        base: Path | None = None,
        targets: str = "",
    ) -> None:
        self._fitted, self._base, self._targets = fitted, base, targets

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        context.report("loading")
        self._base = find_model("minilm")
        trunk, _ = load_bert(self._base)
        tokenizer = Tokenizer.load(self._base / "tokenizer.json")

        def adapt(trunk: Bert, n_frozen: int) -> None:
            self._targets = lora.block_layers(range(n_frozen, len(trunk.blocks)))
            lora.attach(trunk, rank=RANK, targets=self._targets)

        self._fitted, held_out = fit_classifier(
            trunk, tokenizer, Ragged.mean, train, validation, context, SETTINGS, prepare=adapt
        )
        self.settings = self._fitted.settings
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._fitted is not None, "fit or load before scores"
        return self._fitted.scores(documents)

    def save(self, folder: Path) -> None:
        """The base (hard links), the adapter, the head: each in files of its own."""
        assert self._fitted is not None and self._base is not None, "fit before save"
        link_model(self._base, folder / "base")
        trunk = self._fitted.trunk
        write_weights(folder / "adapter.safetensors", lora.state(trunk))
        settings = {"rank": RANK, "targets": self._targets}
        files.write_text(folder / "adapter.json", json.dumps(settings) + "\n")
        save_head(folder, self._fitted.model.head, self._fitted.max_tokens)

    @classmethod
    def load(cls, folder: Path) -> Lora:
        base = folder / "base"
        trunk, _ = load_bert(base)
        settings = read_settings(folder / "adapter.json", "rank", "targets")
        lora.attach(trunk, rank=int(settings["rank"]), targets=str(settings["targets"]))
        lora.load_state(trunk, read_weights(folder / "adapter.safetensors"))
        tokenizer = Tokenizer.load(base / "tokenizer.json")
        fitted = rebuild(trunk, Ragged.mean, tokenizer, folder)
        return cls(fitted, base, str(settings["targets"]))
