"""Which base an adapter was trained on, told by the numbers rather than by a name.

Names are paths on somebody's machine; and a base that an adapter was merged into has the
embeddings and norms that it had before. So some numbers of every tensor go into the fingerprint.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from hornbook.adapters.lora import LoRALinear
from hornbook.quantization.nf4 import NF4Linear

N_SAMPLED = 1024  # numbers of a tensor, evenly apart

_KEPT = "base_fingerprint"


def fingerprint(model: nn.Module) -> str:
    """Of the trunk's weights, adapters and head apart; of rounded layers what `remember` noted."""
    noted = getattr(model, _KEPT, None)
    if noted is not None:
        return noted
    trunk = getattr(model, "trunk", model)
    adapted = {name: m for name, m in trunk.named_modules() if isinstance(m, LoRALinear)}
    whole = hashlib.sha256()
    tensors = {name: p for name, p in trunk.named_parameters() if not _inside(name, adapted)}
    for name, layer in adapted.items():
        tensors |= {f"{name}.{kind}": p for kind, p in layer.base.named_parameters()}
    for name in sorted(tensors):
        whole.update(f"{name} {tuple(tensors[name].shape)}".encode())
        whole.update(_sample(tensors[name]))
    return whole.hexdigest()


def remember(model: nn.Module) -> None:
    """Note the fingerprint before rounding or training changes what it is taken of."""
    object.__setattr__(model, _KEPT, fingerprint(model))


def _inside(name: str, layers: dict[str, LoRALinear]) -> bool:
    return any(name.startswith(f"{layer}.") for layer in layers)


@torch.no_grad()
def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().flatten()
    sampled = flat[:: max(1, flat.numel() // N_SAMPLED)]
    return sampled.float().cpu().numpy().tobytes()


def is_rounded(model: nn.Module) -> bool:
    """Whether layers in 4 bits stand in the place of those that a fingerprint would need."""
    return any(isinstance(m, NF4Linear) for m in model.modules())
