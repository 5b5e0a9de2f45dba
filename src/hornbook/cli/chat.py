"""`hornbook chat`: talk with a model in the terminal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hornbook.cli.writers import open_bundle, run_in, stop_tokens
from hornbook.errors import ConfigError

DEFAULT = "smollm2-135m-instruct"


def command(
    model: Annotated[
        str, typer.Argument(help="A catalogue name, a run, a folder, a .gguf file, a hub name.")
    ] = DEFAULT,
    system: Annotated[
        str | None, typer.Option(help="What the model is told before everything.")
    ] = None,
    n_tokens: Annotated[
        int, typer.Option("--tokens", "-n", min=1, help="Tokens of an answer, at most.")
    ] = 512,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above 1 is wilder.")
    ] = 0.0,
    top_k: Annotated[int | None, typer.Option(help="Only among the k likeliest.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only among those that together have this share.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only those this many times as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: what was said is said less again.")
    ] = 1.0,
    frequency_penalty: Annotated[
        float, typer.Option(help="Above 0: a word is said less for each time it was in the answer.")
    ] = 0.5,
    stop: Annotated[
        list[str] | None, typer.Option(help="End an answer before this text; may be repeated.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="The same seed answers the same; by default chance.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32, int8 or int4: smaller is faster.")
    ] = "auto",
    context: Annotated[
        int | None, typer.Option(min=64, help="Tokens of a conversation, if less than the model's.")
    ] = None,
    show_prompt: Annotated[
        bool,
        typer.Option(
            "--show-prompt",
            help="Print what the model would be given, and answer nothing; lines are the user's "
            "and the assistant's in turn.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --show-prompt: an object a prompt.")
    ] = False,
) -> None:
    """Talk with a model. /help lists what can be typed; Ctrl-C stops an answer, Ctrl-D ends."""
    if as_json and not show_prompt:
        raise ConfigError("--json goes with --show-prompt", hint="hornbook run chat has answers.")
    from hornbook.cli.chatting import Settings, Terminal, longest_prompt
    from hornbook.generation.conversation import template_of
    from hornbook.generation.drawing import check
    from hornbook.generation.request import Sampling

    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
    )
    check(sampling)
    opened = open_bundle(model, precision)
    template_of(opened)
    if show_prompt:
        from hornbook.cli.chat_prompts import show_prompts
        from hornbook.generation.reading import context_length_of

        own = context_length_of(opened.model)
        longest = longest_prompt(min(own, context or own), n_tokens)
        show_prompts(opened, sys.stdin, system=system, longest=longest, as_json=as_json)
        return
    said = run_in(opened.model, precision)
    settings = Settings(
        n_tokens, sampling, stop_tokens(opened), tuple(stop or ()), context_length=context
    )
    terminal = Terminal(opened, settings, system)
    print(f"{opened.name}: {said}, reads {terminal.context_length:,} tokens", file=sys.stderr)
    terminal.run()
