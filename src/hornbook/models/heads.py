"""Heads that stand on a trunk: a whole text's labels, each token's, a span's two ends.

As transformers has them, so that what is trained here opens there with its head: of BERT, the first
token through the pooler, then a linear layer (Devlin et al. 2019, section 4); of decoders, the last
token and a linear layer without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Problem = Literal[
    "single_label_classification", "multi_label_classification", "regression", "token", "span"
]


@dataclass(frozen=True)
class HeadConfig:
    """A trunk's config, and what the head on it tells apart. dropout: before the head."""

    trunk: Any
    label_names: tuple[str, ...]
    problem: Problem = "single_label_classification"
    dropout: float = 0.0
