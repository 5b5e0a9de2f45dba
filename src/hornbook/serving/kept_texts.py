"""/v1/texts: the texts that the page keeps, where `--texts` names a file. An addition of ours.

In the manner of OpenAI's lists: POST makes or changes, `after` goes on. The door lets no foreign
page in (it can send neither JSON nor DELETE without asking first, and is never told yes); a browser
that says it asks for another page is refused here too, reading included.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from hornbook.serving.described import ASKED, COMMON, errors, takes
from hornbook.serving.refusals import Refusal
from hornbook.serving.schemas import Body, Part, Probability, read_body
from hornbook.serving.texts import Kept, Making, Texts

LONGEST = 200_000  # characters of a text
ON_A_PAGE = 100

Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
Version = Annotated[int, Field(ge=1, le=2**63 - 1)]
Title = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Text = Annotated[str, Field(max_length=LONGEST)]


class Settings(Part):
    """What suggestions were asked with, by the names of /v1/completions."""

    max_tokens: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    top_p: Probability | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None


class Made(Body):
    model: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="Whose suggestions the text has; none for one by hand."
    )
    settings: Settings | None = None

    @property
    def making(self) -> Making:
        settings = self.settings.model_dump(exclude_none=True) if self.settings else {}
        return Making(self.model, settings)


class TextBody(Made):
    title: Title
    text: Text


class TextChange(Made):
    version: Version = Field(description="The version that was read; a newer one is never lost.")
    title: Title | None = Field(None, description="Without it the title stays.")
    text: Text | None = Field(
        None, description="With it come model and settings; without, it stays."
    )

    @model_validator(mode="after")
    def _changes_something(self) -> TextChange:
        if self.text is None and self.title is None:
            raise ValueError("a change has a title, or a text")
        if self.text is None and (self.model is not None or self.settings is not None):
            raise ValueError("model and settings tell of a text, and come with it")
        return self


BODIES: tuple[type[Body], ...] = (TextBody, TextChange)


class TextRow(Part):
    id: int
    object: Literal["text"]
    version: int
    created: str
    saved: str
    title: str
    model: str | None
    settings: dict[str, float]
    n_characters: int


class WholeText(TextRow):
    text: str


class TextList(Part):
    object: Literal["list"]
    data: list[TextRow]
    has_more: bool


class DeletedText(Part):
    id: int
    object: Literal["text.deleted"]
    deleted: Literal[True]


def add_routes(app: FastAPI, texts: Texts) -> None:
    """Serve these texts at /v1/texts."""
    common: dict[str, Any] = {"tags": ["texts"], "dependencies": [Depends(_refuse_foreign_pages)]}
    of_one = (*ASKED, 404, 422, 503)

    @app.get("/v1/texts", response_model=TextList, responses=errors(*of_one), **common)
    async def list_texts(
        limit: Annotated[int, Query(ge=1, le=ON_A_PAGE)] = 30,
        after: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    ) -> Response:
        """The texts without their contents, last saved first. after: the last id of a page."""
        rows, has_more = await asyncio.to_thread(texts.page, limit, after)
        return JSONResponse(
            {"object": "list", "data": [_row(kept) for kept in rows], "has_more": has_more}
        )

    @app.post(
        "/v1/texts",
        response_model=TextRow,
        responses=errors(*COMMON, 503),
        openapi_extra=takes(TextBody),
        **common,
    )
    async def add_text(request: Request) -> Response:
        """Keep a new text."""
        body = read_body(TextBody, await request.body())
        kept = await asyncio.to_thread(texts.add, body.title.strip(), body.text, body.making)
        return JSONResponse(_row(kept))

    @app.get("/v1/texts/{id}", response_model=WholeText, responses=errors(*of_one), **common)
    async def read_text(id: Id) -> Response:
        """One text, whole."""
        kept = await asyncio.to_thread(texts.read, id)
        return JSONResponse({**_row(kept), "text": kept.text})

    @app.post(
        "/v1/texts/{id}",
        response_model=TextRow,
        responses=errors(*COMMON, 404, 409, 503),
        openapi_extra=takes(TextChange),
        **common,
    )
    async def change_text(id: Id, request: Request) -> Response:
        """Save or rename a text, unless there is a newer version than the one that was read."""
        body = read_body(TextChange, await request.body())
        title = body.title.strip() if body.title else None
        if body.text is not None:
            change = asyncio.to_thread(texts.save, id, body.version, title, body.text, body.making)
        else:
            change = asyncio.to_thread(texts.rename, id, body.version, title or "")
        return JSONResponse(_row(await change))

    @app.delete(
        "/v1/texts/{id}", response_model=DeletedText, responses=errors(*of_one, 409), **common
    )
    async def delete_text(id: Id, version: Annotated[int, Query(ge=1, le=2**63 - 1)]) -> Response:
        """Delete a text, unless there is a newer version than the one that was seen."""
        await asyncio.to_thread(texts.delete, id, version)
        return JSONResponse({"id": id, "object": "text.deleted", "deleted": True})


async def _refuse_foreign_pages(request: Request) -> None:
    """Raises Refusal 403 where a browser says that the page it asks for is not this server's."""
    if request.headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        raise Refusal(403, "this was asked by the page of another site", code="foreign_page")


def _row(kept: Kept) -> dict[str, Any]:
    return {
        "id": kept.id,
        "object": "text",
        "version": kept.version,
        "created": kept.created,
        "saved": kept.saved,
        "title": kept.title,
        "model": kept.making.model,
        "settings": dict(kept.making.settings),
        "n_characters": kept.n_characters,
    }
