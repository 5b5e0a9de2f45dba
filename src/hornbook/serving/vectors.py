"""/v1/embeddings and /v1/classify: texts become vectors, or labels."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from starlette.requests import Request

from hornbook.serving.live import while_there
from hornbook.serving.refusals import invalid
from hornbook.serving.schemas import ClassifyBody, EmbeddingBody
from hornbook.serving.served import Embedder, Sorter
from hornbook.serving.shop import Shop


async def embeddings(shop: Shop, request: Request, body: EmbeddingBody) -> dict[str, Any]:
    """A vector of length 1 for each text. A text is read up to the model's limit of tokens.

    Fewer dimensions are given by models that were taught to (Kusupati et al. 2022, "Matryoshka
    Representation Learning"): the first so many, of length 1 again.
    """
    model = shop.served.find_as(Embedder, body.model, "embed texts")
    texts = await shop.asked(_list(body.input))
    work = model.worker.run(texts, seconds=shop.limits.request_seconds)
    rows = await while_there(request, work)
    width = len(rows[0][0])
    size = body.dimensions or width
    if size not in (width, *model.sizes):
        given = ", ".join(map(str, (width, *model.sizes)))
        raise invalid(f"'{model.name}' gives {given} dimensions, no others", param="dimensions")
    if size < width:
        rows = [(vector[:size] / np.linalg.norm(vector[:size]), n) for vector, n in rows]
    n_tokens = sum(n for _, n in rows)
    as_text = body.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _base64(vector) if as_text else [float(x) for x in vector],
        }
        for index, (vector, _) in enumerate(rows)
    ]
    usage = {"prompt_tokens": n_tokens, "total_tokens": n_tokens}
    return {"object": "list", "model": model.name, "data": data, "usage": usage}


async def classify(shop: Shop, request: Request, body: ClassifyBody) -> dict[str, Any]:
    """Each text's labels: all with their probability, the likeliest first, and those decided on.

    A text without any letters has none.
    """
    model = shop.served.find_as(Sorter, body.model, "classify texts")
    texts = await shop.asked(_list(body.input))
    filled = [index for index, text in enumerate(texts) if text.strip()]
    work = model.worker.run([texts[i] for i in filled], seconds=shop.limits.request_seconds)
    found = dict(zip(filled, await while_there(request, work)))
    data = []
    for index in range(len(texts)):
        scores, predicted = found.get(index, ([], []))
        labels = [{"label": label, "score": round(score, 6)} for label, score in scores]
        data.append({"index": index, "labels": labels, "predicted": predicted})
    return {"object": "list", "model": model.name, "data": data}


def _list(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _base64(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
