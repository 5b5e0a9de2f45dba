"""The application: routes of OpenAI's form over what is served, behind the door."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

import hornbook
from hornbook.errors import HornbookError
from hornbook.serving import chat, completions, kept_texts, schemas, vectors
from hornbook.serving.described import ASKED, COMMON, errors, plain_text, takes
from hornbook.serving.docs_page import STYLE, docs_page
from hornbook.serving.door import Door
from hornbook.serving.guards import Guards
from hornbook.serving.keys import Keys
from hornbook.serving.limits import Limits
from hornbook.serving.metrics import CONTENT_TYPE, Metrics
from hornbook.serving.refusals import Refusal, error_body
from hornbook.serving.served import Entry, Served
from hornbook.serving.shop import Shop
from hornbook.serving.texts import Texts

log = logging.getLogger("hornbook.serving")


def create_app(
    served: Served,
    *,
    limits: Limits | None = None,
    keys: Keys | None = None,
    hosts: frozenset[str] | None = None,
    guards: Guards | None = None,
    schema: dict[str, Any] | None = None,
    texts: Texts | None = None,
    page: bool = True,
) -> FastAPI:
    """An ASGI application that serves these models.

    keys: who may ask; None: everybody. hosts: the names it answers to; None: any. schema: what
    every answer must follow. texts: where texts are kept, if they are. page: also serve the web
    page at "/". The models' thread ends with it, and the file of texts is closed.
    """
    limits = limits or Limits()
    metrics = Metrics(served)
    shop = Shop(served, metrics, limits, guards or Guards(), schema)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        served.close(0)
        served.join()
        if texts:
            texts.close()

    app = FastAPI(
        title="Hornbook",
        version=hornbook.__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,
    )
    app.state.shop = shop
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(HornbookError, _our_error)
    app.add_exception_handler(RequestValidationError, _bad_address)
    app.add_middleware(
        Door, limits=limits, keys=keys or Keys(), hosts=hosts, observe=_observer(metrics)
    )
    _add_routes(app, shop, texts is not None)
    if texts:
        kept_texts.add_routes(app, texts)
    if page:
        from hornbook.serving import web

        web.mount(app)
    app.openapi = lambda: _openapi(app, served, bool(keys), bool(texts))  # type: ignore[method-assign]
    return app


def _add_routes(app: FastAPI, shop: Shop, keeps_texts: bool) -> None:
    def route(path: str, asked: type[schemas.Body], answered: Any, *, streams: bool = False) -> Any:
        responses = errors(*COMMON, 404, 503)
        if streams:
            content = {"text/event-stream": {"schema": {"type": "string"}}}
            responses[200] = {"content": content, "description": "The answer, whole or as events."}
        extra = takes(asked)
        return app.post(
            path, response_model=answered, responses=responses, openapi_extra=extra, tags=["v1"]
        )

    @route("/v1/chat/completions", schemas.ChatBody, schemas.ChatCompletion, streams=True)
    async def chat_completions(request: Request) -> Response:
        """Go on with a conversation."""
        return await chat.answer(shop, schemas.read_body(schemas.ChatBody, await request.body()))

    @route("/v1/completions", schemas.CompletionBody, schemas.Completion, streams=True)
    async def text_completions(request: Request) -> Response:
        """Go on with texts; with echo and logprobs, score them."""
        body = schemas.read_body(schemas.CompletionBody, await request.body())
        return await completions.answer(shop, body)

    @route("/v1/embeddings", schemas.EmbeddingBody, schemas.Embeddings)
    async def embeddings(request: Request) -> Response:
        """Turn texts into vectors."""
        body = schemas.read_body(schemas.EmbeddingBody, await request.body())
        return JSONResponse(await vectors.embeddings(shop, request, body))

    @route("/v1/classify", schemas.ClassifyBody, schemas.Classification)
    async def classify(request: Request) -> Response:
        """Give texts labels. An addition of ours."""
        body = schemas.read_body(schemas.ClassifyBody, await request.body())
        return JSONResponse(await vectors.classify(shop, request, body))

    @app.get("/v1/models", response_model=schemas.ModelList, responses=errors(*ASKED), tags=["v1"])
    async def models() -> Response:
        """What is served."""
        rows = [_row(entry) for entry in shop.served]
        return JSONResponse({"object": "list", "data": rows, "keeps_texts": keeps_texts})

    with_404 = errors(*ASKED, 404)

    @app.get(
        "/v1/models/{name:path}", response_model=schemas.ModelRow, responses=with_404, tags=["v1"]
    )
    async def model(name: str) -> Response:
        """One of the models."""
        return JSONResponse(_row(shop.served.find(name)))

    @app.get(
        "/health",
        response_model=schemas.Health,
        responses={503: {"model": schemas.Health, "description": "A model has failed."}},
        tags=["operation"],
    )
    async def health() -> Response:
        """Whether all models can be used."""
        states = {entry.name: "ok" if entry.is_up else "down" for entry in shop.served}
        is_well = all(state == "ok" for state in states.values())
        content = {"status": "ok" if is_well else "failing", "models": states}
        return JSONResponse(content, 200 if is_well else 503)

    @app.get("/metrics", response_class=Response, responses=plain_text(), tags=["operation"])
    async def metrics() -> Response:
        """Counters, as Prometheus reads them."""
        return Response(shop.metrics.text(), headers={"content-type": CONTENT_TYPE})

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(docs_page(app.openapi()))

    @app.get("/docs.css", include_in_schema=False)
    async def docs_style() -> Response:
        return Response(STYLE, media_type="text/css")


def _row(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": "hornbook",
        "capabilities": list(entry.capabilities),
        "context_length": entry.context_length,
    }


def _observer(metrics: Metrics) -> Callable[[MutableMapping[str, Any], int, float], None]:
    def observe(scope: MutableMapping[str, Any], status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        metrics.request(route, status, seconds)
        log.info("%s %s %d %.3f s", scope["method"], route, status, seconds)

    return observe


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = {404: "there is no such path", 405: "not by this method"}.get(
        error.status_code, "not possible"
    )
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
    body = error_body(error.status_code, message, code=code)
    return JSONResponse(body, error.status_code, headers=error.headers)


async def _our_error(request: Request, error: Exception) -> Response:
    """A Refusal as it says; another of our errors is about what was asked."""
    assert isinstance(error, HornbookError)
    if isinstance(error, Refusal):
        return JSONResponse(error.body, error.status, headers=error.headers)
    return JSONResponse(error_body(400, error.message, code="invalid_value"), 400)


async def _bad_address(request: Request, error: Exception) -> Response:
    """What stands in the path or after "?" is not as the document says."""
    assert isinstance(error, RequestValidationError)
    refused = schemas.refusal(error.errors())
    return JSONResponse(refused.body, refused.status)


def _openapi(app: FastAPI, served: Served, has_keys: bool, keeps_texts: bool) -> dict[str, Any]:
    """FastAPI's document, with the bodies that we read ourselves and the served names."""
    if app.openapi_schema:
        return app.openapi_schema
    document = FastAPI.openapi(app)
    bodies: tuple[type[schemas.Body], ...] = (
        schemas.ChatBody,
        schemas.CompletionBody,
        schemas.EmbeddingBody,
        schemas.ClassifyBody,
    )
    if keeps_texts:
        bodies += kept_texts.BODIES
    _, found = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    able = {
        "ChatBody": "chat",
        "CompletionBody": "completions",
        "EmbeddingBody": "embeddings",
        "ClassifyBody": "classify",
    }
    for name, capability in able.items():
        names = [entry.name for entry in served if capability in entry.capabilities]
        if names:
            found["$defs"][name]["properties"]["model"]["enum"] = names
    components = document.setdefault("components", {})
    components.setdefault("schemas", {}).update(found["$defs"])
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    app.openapi_schema = document
    return document
