"""BERT from nothing: vocabulary, masked-LM pretraining, fine-tuning on the training texts only."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from hornbook.compare.neural import (
    FittedClassifier,
    fit_classifier,
    rebuild,
    save_head,
    vocabulary_size,
)
from hornbook.compare.technique import Context, HeldOut
from hornbook.data.examples import Document, Labelled
from hornbook.interop.huggingface import load_bert, save_bert
from hornbook.models.bert import Bert, BertConfig
from hornbook.nn.layout import Ragged
from hornbook.recipes import pretrain
from hornbook.recipes.finetune import Settings
from hornbook.tasks.masked_lm import MaskedLM, Masking, loss_of
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer
from hornbook.text.train import train_wordpiece

PRETRAINING = 0.35  # of the budget: passes over the labels are what is scarce
# Norms after each part (as published) stay at the frequencies of words for ever at a GPT's rate.
PRETRAINING_LR = 4e-4
CONTEXT = 128
SETTINGS = Settings(
    lr=1e-3,
    head_lr_scale=1.0,
    tokens_per_step=1024,
    max_epochs=20,
    passes_wanted=5.0,
    may_freeze=False,
)


class BertScratch:
    """A small BERT that has read nothing but the training texts."""

    name: ClassVar[str] = "bert-scratch"
    summary: ClassVar[str] = "a small BERT, pretrained and fine-tuned on the training texts only"
    needs_members: ClassVar[bool] = False

    def __init__(self, fitted: FittedClassifier[Bert] | None = None) -> None:
        self._fitted = fitted

    def fit(self, train: Labelled, validation: Labelled, context: Context) -> HeldOut:
        texts = [d.full for d in train.documents]
        context.report("training the vocabulary")
        tokenizer = train_wordpiece(texts, vocabulary_size(texts))
        torch.manual_seed(context.seed)
        trunk = Bert(
            BertConfig(
                vocab_size=tokenizer.vocab_size,
                context_length=CONTEXT,
                n_layers=4,
                n_heads=4,
                d_model=256,
                d_ff=1024,
                dropout=0.0,
            )
        )
        masking = Masking(tokenizer.id_of("[MASK]"), tokenizer.vocab_size, len(BERT_SPECIALS))
        generator = torch.Generator().manual_seed(context.seed)
        pretrain.pretrain(
            MaskedLM(trunk),
            loss_of,
            lambda documents, device: masking.collate(documents, generator, device),
            tokenizer.encode(texts, max_tokens=CONTEXT),
            seconds=PRETRAINING * context.budget.seconds - context.budget.elapsed(),
            settings=pretrain.Settings(lr=PRETRAINING_LR, warm_up=0.1),
            seed=context.seed,
            report=context.report,
        )
        self._fitted, held_out = fit_classifier(
            trunk, tokenizer, Ragged.mean, train, validation, context, SETTINGS
        )
        self.settings = self._fitted.settings
        return held_out

    def scores(self, documents: list[Document]) -> np.ndarray:
        assert self._fitted is not None, "fit or load before scores"
        return self._fitted.scores(documents)

    def save(self, folder: Path) -> None:
        assert self._fitted is not None, "fit before save"
        save_bert(folder, self._fitted.trunk)
        self._fitted.tokenizer.save(folder / "tokenizer.json")
        save_head(folder, self._fitted.model.head, self._fitted.max_tokens)

    @classmethod
    def load(cls, folder: Path) -> BertScratch:
        trunk, _ = load_bert(folder)
        tokenizer = Tokenizer.load(folder / "tokenizer.json")
        return cls(rebuild(trunk, Ragged.mean, tokenizer, folder))
