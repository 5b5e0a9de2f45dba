"""`hornbook bench`: how fast a model writes here, and how fast the machine is."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any

import typer

app = typer.Typer(
    help="Time a model, or the machine; after a warm-up.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("generate")
def generate_command(
    model: Annotated[str, typer.Argument(help="A run, a model's folder, a name: smollm2-...")],
    precision: Annotated[
        str, typer.Option("--precision", help="auto, float32, int8 or int4.")
    ] = "auto",
    n_tokens: Annotated[int, typer.Option("--tokens", min=2, help="Tokens to write.")] = 64,
    n_prompt: Annotated[int, typer.Option("--prompt", min=2, help="Tokens of a prompt.")] = 512,
    n_streams: Annotated[int, typer.Option("--streams", min=1, help="Texts at once.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tokens a second of one text, of several at once, and of reading a prompt."""
    import torch

    from hornbook.cli.writers import open_bundle, run_in
    from hornbook.errors import ConfigError
    from hornbook.evaluation.generation_speed import generation_speed
    from hornbook.models.gpt import GPT
    from hornbook.models.llama import Llama
    from hornbook.models.modern_gpt import ModernGPT

    opened = open_bundle(model, precision)
    if not isinstance(opened.model, GPT | Llama | ModernGPT):
        raise ConfigError(
            f"{model} is a {opened.family}, which has no cache to time", hint="Give a gpt or llama."
        )
    said = run_in(opened.model, precision)
    found = generation_speed(
        opened.model, n_tokens=n_tokens, n_prompt=n_prompt, n_streams=n_streams
    )
    if as_json:
        shown = {"model": model, "is": said, "threads": torch.get_num_threads()}
        print(json.dumps(shown | dataclasses.asdict(found), indent=2))
        return
    print(f"{said}, {torch.get_num_threads()} threads")
    print(f"one text     {found.decode:8,.0f} tokens/s")
    print(f"{f'{found.n_streams} texts':<12} {found.streams:8,.0f} tokens/s together")
    print(f"a prompt     {found.prompt:8,.0f} tokens/s, {found.n_prompt} tokens long")


@app.command("device")
def device_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Products in each number format, memory, attention, a training step: what to expect here."""
    from hornbook.evaluation.device_speed import device_speed

    found = device_speed()
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in found], indent=2))
        return
    rows: list[tuple[Any, ...]] = [(row.name, f"{row.value:,.4g}", row.unit) for row in found]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, value, unit in rows:
        print(f"{name:<{widths[0]}}  {value:>{widths[1]}} {unit}")
