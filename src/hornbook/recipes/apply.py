"""A model at work: a task's name, a model's name, rows in; what it says of each out, plain data.

    say = ready("answer", "runs/mine")
    for found in say([{"question": "Who?", "context": "Ada did."}]): ...

A row holds what the task reads: a text, or a question and its context, or a text and options. With
a model that was fine-tuned here, or that has its head from elsewhere, the task itself predicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from hornbook import bundle as bundles
from hornbook.bundle import Bundle
from hornbook.data import choices
from hornbook.data.examples import Document, Example
from hornbook.data.labelled import TextPair
from hornbook.data.questions import Question
from hornbook.errors import ConfigError, UnknownNameError, nearest
from hornbook.models.encoder_decoder import EncoderDecoder
from hornbook.models.heads import ChoiceScorer, SequenceClassifier, SpanFinder, TokenClassifier
from hornbook.nn.precision import choose_precision
from hornbook.recipes import apply_labels, apply_reward, label_scores
from hornbook.recipes import apply_plain as plain
from hornbook.recipes import apply_shapes as shapes
from hornbook.recipes.apply_plain import CONTINUING, Asked, Row, Say, card_of, wrong_model
from hornbook.recipes.kinds import KINDS
from hornbook.recipes.label_scores import Scorer
from hornbook.tasks.task import Parts, Task


@dataclass(frozen=True)
class Use:
    """One task: what it reads of a row, and how it is made ready: (opened model, Asked) -> Say.

    heeds: which fields of what is Asked make a difference to it.
    """

    reads: tuple[str, ...]
    what: str
    by: Callable[[Bundle, Asked], Say]
    heeds: tuple[str, ...] = ()


def ready(task: str, model: str, asked: Asked | None = None) -> Say:
    """Open a model for a task. Raises UnknownNameError for another task's name, ConfigError where
    the model can't do it, naming what it can, and as `bundle.open_model` does."""
    use, asked = use_of(task), asked or Asked()
    if model == TEXTRANK and name_of(task) == "summarize":
        return _textrank(asked)
    return use.by(bundles.open_model(model), asked)


def name_of(task: str) -> str:
    """A task by its name or by another that is in use for it. Raises UnknownNameError."""
    name = ALIASES.get(task, task)
    if name not in USES:
        raise UnknownNameError(
            f"there is no task '{task}' to run", hint=nearest(task, [*USES, *ALIASES])
        )
    return name


def use_of(task: str) -> Use:
    """What a task reads and does. Raises UnknownNameError."""
    return USES[name_of(task)]


def _by(
    task: str,
    example_of: Callable[[Row], Any],
    shaped: Callable[[Row, Any, Task], dict[str, Any]],
) -> Callable[[Bundle, Asked], Say]:
    """A task that predicts for itself. shaped: a row and its prediction as what is said."""

    def open_(opened: Bundle, asked: Asked) -> Say:
        network, made = _made(task, opened, asked)
        device = choose_precision().device
        network.to(device).eval()

        def say(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
            items = made.items([example_of(row) for row in rows])
            predictions = made.predict(network, items, device=device)
            for row, prediction in zip(rows, predictions, strict=True):
                yield shaped(row, prediction, made)

        return say

    return open_


def _made(task: str, opened: Bundle, asked: Asked) -> tuple[nn.Module, Task]:
    """A model and the task that it was fine-tuned to, or that its own head is for."""
    card = card_of(opened)
    kind = KINDS.load(task)
    if card is not None and card["task"] == task:
        made = kind.reopen(card, opened)
    elif _can(task, opened, None if card is None else card["task"]):
        made = kind.make(opened, head_as_data(task, opened), **_own(task, asked))
    else:
        raise wrong_model(opened, task, _WANTED[task])
    if asked.aggregation is not None and task == "tag":
        made = replace(made, aggregation=asked.aggregation)
    if asked.n_beams is not None and task in ("translate", "summarize"):
        made = replace(made, n_beams=asked.n_beams)
    if asked.n_tokens is not None and task in ("translate", "summarize"):
        made = replace(made, n_tokens=min(asked.n_tokens, made.form.max_tokens))
    return made.build(opened), made


def _own(task: str, asked: Asked) -> dict[str, Any]:
    """What a task has to be told that no data tell."""
    if task in ("translate", "summarize"):
        return {"n_tokens": asked.n_tokens or 96}
    return {}


def _can(task: str, opened: Bundle, trained_to: str | None) -> bool:
    """Whether a model that is not of this task can do it all the same."""
    model = opened.model
    problem = getattr(getattr(model, "config", None), "problem", "")
    if trained_to is None:
        heads: dict[str, bool] = {
            "classify": isinstance(model, SequenceClassifier),
            "pairs": isinstance(model, SequenceClassifier),
            "tag": isinstance(model, TokenClassifier) and problem == "token",
            "answer": isinstance(model, SpanFinder),
            "choose": isinstance(model, ChoiceScorer),
            "translate": isinstance(model, EncoderDecoder),
            "summarize": isinstance(model, EncoderDecoder),
            "reward": isinstance(model, SequenceClassifier)
            and model.config.n_labels == 1
            and hasattr(model.trunk, "logits"),
        }
        if heads.get(task):
            return True
    elif trained_to not in CONTINUING:
        return False
    decodes = hasattr(model, "logits") and not hasattr(model, "trunk")
    if isinstance(model, EncoderDecoder) or not decodes:
        return False
    # A decoder that was taught to answer can be asked for anything in words.
    return task == "choose" or (task in ("translate", "summarize") and opened.template is not None)


def head_as_data(task: str, opened: Bundle) -> Parts:
    """What a model's own head tells apart, as if it had been data."""
    config = getattr(opened.model, "config", None)
    problem = getattr(config, "problem", "")
    names = () if problem == "regression" else tuple(getattr(config, "label_names", ()))
    several = problem == "multi_label_classification"
    return Parts(task, (), (), label_names=names, multi_label=several)


_WANTED = {
    "classify": "a classifier: hornbook finetune classify --model minilm --data D; without any "
    "training, zero-shot works",
    "pairs": "a classifier of pairs: hornbook finetune pairs --model minilm --data D",
    "tag": "a tagger: hornbook finetune tag --model minilm --data D",
    "answer": "a model that finds answers: hornbook finetune answer --model minilm --data D",
    "translate": "an encoder-decoder (hornbook train seq2seq), or a model that chats",
    "summarize": "a run of hornbook finetune summarize, or a model that chats",
    "reward": "a model that marks answers: hornbook align reward --model M --data D",
    "choose": "a decoder (gpt, llama, smollm2-135m-instruct), or an encoder that was taught it: "
    "hornbook finetune choose --model minilm --data D",
}


# What takes more than a task that predicts


def _anonymize(opened: Bundle, asked: Asked) -> Say:
    """Whole words, however the tagger's pieces are put together else."""
    how = asked.aggregation or "first"
    if how in ("none", "simple"):
        raise ConfigError(
            f"aggregation is '{how}', which would leave parts of names",
            hint="Take first, average or max.",
        )
    opener = _by("tag", lambda row: row["text"], shapes.anonymous)
    return opener(opened, replace(asked, aggregation=how))


def _textrank(asked: Asked) -> Say:
    """Without a model, which has tokens and beams where this has sentences."""
    if asked.n_beams is not None or asked.n_tokens is not None:
        raise ConfigError(
            "textrank takes whole sentences of the text, and writes none",
            hint="Say how many: --sentences 3.",
        )
    return plain.textrank(asked)


def _summarize(opened: Bundle, asked: Asked) -> Say:
    if asked.n_sentences is not None:
        raise ConfigError(
            "--sentences is for textrank; a model ends its summary itself",
            hint=f"Say how long at most, --tokens 60; or: hornbook run summarize {TEXTRANK} …",
        )
    return _by("summarize", lambda row: row["text"], shapes.written)(opened, asked)


def _zero_shot(opened: Bundle, asked: Asked) -> Say:
    """By entailment, likelihood or cosines: as the model is."""
    labelling = apply_labels.Labelling(
        scorer_of(opened, asked),
        several=asked.several or False,
        content_free=asked.content_free is not False,
    )
    if asked.calibrate is not None:
        labelling = apply_labels.calibrated(labelling, asked.calibrate)
    return labelling


def scorer_of(opened: Bundle, asked: Asked) -> Scorer:
    """By entailment where the model is a classifier of pairs that knows it, by likelihood where it
    is a decoder, else by cosines. Raises ConfigError for other models."""
    card = card_of(opened)
    if isinstance(opened.model, SequenceClassifier) and (card is None or card["task"] == "pairs"):
        if label_scores.ends_of(opened.model.config.label_names)[0] < 0:
            raise ConfigError(
                f"{opened.name} has no label 'entailment', but "
                f"{', '.join(opened.model.config.label_names)}",
                hint="Name a classifier of entailment, or a sentence encoder such as minilm.",
            )
        return label_scores.by_entailment(
            *_made("pairs", opened, asked),
            hypothesis=asked.hypothesis,
            several=asked.several or False,
        )
    if asked.several:
        raise ConfigError(
            f"{opened.name} knows no entailment, and reads no --several",
            hint="Take a run of hornbook finetune pairs, on data with the label entailment.",
        )
    marks = isinstance(opened.model, ChoiceScorer)  # of options it was taught, not likelihoods
    if not marks and _can("choose", opened, None if card is None else card["task"]):
        made = _made("choose", opened, asked)
        return label_scores.by_likelihood(*made, hypothesis=asked.hypothesis)
    encoder = plain.text_encoder(opened, "zero-shot")
    if asked.hypothesis is not None:
        raise ConfigError(
            f"{opened.name} goes by cosines, and reads no hypothesis",
            hint="It is for models of entailment, and for those that continue a text.",
        )
    return label_scores.by_cosines(encoder)


def _reward(opened: Bundle, asked: Asked) -> Say:
    """The answers of each prompt, the best first."""
    return apply_reward.marking(*_made("reward", opened, asked))


WRITING = ("n_tokens", "temperature", "seed")
TEXTRANK = "textrank"  # a summary without a model; a run of that name is runs/textrank

USES: dict[str, Use] = {
    "classify": Use(
        ("text",),
        "labels of texts",
        _by("classify", lambda row: Example(Document(row["text"]), ()), shapes.labels),
        ("top",),
    ),
    "pairs": Use(
        ("first", "second"),
        "labels of pairs of texts",
        _by("pairs", lambda row: TextPair(row["first"], row["second"]), shapes.labels),
        ("top",),
    ),
    "tag": Use(
        ("text",),
        "names or parts of speech",
        _by("tag", lambda row: row["text"], shapes.spans),
        ("aggregation",),
    ),
    "anonymize": Use(("text",), "texts without the names", _anonymize, ("aggregation",)),
    "answer": Use(
        ("question", "context"),
        "answers, marked in their text",
        _by("answer", lambda row: Question(row["question"], row["context"]), shapes.answer),
        ("top",),
    ),
    "fill": Use(("text",), "words for [MASK]", plain.fill, ("top",)),
    "translate": Use(
        ("text",),
        "another language",
        _by("translate", lambda row: row["text"], shapes.written),
        ("n_tokens", "n_beams"),
    ),
    "summarize": Use(
        ("text",), "a text in short", _summarize, ("n_tokens", "n_beams", "n_sentences")
    ),
    "choose": Use(
        ("text", "options"),
        "the likeliest of options",
        _by(
            "choose",
            lambda row: choices.Question(row["text"], tuple(row["options"]), 0),
            shapes.chosen,
        ),
    ),
    "reward": Use(("prompt", "answers"), "marks for answers", _reward, ("top",)),
    "zero-shot": Use(
        ("text", "labels"),
        "labels of your own, untrained",
        _zero_shot,
        ("top", "hypothesis", "several", "content_free", "calibrate"),
    ),
    "generate": Use(("text",), "texts continued", plain.generate, WRITING),
    "chat": Use(("text",), "answers of an assistant", plain.chat, (*WRITING, "system")),
    "embed": Use(("text",), "vectors of texts", plain.embed),
    "similarity": Use(("text",), "how alike texts are", plain.similarity, ("top",)),
}
ALIASES = {
    "sentiment": "classify",
    "sentiment-analysis": "classify",
    "text-classification": "classify",
    "ner": "tag",
    "pos": "tag",
    "token-classification": "tag",
    "fill-mask": "fill",
    "qa": "answer",
    "question-answering": "answer",
    "translation": "translate",
    "summarization": "summarize",
    "summarise": "summarize",
    "zero-shot-classification": "zero-shot",
    "zeroshot": "zero-shot",
    "text-generation": "generate",
    "continue": "generate",
    "feature-extraction": "embed",
    "sentence-similarity": "similarity",
    "entailment": "pairs",
    "anonymise": "anonymize",
    "multiple-choice": "choose",
}
