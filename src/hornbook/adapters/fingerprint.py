"""Which base an adapter was trained on, told by the numbers rather than by a name.

Names are paths on somebody's machine; and a base that an adapter was merged into still has the
embeddings and norms it had before. So some numbers of every tensor go into the fingerprint.
"""

from __future__ import annotations

import hashlib

from torch import nn

from hornbook.adapters.lora import LoRALinear
from hornbook.quantization.four_bits import FourBitLinear, digest


def fingerprint(model: nn.Module) -> str:
    """Of the trunk as it is without adapters and head; of layers in 4 bits as they were before."""
    digests: dict[str, str] = {}
    _collect(getattr(model, "trunk", model), "", digests)
    lines = "\n".join(f"{name} {digests[name]}" for name in sorted(digests))
    return hashlib.sha256(lines.encode()).hexdigest()


def _collect(module: nn.Module, prefix: str, digests: dict[str, str]) -> None:
    if isinstance(module, LoRALinear):
        module = module.base
    if isinstance(module, FourBitLinear):
        digests[f"{prefix}weight"] = module.digest
        if module.bias is not None:
            digests[f"{prefix}bias"] = digest(module.bias)
    for name, parameter in module.named_parameters(recurse=False):
        digests[prefix + name] = digest(parameter)
    for name, child in module.named_children():
        _collect(child, f"{prefix}{name}.", digests)
