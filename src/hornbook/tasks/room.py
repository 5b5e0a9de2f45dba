"""How many tokens of an example a task reads: as many as are asked for, and the model can take."""

from __future__ import annotations

from typing import Any

from hornbook.errors import ConfigError


def room(bundle: Any, max_tokens: int | None, *, usual: int) -> int:
    """usual: where nobody says, and the model's context is as long.

    Raises ConfigError for more than the model's context, and for fewer than two.
    """
    config = getattr(bundle.model, "config", None)  # models of counts have none
    most = getattr(config, "context_length", None) or usual
    if max_tokens is not None and not 2 <= max_tokens <= most:
        raise ConfigError(
            f"max_tokens is {max_tokens:,}, and the model reads {most:,}",
            hint=f"Take from 2 to {most:,}.",
        )
    return max_tokens or min(usual, most)
