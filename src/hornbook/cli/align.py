"""`hornbook align`: learn which answers are better. Its options are `hornbook finetune`'s."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, get_type_hints

import typer

from hornbook.cli import finetune
from hornbook.errors import ConfigError, UnknownNameError, nearest

LOSSES = ("dpo", "ipo", "orpo", "kto", "reward")


def _as_finetune(function: Any) -> Any:
    """Give a command the options of `finetune`, with a loss for the task and another method."""
    own: dict[str, Any] = {
        "task": Annotated[
            str | None, typer.Argument(metavar="LOSS", help=f"{', '.join(LOSSES[:-1])} or reward.")
        ],
        "method": Annotated[
            str | None,
            typer.Option(
                help="lora, dora, qlora, full, head or last-2; lora.", rich_help_panel="Method"
            ),
        ],
    }
    hints = get_type_hints(finetune.command, include_extras=True) | own
    parameters = inspect.signature(finetune.command).parameters
    function.__signature__ = inspect.Signature(
        [p.replace(annotation=hints[name]) for name, p in parameters.items()]
    )
    function.__annotations__ = hints
    return function


@_as_finetune
def command(task: str | None = None, **options: Any) -> None:
    """Teach a model which answers are better: dpo, ipo or orpo from pairs, kto from answers marked
    good or bad, reward for a model that marks answers.

    Data have a prompt, a chosen and a rejected answer (or instruction and input, or messages); for
    kto also a prompt, a completion and a label. Accuracy, margin and the divergence from the model
    as it was stand beside the loss at each evaluation. All else is as with `hornbook finetune`.
    """
    if task is not None and task not in LOSSES:
        raise UnknownNameError(f"there is no loss '{task}'", hint=nearest(task, LOSSES))
    if options["resume"] is None:
        if task is None:
            raise ConfigError("which loss is not said", hint=f"Name one: {', '.join(LOSSES)}.")
        options["method"] = options["method"] or "lora"
    finetune.command(task, **options)
