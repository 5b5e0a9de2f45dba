"""Models at work that need no fine-tuning: vectors, hidden words, texts continued; and TextRank,
which needs no model.

Each takes an opened model and gives what answers rows with plain data; `apply` has the table of all
tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hornbook.bundle import Bundle
from hornbook.errors import ConfigError
from hornbook.recipes.adapted import read_card
from hornbook.tasks.masked_lm import MaskedLM

Row = Mapping[str, Any]
Say = Callable[[Sequence[Row]], Iterator[dict[str, Any]]]
N_PAIRS = 20  # of texts that are alike, where nobody says
# What leaves a decoder a decoder.
CONTINUING = {"continue", "chat", "choose", "dpo", "ipo", "orpo", "kto"}


@dataclass(frozen=True)
class Asked:
    """What a person may ask; each task heeds what its `Use` names. None: the task's own.

    top: answers given of several. n_tokens: written at most. n_beams: paths of a search.
    aggregation: of sub-words into entities. hypothesis: with {label} in it; several: whether labels
    exclude one another not; both of zero-shot by entailment. n_sentences: of a text's own.
    content_free, calibrate: of zero-shot, see `apply_labels`.
    """

    top: int | None = None
    n_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    n_beams: int | None = None
    system: str | None = None
    aggregation: str | None = None
    hypothesis: str | None = None
    several: bool | None = None
    n_sentences: int | None = None
    content_free: bool | None = None
    calibrate: str | None = None


def embed(opened: Bundle, asked: Asked) -> Say:
    encoder = text_encoder(opened, "embed")

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        for row, vector in zip(rows, encoder.encode([row["text"] for row in rows]), strict=True):
            yield {"text": row["text"], "vector": [round(float(x), 6) for x in vector]}

    return say


def similarity(opened: Bundle, asked: Asked) -> Say:
    """The pairs of texts that are most alike, the most first: `top` of them."""
    from hornbook.embeddings.alike import most_alike

    encoder = text_encoder(opened, "similarity")

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        texts = [row["text"] for row in rows]
        if len(texts) < 2:
            raise ConfigError(
                "similarity is between texts, and there is one", hint="Give two or more."
            )
        for i, j, cosine in most_alike(encoder.encode(texts), asked.top or N_PAIRS):
            yield {"texts": [texts[i], texts[j]], "cosine": round(cosine, 4)}

    return say


def text_encoder(opened: Bundle, task: str = "embed") -> Any:
    """A sentence encoder, of the catalogue or fine-tuned here. Raises ConfigError for others."""
    from hornbook.embeddings.encoder import TextEncoder
    from hornbook.models.bert import Bert
    from hornbook.models.modern_bert import ModernBert

    trunk = opened.model
    if not isinstance(trunk, Bert | ModernBert):
        raise wrong_model(opened, task, "a sentence encoder, such as minilm")
    card = card_of(opened)
    options = card if card and card["task"] == "embed" else {}
    n_tokens = options.get("max_tokens") or min(256, trunk.config.context_length)
    return TextEncoder(trunk, opened.tokenizer, max_tokens=n_tokens)


def fill(opened: Bundle, asked: Asked) -> Say:
    """Each open place by itself: the likeliest tokens for it."""
    from hornbook.tasks.fill import guesses
    from hornbook.tasks.masked_lm import MaskedLM
    from hornbook.tasks.next_sentence import BertPretraining

    masked = opened.model
    if isinstance(masked, BertPretraining):
        masked = MaskedLM(masked.trunk)
        masked.head = opened.model.head
    if not isinstance(masked, MaskedLM):
        raise wrong_model(
            opened, "fill", "a model that was taught to guess hidden words (hornbook train bert, "
            "hornbook finetune fill)",
        )  # fmt: skip

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        for row in rows:
            found = guesses(masked, opened.tokenizer, row["text"], k=asked.top or 5)
            yield {
                "text": row["text"],
                "guesses": [
                    [
                        {"token": g.token, "probability": round(g.probability, 4), "text": g.text}
                        for g in place
                    ]
                    for place in found
                ],
            }

    return say


def generate(opened: Bundle, asked: Asked) -> Say:
    _refuse_silent(opened, "generate")

    def prompts(rows: Sequence[Row]) -> list[list[int]]:
        return opened.tokenizer.encode([row["text"] for row in rows], special=False)

    return _continued(opened, prompts, asked, n_tokens=100, penalty=0.0)


def chat(opened: Bundle, asked: Asked) -> Say:
    from hornbook.generation.conversation import template_of

    _refuse_silent(opened, "chat")
    template = template_of(opened)
    first = [{"role": "system", "content": asked.system}] if asked.system else []

    def prompts(rows: Sequence[Row]) -> list[list[int]]:
        asking = [[*first, {"role": "user", "content": row["text"]}] for row in rows]
        return [template.encode(messages, opened.tokenizer) for messages in asking]

    return _continued(opened, prompts, asked, n_tokens=256, penalty=0.5)


def _continued(
    opened: Bundle,
    prompts: Callable[[Sequence[Row]], list[list[int]]],
    asked: Asked,
    *,
    n_tokens: int,
    penalty: float,
) -> Say:
    from hornbook.data.packing import end_token
    from hornbook.generation.batch import Batch
    from hornbook.generation.request import Request, Sampling

    end = end_token(opened.tokenizer)
    stops = opened.stop_tokens or frozenset([] if end is None else [end])
    sampling = Sampling(asked.temperature or 0.0, frequency_penalty=penalty, seed=asked.seed or 0)

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        batch = Batch(opened, n_slots=min(8, max(1, len(rows))))
        n = asked.n_tokens or n_tokens
        numbers = [
            batch.add(Request(prompt, n, sampling, stop_tokens=stops, slide=True))
            for prompt in prompts(rows)
        ]
        texts, ends = dict.fromkeys(numbers, ""), dict.fromkeys(numbers, "")
        while batch.n_running or batch.n_waiting:
            for piece in batch.step():
                texts[piece.request] += piece.text
                ends[piece.request] = piece.finish or ""
        for row, number in zip(rows, numbers, strict=True):
            yield {"text": row["text"], "written": texts[number], "finish": ends[number]}

    return say


def textrank(asked: Asked) -> Say:
    """A text's own sentences (`text.textrank`)."""
    from hornbook.text.textrank import summary

    def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
        for row in rows:
            found = summary(row["text"], asked.n_sentences or 3)
            yield {
                "text": row["text"],
                "written": " ".join(one.text for one in found),
                "sentences": [
                    {"sentence": one.text, "number": one.number, "score": round(one.score, 4)}
                    for one in found
                ],
            }

    return say


def _refuse_silent(opened: Bundle, task: str) -> None:
    """Raises ConfigError for a model that continues no text."""
    card = card_of(opened)
    model = opened.model  # one that guesses hidden words has logits too, and writes nothing
    writes = not isinstance(model, torch.nn.Module) or (
        hasattr(model, "logits") and not isinstance(model, MaskedLM)
    )
    if opened.family == "marian" or not writes or (card and card["task"] not in CONTINUING):
        raise wrong_model(opened, task, "a model that continues a text: gpt, llama, bigram")


def card_of(opened: Bundle) -> dict[str, Any] | None:
    """What a model was fine-tuned to, None for one that was not."""
    if opened.path is None or not (opened.path / "task.json").is_file():
        return None
    return read_card(opened.path / "task.json")


def wrong_model(opened: Bundle, task: str, wanted: str) -> ConfigError:
    """What this model can't do, and what it can."""
    card = card_of(opened)
    if card is not None:
        return ConfigError(
            f"{opened.name} was fine-tuned to {card['task']}, not to {task}",
            hint=f"hornbook run {card['task']} {opened.name} …; for {task} name {wanted}.",
        )
    return ConfigError(
        f"{opened.name} ({type(opened.model).__name__}) can't {task}", hint=f"Name {wanted}."
    )
