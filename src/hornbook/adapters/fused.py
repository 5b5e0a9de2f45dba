"""Which matrices lie in one fused layer, so that an adapter may change them one by one.

Queries, keys and values share one product here (`nn.attention`), and so do a gate and what it
gates. LoRA was defined on the single matrices, and other libraries store them singly.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from hornbook.nn.attention import CrossAttention, SelfAttention
from hornbook.nn.feedforward import GatedFeedForward


@dataclass(frozen=True)
class Part:
    """Rows begin ... end of a layer's weight (d_out, d_in). name: "" for the layer as a whole."""

    name: str
    begin: int
    end: int


def whole(model: nn.Module, name: str) -> list[Part]:
    """The layer as one matrix, fused or not."""
    return [Part("", 0, model.get_submodule(name).out_features)]  # type: ignore[arg-type]


def matrices(model: nn.Module, name: str) -> list[Part]:
    """The matrices in a layer: q, k, v of `qkv`, k and v of `kv`, gate and up of `gate_up`."""
    outer, _, child = name.rpartition(".")
    parent, n_rows = model.get_submodule(outer), whole(model, name)[0].end
    shares: dict[str, int] = {}
    if isinstance(parent, SelfAttention) and child == "qkv":
        shares = {"q": parent.n_heads, "k": parent.n_kv_heads, "v": parent.n_kv_heads}
    elif isinstance(parent, CrossAttention) and child == "kv":
        shares = {"k": 1, "v": 1}
    elif isinstance(parent, GatedFeedForward) and child == "gate_up":
        shares = {"gate": 1, "up": 1}
    if not shares:
        return whole(model, name)
    unit, parts, begin = n_rows // sum(shares.values()), [], 0
    for part, share in shares.items():
        parts.append(Part(part, begin, begin + unit * share))
        begin += unit * share
    return parts
