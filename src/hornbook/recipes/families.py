"""What differs between families when a language model is trained: page, sizes, task, optimiser."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from hornbook.data.packing import beginning
from hornbook.errors import ConfigError
from hornbook.models import CONFIGS, MODELS
from hornbook.models.counting import Counted, bytes_of_counts, count
from hornbook.models.counting_gpt import CountingGPT, CountingGPTConfig
from hornbook.models.presets import preset
from hornbook.nn.losses import LossSum
from hornbook.recipes.dial import ENCODERS, Resolved
from hornbook.recipes.preparation import Prepared
from hornbook.tasks import language_modeling, masked_lm, seq2seq
from hornbook.tasks.counted_language_modeling import CountedBatch, CountedLanguageModel
from hornbook.tasks.language_modeling import LanguageModel, NextTokenBatch
from hornbook.tasks.masked_lm import MaskedBatch, MaskedLM, Masking
from hornbook.text.tokenizer import BERT_SPECIALS, Tokenizer
from hornbook.training.optimizers import (
    AnyOptimizer,
    adamw,
    adamw_in_8_bits,
    decay_groups,
    muon_and_adamw,
)

# The family that a person names -> the page in `models`.
PAGES = {
    "bigram": "bigram",
    "gpt": "modern-gpt",
    "gpt2": "gpt",
    "llama": "llama",
    "bert": "bert",
    "modern-bert": "modern-bert",
    "seq2seq": "encoder-decoder",
}
COUNTED_FIRST = 500_000  # tokens that the memory of counts is foreseen from
MASKED_SHARE = {"bert": 0.15, "modern-bert": 0.30}  # Devlin et al. 2019; Warner et al. 2024


@dataclass(frozen=True)
class Objective:
    """How windows, or pairs of texts, become what a model learns from.

    collate: (tokens, targets, places) -> a batch; tokens and targets (B, T), places (B,) where each
    row begins in the training text, None for other text. Of pairs: (sources, targets) -> a batch,
    each a list of B rows of tokens. training_loss: what is made small while it learns, where that
    is not the loss itself. writes: it can write a text.
    """

    model: nn.Module
    collate: Callable[..., Any]
    loss_of: Callable[[nn.Module, Any], LossSum]
    writes: bool = True
    training_loss: Callable[[nn.Module, Any], LossSum] | None = None

    @property
    def saved(self) -> nn.Module:
        """What is worth keeping: a decoder alone, an encoder with its head."""
        return self.trunk if self.writes else self.model

    @property
    def trunk(self) -> nn.Module:
        """The decoder or encoder itself."""
        trunk = self.model.trunk
        assert isinstance(trunk, nn.Module)
        return trunk


def build(settings: Resolved, prepared: Prepared, device: str) -> Objective:
    """The model of a run with its first weights, and its objective. Seed torch beforehand."""
    config = architecture(settings)
    if settings.counting:
        text = beginning(prepared.train, len(prepared.train)).tokens
        counted = count(text, settings.vocab_size)
        trunk = CountingGPT(CountingGPTConfig(config), counted.counts)
        return on_counts(trunk.to(device), counted, device)
    trunk = MODELS.load(PAGES[settings.family])(config).to(device)
    if settings.family in ENCODERS:
        return hidden_tokens(trunk, prepared.tokenizer, settings, device)
    if settings.family == "seq2seq":
        return translation(trunk, prepared.tokenizer, device, smoothing=settings.label_smoothing)
    return next_token(trunk, device)


def architecture(settings: Resolved) -> Any:
    """The config of the family's page; a preset's sizes where one is named."""
    page = PAGES[settings.family]
    if settings.preset:
        family, config = preset(settings.preset)
        if family != page:
            raise ConfigError(
                f"the preset {settings.preset} is of '{_named(family)}', not '{settings.family}'",
                hint=f"Train the family '{_named(family)}' with it.",
            )
        sizes = {f.name: getattr(config, f.name) for f in fields(config)}
    else:
        sizes = {
            "n_layers": settings.n_layers,
            "n_heads": settings.n_heads,
            "d_model": settings.d_model,
            "d_ff": _feed_forward(settings),
        }
    sizes |= {"vocab_size": settings.vocab_size, "context_length": settings.context_length}
    if settings.dropout:
        sizes["dropout"] = settings.dropout
    if settings.positions:
        sizes["positions"] = settings.positions
    kind = CONFIGS.load(page)
    known = {f.name for f in fields(kind)}
    if settings.dropout and "dropout" not in known:
        raise ConfigError(
            f"the family '{settings.family}' has no dropout",
            hint="Leave it out, or train gpt2, bert or seq2seq.",
        )
    if settings.positions and "positions" not in known:
        raise ConfigError(
            f"the family '{settings.family}' has positions of one kind",
            hint="Leave them out, or train modern-bert.",
        )
    return kind(**{name: value for name, value in sizes.items() if name in known})


def next_token(trunk: Any, device: str) -> Objective:
    """A decoder and the next token (Radford et al. 2019, section 2)."""

    def collate(
        tokens: np.ndarray, targets: np.ndarray, places: np.ndarray | None
    ) -> NextTokenBatch:
        return language_modeling.windows(
            *(torch.from_numpy(x).to(device) for x in (tokens, targets))
        )

    return Objective(LanguageModel(trunk), collate, language_modeling.loss_of)


def on_counts(trunk: CountingGPT, counted: Counted, device: str) -> Objective:
    """The same for a network on counts: each training window brings what other folds say."""

    def collate(tokens: np.ndarray, targets: np.ndarray, places: np.ndarray | None) -> CountedBatch:
        batch = language_modeling.windows(
            *(torch.from_numpy(x).to(device) for x in (tokens, targets))
        )
        evidence = None
        if places is not None:
            inside = (places[:, None] + np.arange(tokens.shape[1])) % counted.n_tokens
            shares = counted.evidence(inside, trunk.config.orders)
            evidence = torch.from_numpy(shares).flatten(0, 1).to(device)
        return CountedBatch(batch.tokens, batch.layout, batch.targets, evidence)

    return Objective(CountedLanguageModel(trunk), collate, language_modeling.loss_of)


def counts_bytes(settings: Resolved, prepared: Prepared) -> tuple[int, int]:
    """About how much memory the counts take, with the copies of what they say at a micro-batch's
    places that are kept for the backward pass; and how much the making of the counts."""
    text = beginning(prepared.train, COUNTED_FIRST).tokens
    kept, at_most = bytes_of_counts(text, settings.vocab_size, n_tokens=len(prepared.train))
    n_places = settings.micro_batch_size * settings.context_length
    n_orders = len(CountingGPTConfig(architecture(settings)).orders)
    return kept + 5 * 4 * n_places * n_orders * settings.vocab_size, at_most


def hidden_tokens(trunk: Any, tokenizer: Tokenizer, settings: Resolved, device: str) -> Objective:
    """An encoder and its hidden tokens (Devlin et al. 2019, section 3.1); each window one text."""
    masking = Masking(
        mask_token=tokenizer.id_of("[MASK]"),
        vocab_size=settings.vocab_size,
        n_specials=len(BERT_SPECIALS),
        share=MASKED_SHARE[settings.family],
    )

    def collate(tokens: np.ndarray, targets: np.ndarray, places: np.ndarray | None) -> MaskedBatch:
        # What is hidden in a row follows from its place (or its tokens) alone: a resumed run hides
        # alike, and so do eight micro-batches and one.
        keys = map(_key, tokens) if places is None else places.tolist()
        drawing = [torch.Generator().manual_seed(settings.seed + key) for key in keys]
        return masking.collate(tokens.tolist(), drawing, device)

    return Objective(MaskedLM(trunk).to(device), collate, masked_lm.loss_of, writes=False)


def translation(
    trunk: Any, tokenizer: Tokenizer, device: str, *, smoothing: float = 0.0
) -> Objective:
    """An encoder-decoder and what is written from each source (Vaswani et al. 2017)."""
    start, end = seq2seq.bounds(tokenizer)

    def collate(sources: list[np.ndarray], targets: list[np.ndarray]) -> seq2seq.PairBatch:
        if device == "cpu":  # .89 of the time at 14 % padding, experiments/LOG.md
            pairs = [(s.tolist(), t[:-1].tolist()) for s, t in zip(sources, targets, strict=True)]
            return seq2seq.collate(pairs, start=start, end=end)
        return seq2seq.rectangles(sources, targets, start=start, device=device)

    return Objective(
        seq2seq.Seq2Seq(trunk),
        collate,
        seq2seq.loss_of,
        training_loss=partial(seq2seq.smoothed_loss_of, smoothing=smoothing) if smoothing else None,
    )


def make_optimizer(model: nn.Module, factor: float = 1.0, *, settings: Resolved) -> AnyOptimizer:
    """Muon for the matrices of blocks and AdamW for the rest, or AdamW for all, its moments in
    float32 or in 8 bits.

    factor: of all learning rates.
    """

    def scale(name: str) -> float:
        return settings.lr_head / settings.lr_embedding if "head." in name else 1.0

    def inside(name: str) -> bool:
        return any(part in name for part in ("blocks.", "table.", "encoder.", "decoder."))

    named = list(model.named_parameters())
    if settings.optimizer == "muon":
        return muon_and_adamw(
            named,
            muon_lr=factor * settings.lr,
            muon_weight_decay=settings.weight_decay,
            lr=factor * settings.lr_embedding,
            lr_scale=scale,
        )
    rates: dict[str, Any] = {
        "lr": factor * settings.lr_embedding,
        "weight_decay": settings.weight_decay,
        "lr_scale": lambda name: (
            settings.lr / settings.lr_embedding if inside(name) else scale(name)
        ),
    }
    if settings.optimizer == "adamw-8bit":
        return adamw_in_8_bits(model, betas=(0.9, 0.95), **rates)
    return adamw(decay_groups(named, **rates), betas=(0.9, 0.95))


def _feed_forward(settings: Resolved) -> int:
    """Four widths; of a gated unit's three matrices each is 2/3 as wide (Shazeer 2020), by 8s."""
    if settings.family in {"llama", "modern-bert"}:
        return -(-8 * settings.d_model // 24) * 8
    return 4 * settings.d_model


def _key(row: np.ndarray) -> int:
    return zlib.crc32(row.tobytes())


def _named(page: str) -> str:
    return next((name for name, its_page in PAGES.items() if its_page == page), page)
