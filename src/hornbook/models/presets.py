"""Published sizes by name, and how many parameters they have."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from hornbook.errors import UnknownNameError, nearest
from hornbook.models import MODELS
from hornbook.models.bert import BertConfig
from hornbook.models.encoder_decoder import EncoderDecoderConfig
from hornbook.models.gpt import GPTConfig
from hornbook.models.llama import LlamaConfig
from hornbook.models.modern_bert import ModernBertConfig


def _gpt2(n_layers: int, n_heads: int, d_model: int) -> tuple[str, GPTConfig]:
    """Radford et al. 2019, table 2."""
    size = {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "d_ff": 4 * d_model}
    return "gpt", GPTConfig(**size)


def _bert(n_layers: int, n_heads: int, d_model: int) -> tuple[str, BertConfig]:
    """Devlin et al. 2019, section 3."""
    size = {"n_layers": n_layers, "n_heads": n_heads, "d_model": d_model, "d_ff": 4 * d_model}
    return "bert", BertConfig(**size)


# name -> (family in MODELS, config)
PRESETS: dict[str, tuple[str, Any]] = {
    "gpt2": _gpt2(12, 12, 768),
    "gpt2-medium": _gpt2(24, 16, 1024),
    "gpt2-large": _gpt2(36, 20, 1280),
    "gpt2-xl": _gpt2(48, 25, 1600),
    "bert-base": _bert(12, 12, 768),
    "bert-large": _bert(24, 16, 1024),
    "minilm": _bert(6, 12, 384),
    "modernbert-base": ("modern-bert", ModernBertConfig()),
    "modernbert-large": (
        "modern-bert",
        ModernBertConfig(n_layers=28, n_heads=16, d_model=1024, d_ff=2624),
    ),
    "llama-7b": ("llama", LlamaConfig()),
    "tinyllama": (  # Zhang et al. 2024, 1.1B
        "llama",
        LlamaConfig(
            n_layers=22, n_heads=32, n_kv_heads=4, d_model=2048, d_ff=5632, norm_epsilon=1e-5
        ),
    ),
    "smollm-135m": (  # Hugging Face 2024
        "llama",
        LlamaConfig(
            vocab_size=49152,
            n_layers=30,
            n_heads=9,
            n_kv_heads=3,
            d_model=576,
            d_ff=1536,
            norm_epsilon=1e-5,
            tied_head=True,
        ),
    ),
    "transformer-base": ("encoder-decoder", EncoderDecoderConfig()),
    "transformer-big": (  # Vaswani et al. 2017, table 3
        "encoder-decoder",
        EncoderDecoderConfig(n_heads=16, d_model=1024, d_ff=4096),
    ),
}


def preset(name: str) -> tuple[str, Any]:
    """The family and the config of a published size. Raises UnknownNameError with a near name."""
    if name not in PRESETS:
        raise UnknownNameError(f"there is no preset named '{name}'", hint=nearest(name, PRESETS))
    return PRESETS[name]


def outline(family: str, config: Any) -> nn.Module:
    """The model without its numbers: shapes only, no memory, whatever the size."""
    with torch.device("meta"):
        return MODELS.load(family)(config)


def count_parameters(model: nn.Module) -> int:
    """Numbers that are trained; shared ones count once, tables of positions that are not, never."""
    return sum(parameter.numel() for parameter in model.parameters())
