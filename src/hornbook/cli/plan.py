"""`hornbook plan`: what a run would take, on this machine or on a cluster on paper."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.errors import ConfigError, nearest

if TYPE_CHECKING:
    from hornbook.records import ClusterRecord

app = typer.Typer(
    help="Work out parameters, memory, FLOPs, hours and cost before anything runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

_FACTORS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}
_NUMBER = re.compile(r"(\d[\d_,]*\.?\d*(?:e[+-]?\d+)?)\s*([KMBGTP]?)(?:B|FLOPS|FLOP/S)?", re.I)
# Published dense bfloat16 peaks (FLOP/s) and memory of cards that plans are made for.
_CARDS = {
    "a100-40": (312e12, 40e9),
    "a100-80": (312e12, 80e9),
    "h100": (989e12, 80e9),
    "rtx4090": (165e12, 24e9),
    "t4": (65e12, 16e9),  # float16: it has no bfloat16
}


@app.command("train")
def train_command(
    model: Annotated[
        str, typer.Argument(help="A preset (gpt2, bert-base, ...) or a family (gpt, llama, ...).")
    ],
    size: Annotated[
        list[str] | None,
        typer.Option("--set", help="A size of the architecture: n_layers=6. Repeatable."),
    ] = None,
    tokens: Annotated[str, typer.Option("--tokens", help="Tokens to read: 10B, 5e8.")] = "10M",
    batch: Annotated[int, typer.Option("--batch", help="Sequences in a step, in all.")] = 16,
    micro_batch: Annotated[
        int | None, typer.Option("--micro-batch", help="Sequences at once on a device.")
    ] = None,
    context: Annotated[int | None, typer.Option("--context", help="Tokens of a sequence.")] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="float32 or bfloat16. [default: the faster]")
    ] = None,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="adamw, muon, adamw-8bit.")
    ] = "adamw",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute activations again to save memory.")
    ] = False,
    card: Annotated[
        str | None,
        typer.Option("--card", help="Plan for such GPUs, not this machine: a100-80, h100, ..."),
    ] = None,
    devices: Annotated[int, typer.Option("--devices", help="How many of them.")] = 1,
    sharding: Annotated[str, typer.Option("--sharding", help="ddp or fsdp.")] = "ddp",
    utilisation: Annotated[
        float, typer.Option("--utilisation", help="Share of the cards' peak that is reached.")
    ] = 0.4,
    price: Annotated[float | None, typer.Option("--price", help="Of one device, an hour.")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Bytes a device may use: 16GB. [default: all]")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Print what a training run would take; the exit code is 1 where it cannot fit."""
    from hornbook.cli.plan_tables import plan_lines
    from hornbook.evaluation.plan import Recipe, plan, this_machine
    from hornbook.nn.precision import DTYPES, choose_precision

    family, config = _architecture(model, size or [])
    _one_of("--optimizer", optimizer, ("adamw", "muon", "adamw-8bit"))
    if precision is not None:
        _one_of("--precision", precision, DTYPES)
    longest = getattr(config, "context_length", None)
    if context is not None and longest is not None and context > longest:
        raise ConfigError(
            f"--context {context} is longer than the model's {longest}",
            hint=f"Take at most {longest}, or --set context_length={context}.",
        )
    for name, value in (("--batch", batch), ("--devices", devices), ("--micro-batch", micro_batch)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}", hint="Take 1 or more.")
    chosen = choose_precision() if card is None else None
    recipe = Recipe(
        family=family,
        config=config,
        n_tokens=round(parse_number(tokens)),
        batch_size=batch,
        micro_batch_size=micro_batch,
        length=context,
        precision=precision or (chosen.dtype if chosen else "bfloat16"),
        gradient_checkpointing=checkpointing,
        optimizer=optimizer,  # type: ignore[arg-type]
    )
    available = None if memory is None else round(parse_number(memory))
    if chosen is not None:
        if devices > 1:
            raise ConfigError(
                "--devices is for a cluster on paper", hint=f"Add --card: {', '.join(_CARDS)}."
            )
        made = plan(recipe, *this_machine(recipe, device=chosen.device, available=available))
    else:
        cluster = _on_paper(str(card), devices, sharding, utilisation, price, available)
        made = plan(recipe, cluster)
    if as_json:
        print(made.model_dump_json(indent=2))
    else:
        print("\n".join(plan_lines(made)))
    if not made.fits:
        raise typer.Exit(1)


@app.command("memory")
def memory_command(
    model: Annotated[
        str | None, typer.Argument(help="A preset, a family, a run, a folder, a name: smollm2-...")
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", help="Or how many parameters: 13e9, 13B, 124M.")
    ] = None,
    preset: Annotated[str | None, typer.Option("--preset", help="Or a preset: gpt2.")] = None,
    bits: Annotated[int, typer.Option("--bits", help="Bits of a weight: 32, 16, 8 or 4.")] = 16,
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Tokens of a text. [default: the model's]"),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Texts at once.")] = 1,
    train: Annotated[bool, typer.Option("--train", help="Also what training holds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the memory a model takes: counted from its shapes, beside the rule of thumb
    P * 4 * (bits / 32) * 1.2."""
    from hornbook.evaluation.plan import rule_of_thumb

    if sum(x is not None for x in (model, params, preset)) != 1:
        raise ConfigError("give a model, --params or --preset", hint="For example: --params 13B.")
    _one_of("--bits", str(bits), ("4", "8", "16", "32"))
    found: dict[str, float]
    if params is not None:
        n = parse_number(params)
        found = {"parameters": n, "rule_of_thumb": rule_of_thumb(n, bits), "weights": n * bits / 8}
        if train:
            found["train"] = 16 * n
    else:
        found = _exactly(str(model or preset), bits, context, batch, train)
    if as_json:
        print(json.dumps({name: round(value) for name, value in found.items()}, indent=2))
        return
    said = {
        "weights": f"weights, at {bits} bits",
        "cache": "keys and values",
        "working": "a forward pass",
        "to_use": "to use it",
        "rule_of_thumb": f"rule of thumb  P * 4 * ({bits} / 32) * 1.2",
        "train": "to train it",
    }
    print(f"{found['parameters']:>14,.0f}    parameters")
    for name, text in said.items():
        if name in found:
            print(f"{found[name] / 1e9:>14,.4g} GB {text}")
    if train and params is not None:
        print("               float32 weights, gradients, AdamW's two moments; activations come on")
        print("               top and depend on the architecture: name a model instead")


def _exactly(
    name: str, bits: int, context: int | None, batch: int, train: bool
) -> dict[str, float]:
    """Bytes by what holds them, counted on the model's shapes."""
    from hornbook.evaluation.plan import Recipe, memory_of, rule_of_thumb
    from hornbook.evaluation.writing_memory import writing_memory
    from hornbook.models import CONFIGS, MODELS
    from hornbook.models.presets import PRESETS, count_parameters, outline
    from hornbook.records import ClusterRecord

    if name in PRESETS or name in CONFIGS:
        family, config = _architecture(name, [])
    else:
        from hornbook import bundle

        opened = bundle.open_model(name).model
        config = opened.config
        kinds = {family: MODELS.load(family) for family in CONFIGS}
        family = next((f for f, kind in kinds.items() if type(opened) is kind), "")
        if not family:
            raise ConfigError(f"{name} has no shapes to count", hint="Name a neural network.")
    longest: int = getattr(config, "context_length", 1)
    length = context or longest
    held = writing_memory(MODELS.load(family), config, bits=bits, context=length, batch=batch)
    model = outline(family, config)
    n = count_parameters(model)
    found: dict[str, float] = {
        "parameters": n,
        "weights": held.weights,
        "cache": held.cache,
        "working": held.working,
        "to_use": held.total,
        "rule_of_thumb": rule_of_thumb(n, bits),
    }
    if train:
        recipe = Recipe(family, config, n_tokens=1, batch_size=batch, length=length)
        alone = ClusterRecord(
            n_devices=1,
            device="cpu",
            sharding="none",
            device_bytes=1,
            matrix_speed=1.0,
            utilisation=1.0,
            speed_source="stated",
        )
        found["train"] = memory_of(recipe, alone, model).total
    return found


def parse_number(text: str) -> float:
    """13e9, 13B, 124M, 80GB, 312TFLOPS as a number. Raises ConfigError for anything else."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a number", hint="Write 13e9, 13B, 124M or 80GB.")
    value = float(match[1].replace(",", "").replace("_", "")) * _FACTORS[match[2].upper()]
    if value <= 0:
        raise ConfigError(f"{text!r} is not more than nothing", hint="Write 13e9, 13B or 124M.")
    return value


def _architecture(model: str, sizes: list[str]) -> tuple[str, Any]:
    """The family and its config, from a preset's or a family's defaults and `--set`."""
    from hornbook.models import CONFIGS
    from hornbook.models.presets import PRESETS

    if model in PRESETS:
        family, config = PRESETS[model]
    elif model in CONFIGS:
        family, config = model, CONFIGS.load(model)()
    else:
        raise ConfigError(
            f"there is no preset or family named '{model}'",
            hint=nearest(model, [*CONFIGS, *PRESETS]),
        )
    known = {field.name: getattr(config, field.name) for field in fields(config)}
    changes: dict[str, Any] = {}
    for size in sizes:
        name, equals, value = size.partition("=")
        if name not in known:
            raise ConfigError(
                f"a {family} has no size named '{name}'", hint=nearest(name, list(known))
            )
        try:
            changes[name] = float(value) if isinstance(known[name], float) else int(value)
        except ValueError as error:
            raise ConfigError(
                f"--set {size}: '{value}' is not a whole number" if equals else f"--set {size}",
                hint=f"Write --set {name}={known[name]}.",
            ) from error
    return family, replace(config, **changes)


def _on_paper(
    card: str,
    devices: int,
    sharding: str,
    utilisation: float,
    price: float | None,
    available: int | None,
) -> ClusterRecord:
    from hornbook.records import ClusterRecord

    _one_of("--card", card, _CARDS)
    _one_of("--sharding", sharding, ("ddp", "fsdp"))
    if not 0 < utilisation <= 1:
        raise ConfigError(f"--utilisation is {utilisation}", hint="Take a share: 0.3 to 0.5.")
    speed, size = _CARDS[card]
    return ClusterRecord(
        n_devices=devices,
        device=card,
        sharding=sharding if devices > 1 else "none",  # type: ignore[arg-type]
        device_bytes=available or round(size),
        matrix_speed=speed,
        utilisation=utilisation,
        speed_source="stated",
        price_per_hour=price,
    )


def _one_of(option: str, value: str, allowed: Any) -> None:
    if value not in allowed:
        raise ConfigError(f"{option} is '{value}'", hint=nearest(value, list(allowed)))
