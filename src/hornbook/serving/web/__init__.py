"""The page at `/`: static files beside this one, served with a policy that lets nothing else in.

The page speaks to the public HTTP API alone, as any other client would. It needs no build step:
what is in the folder is what the browser gets.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asks each time and mostly hears 304: no page older than its API
}
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


def mount(app: FastAPI) -> None:
    """Serve the page at `/` and its files at `/web/NAME`; neither is part of the API's document.

    The files are read once, here: a request's path only ever looks up a name in a table, so that
    it can reach nothing else. The page holds no secret and has to be there before a key can be
    typed into it, so that a server's check of keys should let `/` and `/web/` through.
    """
    from starlette.responses import Response
    from starlette.routing import Route

    table = {
        entry.name: entry.read_bytes()
        for entry in files(__name__).iterdir()
        if entry.name.rpartition(".")[2] in TYPES
    }
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:16]}"' for name, data in table.items()}

    async def serve(request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        if name not in table:
            return Response("There is no such file.\n", 404, HEADERS, "text/plain; charset=utf-8")
        headers = {**HEADERS, "ETag": tags[name]}
        if request.headers.get("if-none-match") == tags[name]:
            return Response(None, 304, headers)
        return Response(table[name], 200, headers, TYPES[name.rpartition(".")[2]])

    for path in ("/", "/web/{name}"):
        app.router.routes.append(Route(path, serve, include_in_schema=False))
