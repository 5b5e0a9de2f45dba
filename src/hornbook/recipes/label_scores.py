"""How far labels of one's own fit a text, by three kinds of model, none of them trained for it:

    cosines       20 cosines of the text's vector and each label's, by a sentence encoder
    entailment    logits of "This text is about {label}." following from the text, by a classifier
                  of pairs (Yin, Hay and Roth 2019); of several labels against contradiction
    likelihood    nats of the label in that sentence's place behind the text, by a decoder

A scorer takes texts, each with its labels, and gives the labels' scores, whose softmax are shares;
of several labels by entailment log-odds. A label's score depends on no other label.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import nn

from hornbook.data.choices import Question
from hornbook.data.labelled import TextPair
from hornbook.errors import ConfigError
from hornbook.nn.precision import choose_precision

Asking = tuple[str, Sequence[str]]  # a text and its labels
Scorer = Callable[[Sequence[Asking]], list[np.ndarray]]  # for each its labels' scores (L,)

SHARPNESS = 20.0  # what sentence encoders are trained with: softmax over 20 cosines (Reimers 2020)
HYPOTHESIS = "This text is about {label}."


def by_cosines(encoder: Any) -> Scorer:
    """As the technique `zero-shot` of `hornbook compare`."""

    def scores(asked: Sequence[Asking]) -> list[np.ndarray]:
        labels = list(dict.fromkeys(label for _, of_text in asked for label in of_text))
        of_label = dict(zip(labels, encoder.encode(labels), strict=True))
        vectors = encoder.encode([text for text, _ in asked])
        return [
            SHARPNESS * np.array([float(vector @ of_label[label]) for label in of_text])
            for (_, of_text), vector in zip(asked, vectors, strict=True)
        ]

    return scores


def by_entailment(
    network: nn.Module, task: Any, *, hypothesis: str | None = None, several: bool = False
) -> Scorer:
    """task: a `ClassifyPairs` whose labels `ends_of` knows. Raises ConfigError for a hypothesis
    without {label}, and where several labels are asked for and nothing says they don't hold."""
    sentence = checked(hypothesis)
    holds, not_ = ends_of(task.label_names)
    if several and not_ is None:
        raise ConfigError(
            f"none of the model's labels ({', '.join(task.label_names)}) is contradiction",
            hint="Leave --several out, or take a model with labels entailment and contradiction.",
        )
    device = choose_precision().device
    network.to(device).eval()

    def scores(asked: Sequence[Asking]) -> list[np.ndarray]:
        pairs = [
            TextPair(text, sentence.replace("{label}", label))
            for text, labels in asked
            for label in labels
        ]
        logits = task.logits(network, task.items(pairs), device=device)
        found = logits[:, holds] - logits[:, not_] if several else logits[:, holds]
        return np.split(found, np.cumsum([len(labels) for _, labels in asked])[:-1])

    return scores


def by_likelihood(network: nn.Module, task: Any, *, hypothesis: str | None = None) -> Scorer:
    """task: a `Choose`. What the sentence has behind {label} is left out. Raises ConfigError for a
    hypothesis without {label}, or with nothing before it."""
    sentence = checked(hypothesis)
    before = sentence.split("{label}")[0].rstrip()
    if not before:
        raise ConfigError(
            f"the hypothesis '{sentence}' has nothing before its label, which is what is read",
            hint=f"Put the label behind some words, as in '{HYPOTHESIS}'",
        )
    device = choose_precision().device
    network.to(device).eval()

    def scores(asked: Sequence[Asking]) -> list[np.ndarray]:
        items = task.items([Question(f"{t}\n{before}", tuple(labels), 0) for t, labels in asked])
        found = task.predict(network, items, device=device)
        return [np.array(one["log_probs"]) for one in found]

    return scores


def checked(hypothesis: str | None) -> str:
    """The sentence that is asked. Raises ConfigError where it has no place for a label."""
    sentence = hypothesis or HYPOTHESIS
    if "{label}" not in sentence:
        raise ConfigError(
            f"the hypothesis '{sentence}' has no place for a label",
            hint=f"Write {{label}} where it belongs, as in '{HYPOTHESIS}'",
        )
    return sentence


def ends_of(names: Sequence[str]) -> tuple[int, int | None]:
    """The numbers of the labels entailment and contradiction (or "not entailment").

    The latter is None where neither is there; -1 and None where no label is entailment.
    """
    folded = [name.casefold() for name in names]
    holds = next((i for i, name in enumerate(folded) if name.startswith("entail")), -1)
    against = (i for i, n in enumerate(folded) if n.startswith(("contradict", "not")))
    return holds, next(against, None)
