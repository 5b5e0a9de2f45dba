"""`hornbook serve`: models behind an API in OpenAI's form, and a page to try them."""

from __future__ import annotations

import json
import logging
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hornbook.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from hornbook.generation.batch import Batch
    from hornbook.serving.served import Served

DEFAULT = "smollm2-135m-instruct"
_NEEDED = ("fastapi", "uvicorn", "prometheus_client", "llguidance")


def command(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help=f"Models, runs, studies; NAME=PATH gives a name. Without any: {DEFAULT}."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen; beyond this machine only with a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(help="A file with a key on each line: others are refused.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help="auto, float32, int8 or int4: smaller is faster.")
    ] = "auto",
    slots: Annotated[int, typer.Option(min=1, max=256, help="Texts written at once.")] = 8,
    queue: Annotated[int, typer.Option(min=0, max=10_000, help="Texts that may wait.")] = 64,
    context: Annotated[
        int | None, typer.Option(min=1, help="Tokens of a text, if less than the model reads.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="New tokens of an answer, at most.")
    ] = 8192,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for an answer.")] = 300.0,
    per_minute: Annotated[
        int, typer.Option(min=1, help="Requests of one client in a minute.")
    ] = 3000,
    mask: Annotated[
        bool, typer.Option("--mask", help="Mask personal data in questions and answers.")
    ] = False,
    longest: Annotated[
        int | None, typer.Option(min=1, help="Cut answers at so many characters.")
    ] = None,
    refuse: Annotated[
        Path | None, typer.Option(help="A file with a phrase on each line, not to be talked of.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="A JSON schema that every answer must follow.")
    ] = None,
    texts: Annotated[
        Path | None,
        typer.Option(help="An SQLite file where the page keeps texts; made if need be."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No line a request.")] = False,
) -> None:
    """Serve models: /v1 as OpenAI's clients speak it, a page at /, the description at /docs."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UnavailableError(
            f"to serve needs {', '.join(missing)}, which is not installed",
            hint="pip install 'hornbook[serve]'",
        )
    from hornbook.serving.app import create_app
    from hornbook.serving.guards import Guards, read_phrases
    from hornbook.serving.keys import Keys, read_keys
    from hornbook.serving.limits import Limits
    from hornbook.serving.listening import allowed_hosts, bind, serve, url_of
    from hornbook.serving.texts import Texts

    keys = read_keys(api_key_file) if api_key_file else Keys()
    hosts = allowed_hosts(host, keys)
    guards = Guards(mask, read_phrases(refuse) if refuse else (), longest)
    limits = Limits(
        new_tokens=max_tokens,
        request_seconds=seconds,
        n_open=slots + queue,
        per_minute=per_minute,
    )
    form = _read_schema(schema) if schema else None
    listener = bind(host, port)
    kept = Texts(texts) if texts else None
    served = open_models(
        models or [DEFAULT], slots, limits.n_open, precision=precision, context=context
    )
    app = create_app(
        served, limits=limits, keys=keys, hosts=hosts, guards=guards, schema=form, texts=kept
    )
    if not quiet:
        _log_requests()
    url = url_of(listener)
    for entry in served:
        print(f"{entry.name}: {', '.join(entry.capabilities)}")
    if kept:
        print(f"texts are kept in {kept.path}")
    print(f"{url} is open: a page at /, the API at /v1, its description at /docs; Ctrl-C ends")
    sys.stdout.flush()
    serve(app, listener)
    print("ended")


def open_models(
    names: list[str],
    n_slots: int,
    n_open: int,
    *,
    precision: str = "auto",
    context: int | None = None,
) -> Served:
    """Open what is to be served. Each is called by its folder's or catalogue's name, or its own.

    Models are opened in the thread that will compute with them: see `serving.turns.Turns`.
    """
    from hornbook.serving.served import Served

    served = Served()
    for given in names:
        name, path = _named(given)
        folder = Path(path).expanduser()
        if not folder.exists() and (Path("runs") / path / "study.json").is_file():
            folder = Path("runs") / path
        if (folder / "study.json").is_file() or (folder / "technique.json").is_file():
            from hornbook.cli.predict import open_predictor

            predictor = served.turns.run(partial(open_predictor, folder, None))
            served.add_classifier(name, predictor, n_open=n_open)
        else:
            turn = partial(_open_model, served, name, path, n_slots, n_open, precision, context)
            served.turns.run(turn)
    return served


def _open_model(
    served: Served,
    name: str,
    path: str,
    n_slots: int,
    n_open: int,
    precision: str,
    context: int | None,
) -> None:
    """Open a model and add it as what it is. Raises ConfigError for what cannot be served."""
    from hornbook import bundle
    from hornbook.cli.writers import WRITERS, check_precision, run_in, stop_tokens
    from hornbook.generation.batch import Batch
    from hornbook.recipes.served_as import label_scores, role, vectors

    check_precision(precision)
    opened = bundle.open_model(path)
    does = role(opened)
    if does == "classify":
        served.add_classifier(name, label_scores(opened), n_open=n_open)
        return
    if does == "embed":
        encoder, sizes = vectors(opened)
        served.add_encoder(name, encoder, n_open=n_open, sizes=sizes)
        return
    if opened.family not in WRITERS:
        raise ConfigError(
            f"{path} is a {opened.family}, which doesn't continue texts",
            hint="Serve a decoder (gpt, gpt2, llama, bigram), an encoder, a classifier or a study.",
        )
    print(f"{name}: {run_in(opened.model, precision)}")
    batch = Batch(opened, n_slots=n_slots, context_length=context)
    _warm_up(batch)
    served.add_writer(
        name,
        batch,
        opened.tokenizer,
        template=opened.template,
        stop_tokens=stop_tokens(opened),
        context_length=batch.context_length,
        n_open=n_open,
    )


def _warm_up(batch: Batch) -> None:
    """Write a token, so that what is prepared with the first one doesn't keep a client waiting."""
    from hornbook.generation.request import Request

    batch.add(Request([0], max_tokens=1))
    while batch.n_running or batch.n_waiting:
        batch.step()


def _named(given: str) -> tuple[str, str]:
    """The name under which a model is served, and where it is."""
    name, is_alias, path = given.partition("=")
    if is_alias and name and path and not Path(given).exists():
        return name, path
    return Path(given.rstrip("/\\")).name.removesuffix(".gguf") or given, given


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the schema {path} cannot be read: {error}", hint="It is a file with a JSON object."
        ) from error
    if not isinstance(schema, dict):
        raise ConfigError(
            f"the schema {path} is no JSON object", hint='Such as {"type": "object"}.'
        )
    return schema


def _log_requests() -> None:
    """A line a request to standard error: method, route, status, seconds; no text, no key."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("hornbook.serving")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
