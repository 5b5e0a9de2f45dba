"""`hornbook export`: a model for other programs, as a Hugging Face folder or a GGUF file."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hornbook.errors import ConfigError

if TYPE_CHECKING:
    from hornbook.bundle import Bundle


class Format(StrEnum):
    """What can be written."""

    hf = "hf"
    gguf = "gguf"


class Numbers(StrEnum):
    """How weights can be kept."""

    f32 = "f32"
    f16 = "f16"
    bf16 = "bf16"
    q8_0 = "q8_0"


_ALLOWED = {
    Format.hf: [Numbers.f32, Numbers.f16, Numbers.bf16],
    Format.gguf: [Numbers.f16, Numbers.f32, Numbers.q8_0],
}


def command(
    model: Annotated[str, typer.Argument(help="A run, a model's folder or file, or its name.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    to: Annotated[
        Format, typer.Option(help="hf: for transformers and vLLM; gguf: for llama.cpp.")
    ] = Format.hf,
    numbers: Annotated[
        Numbers | None,
        typer.Option(
            help="f32, f16, bf16 (hf) or q8_0 (gguf); f32 as hf and f16 as gguf if unset."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a model, its tokenizer and its chat template for other programs."""
    from hornbook import bundle, files
    from hornbook.cli.tables import size
    from hornbook.quantization import weights

    kept = numbers or _ALLOWED[to][0]
    if kept not in _ALLOWED[to]:
        raise ConfigError(
            f"{to} is not written with {kept}", hint=f"Choose one of {', '.join(_ALLOWED[to])}."
        )
    if out.exists() and not overwrite and (out.is_file() or any(out.iterdir())):
        raise ConfigError(
            f"{out} is not empty", hint="Name another folder with --out, or say --overwrite."
        )
    opened = bundle.open_model(model)
    if weights.is_quantized(opened.model):
        raise ConfigError(
            f"{model} has been quantised, into what no other program reads",
            hint="Export the model that it was made from; as gguf, --numbers q8_0 is small too.",
        )
    with files.atomic_folder(out) as folder:
        (_write_hf if to is Format.hf else _write_gguf)(folder, opened, kept)
    written = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
    if as_json:
        print(json.dumps({"model": opened.name, "folder": str(out), "files": written}))
        return
    for name, n_bytes in written.items():
        print(f"{size(n_bytes):>8}  {out / name}")
    if to is Format.hf and opened.template:
        print(f"\nServe it with vLLM: vllm serve {out}")


def _write_hf(folder: Path, opened: Bundle, numbers: Numbers) -> None:
    import torch

    from hornbook import bundle

    if opened.family.startswith("hornbook-"):
        raise ConfigError(
            f"transformers has no model of the family '{opened.family}'",
            hint="Its own folder is what can be copied.",
        )
    formats = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
    bundle.save(
        folder,
        opened.model,
        opened.tokenizer,
        template=opened.template,
        stop_tokens=opened.stop_tokens,
        numbers=formats[numbers],
    )


def _write_gguf(folder: Path, opened: Bundle, numbers: Numbers) -> None:
    from hornbook.interop.gguf_writer import write_gguf

    stem = Path(opened.name).name.removesuffix(".gguf")
    write_gguf(
        folder / f"{stem}-{numbers}.gguf",
        opened.model,
        opened.tokenizer,
        name=stem,
        numbers=numbers,
        template=opened.template,
        stop_tokens=opened.stop_tokens,
    )
