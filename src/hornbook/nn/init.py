"""First weights. One function a scheme; each says what it does to which module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


def normal_(module: nn.Module, std: float = 0.02) -> None:
    """Matrices and embeddings from N(0, std); biases 0; norms 1 and 0 (Devlin et al. 2019, A.2)."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def scale_residual_(outputs: list[nn.Linear], n_residuals: int, std: float = 0.02) -> None:
    """Layers that add to the residual stream from N(0, std / sqrt(n_residuals)).

    Keeps the stream's variance at 1 however deep the model (Radford et al. 2019, section 2.3).
    """
    for layer in outputs:
        nn.init.normal_(layer.weight, std=std / n_residuals**0.5)


def fan_in_(layers: list[nn.Linear]) -> None:
    """Matrices from N(0, 1 / inputs): unit-sized inputs give unit-sized outputs."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5)


def zero_(layers: list[nn.Linear]) -> None:
    """Matrices of 0: a residual branch that is silent at first (Goyal et al. 2017, section 5.1)."""
    for layer in layers:
        nn.init.zeros_(layer.weight)


@contextmanager
def without_first_weights() -> Iterator[None]:
    """Make models whose weights are about to be read: what would be drawn is left unset.

    Drawing 135M numbers to overwrite them takes longer than reading them.
    """
    with _Undrawn():
        yield


_DRAWING = (Tensor.normal_, Tensor.uniform_)


class _Undrawn(TorchFunctionMode):
    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        # torch.nn.init's functions come here whole, and draw where the mode no longer looks.
        if function in _DRAWING or getattr(function, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
