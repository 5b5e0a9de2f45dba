"""`hornbook generate`: continue a text with a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.cli.writers import TRANSLATOR, open_bundle, run_in, stop_tokens
from hornbook.errors import ConfigError, DataError

if TYPE_CHECKING:
    from hornbook.bundle import Bundle
    from hornbook.generation.constrain import Grammar
    from hornbook.generation.request import Piece, Request, Scored
    from hornbook.text.tokenizer import Tokenizer


def command(
    model: Annotated[
        str,
        typer.Argument(
            help="A run's folder, a model's, a catalogue name, a .gguf file, a hub name."
        ),
    ],
    prompt: Annotated[
        str,
        typer.Argument(help="The text to continue, or to translate; - reads standard input."),
    ],
    n_tokens: Annotated[int, typer.Option("--tokens", "-n", min=1, help="Tokens to write.")] = 200,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token; above 1 is wilder.")
    ] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Only among the k likeliest.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Only among those that together have this share.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Only those this many times as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1: what was written is written less again.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed draws the same text.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; may be given several times.")
    ] = None,
    returns: Annotated[int, typer.Option(min=1, help="So many texts.")] = 1,
    beams: Annotated[
        int | None, typer.Option(min=1, help="The likeliest text, searched along so many paths.")
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option(help="Guess ahead: 'lookup' in the text so far, or a smaller model's name."),
    ] = None,
    json_schema: Annotated[
        Path | None, typer.Option(help="Write JSON that is valid under the schema in this file.")
    ] = None,
    logprobs: Annotated[
        int | None,
        typer.Option(min=0, help="With --json: each token's log-probability, and the N likeliest."),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32, int8 or int4: smaller is faster.")
    ] = "auto",
    no_slide: Annotated[
        bool, typer.Option("--no-slide", help="Refuse what exceeds the model's context.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object at the end, no streaming.")
    ] = False,
) -> None:
    """Continue a text. What is drawn appears as it is written."""
    from hornbook.generation.request import Request, Sampling

    _check_together(beams=beams, draft=draft, json_schema=json_schema, logprobs=logprobs, stop=stop)
    sampling = Sampling(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
    )
    opened = open_bundle(model, precision)
    text = sys.stdin.read() if prompt == "-" else prompt
    if opened.family == TRANSLATOR:
        _translate(opened, text, n_tokens, beams or 1, as_json)
        return
    tokens = opened.tokenizer.encode([text], special=False)[0]
    say_unknown(text, tokens, opened.tokenizer)
    said = run_in(opened.model, precision)
    if not as_json:
        print(f"{opened.name}: {said}", file=sys.stderr)
    request = Request(
        tokens,
        n_tokens,
        sampling,
        stop_tokens=stop_tokens(opened),
        stop_texts=tuple(stop or ()),
        n_logprobs=logprobs,
        grammar=_grammar(json_schema, opened.tokenizer),
        slide=not no_slide,
    )
    if no_slide:
        _check_room(len(tokens), n_tokens, opened.model)
    if beams is not None:
        found = _searched(opened, request, beams, returns)
    elif draft is not None:
        found = _guessed_ahead(opened, request, draft, returns, precision)
    elif as_json or returns > 1:
        found = _written(opened, request, returns)
    else:
        _stream(opened, request, text)
        return
    if as_json:
        print(json.dumps(_as_json(text, seed, found, returns), ensure_ascii=False))
        return
    for i, one in enumerate(found, 1):
        if len(found) > 1:
            print(f"--- {i}")
        print(text + one["text"])


def say_unknown(text: str, tokens: Sequence[int], tokenizer: Tokenizer) -> None:
    """Say which characters of a prompt the vocabulary doesn't have; they are read as unknown."""
    missing = sorted(tokenizer.unknown(text))
    if not missing:
        return
    print(f"not in the vocabulary, read as unknown: {' '.join(missing)}", file=sys.stderr)


def _check_together(**given: Any) -> None:
    """Refuse what beams and guessing ahead don't do."""
    other = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]
    for way in ("--beams", "--draft"):
        if way in other and len(other) > 1:
            others = ", ".join(name for name in other if name != way)
            raise ConfigError(f"{way} does not go with {others}", hint="Leave one of them out.")


def _check_room(n_prompt: int, n_tokens: int, model: Any) -> None:
    from hornbook.generation.reading import context_length_of

    longest = context_length_of(model)
    if n_prompt + n_tokens > longest:
        raise ConfigError(
            f"{n_prompt} tokens of prompt and {n_tokens} to come exceed the context ({longest})",
            hint="Ask for fewer, shorten the prompt, or let the window slide.",
        )


def _translate(opened: Bundle, text: str, n_tokens: int, beams: int, as_json: bool) -> None:
    from hornbook.generation.translate import translate

    (written,) = translate(
        opened.model, opened.tokenizer, [text], max_tokens=n_tokens, n_beams=beams
    )
    found = {"prompt": text, "text": written}
    print(json.dumps(found, ensure_ascii=False) if as_json else written)


def _grammar(path: Path | None, tokenizer: Tokenizer) -> Grammar | None:
    if path is None:
        return None
    from hornbook.generation import constrain

    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON: {error}", hint="Give a file with a JSON schema."
        ) from error
    return constrain.json_schema(schema, tokenizer)


def _stream(opened: Bundle, request: Request, text: str) -> None:
    print(text, end="", flush=True)
    for piece in _pieces(opened, [request]):
        print(piece.text, end="", flush=True)
    print()


def _pieces(opened: Bundle, requests: Sequence[Request]) -> Iterator[Piece]:
    """Pieces of several requests as they come."""
    from hornbook.generation.batch import Batch

    batch = Batch(opened, n_slots=min(8, len(requests)))
    for request in requests:
        batch.add(request)
    while batch.n_running or batch.n_waiting:
        yield from batch.step()


def _written(opened: Bundle, request: Request, returns: int) -> list[dict[str, Any]]:
    """Several texts, of seeds one after the other."""
    first = request.sampling.seed or 0
    requests = [
        replace(request, sampling=replace(request.sampling, seed=first + i)) for i in range(returns)
    ]
    found: list[dict[str, Any]] = [{"text": "", "finish": None} for _ in requests]
    for piece in _pieces(opened, requests):
        one = found[piece.request - 1]
        one["text"] += piece.text
        one["finish"] = piece.finish
        if request.n_logprobs is not None:
            one.setdefault("logprobs", []).extend(
                _scored(scored, opened.tokenizer) for scored in piece.tokens
            )
    return found


def _scored(scored: Scored, tokenizer: Tokenizer) -> dict[str, Any]:
    from hornbook.generation.writing import spelled

    top = [{"token": spelled(tokenizer, t), "id": t, "logprob": v} for t, v in scored.top]
    told = {"token": scored.text, "id": scored.token, "logprob": scored.logprob}
    return told | ({"top": top} if top else {})


def _searched(opened: Bundle, request: Request, beams: int, returns: int) -> list[dict[str, Any]]:
    from hornbook.generation.beam import beam_search
    from hornbook.generation.stream import text_pieces

    found = beam_search(
        opened.model,
        request.prompt,
        n_tokens=request.max_tokens,
        n_beams=max(beams, returns),
        stop_tokens=request.stop_tokens,
    )
    return [
        {
            "text": "".join(text_pieces(b.tokens, opened.tokenizer, before=request.prompt)),
            "finish": "stop" if b.ended else "length",
            "log_probability": b.log_probability,
        }
        for b in found[:returns]
    ]


def _guessed_ahead(
    opened: Bundle, request: Request, draft: str, returns: int, precision: str
) -> list[dict[str, Any]]:
    """Texts by guessing and checking. Says how many guesses were right."""
    from hornbook.generation.drawing import transforms
    from hornbook.generation.generate import seeded
    from hornbook.generation.speculative import DraftModel, Guesser, PromptLookup, Tally, speculate
    from hornbook.generation.stream import text_pieces

    choose = transforms(request.sampling)
    guesser: Guesser = PromptLookup()
    if draft != "lookup":
        smaller = open_bundle(draft, precision)
        run_in(smaller.model, precision)
        guesser = DraftModel(smaller.model, choose)
    found = []
    for i in range(returns):
        tally = Tally()
        tokens = speculate(
            opened.model,
            request.prompt,
            guesser,
            n_tokens=request.max_tokens,
            choose=choose,
            generator=seeded((request.sampling.seed or 0) + i),
            stop_tokens=request.stop_tokens,
            tally=tally,
        )
        written = list(tokens)
        text = "".join(text_pieces(written, opened.tokenizer, before=request.prompt))
        finish = "length" if len(written) == request.max_tokens else "stop"
        found.append({"text": text, "finish": finish})
        print(
            f"{tally.n_kept} of {tally.n_guessed} guesses kept, {tally.n_passes} passes",
            file=sys.stderr,
        )
    return found


def _as_json(text: str, seed: int, found: list[dict[str, Any]], returns: int) -> dict[str, Any]:
    """One text lies at the top; several lie in a list."""
    top = {"prompt": text, "seed": seed}
    return top | (found[0] if returns == 1 else {"texts": found})
