"""Names of models with a head on a trunk in transformers' checkpoints.

A `Stand` is a trunk as it lies under a head: its rows with the prefix it then has. A further head
is a table of its own rows and a `family` on each stand that can carry it. Of labels config.json
says `id2label`, `label2id` and `problem_type`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from hornbook.errors import CheckpointError
from hornbook.interop.names import Family, Row, bert, gpt2, llama, modernbert, nanochat, under
from hornbook.models.bert import Bert
from hornbook.models.gpt import GPT
from hornbook.models.heads import (
    MARK,
    ChoiceScorer,
    HeadConfig,
    Problem,
    SequenceClassifier,
    SpanFinder,
    TokenClassifier,
    headless,
)
from hornbook.models.llama import Llama
from hornbook.models.modern_bert import ModernBert
from hornbook.models.modern_gpt import ModernGPT


@dataclass(frozen=True)
class Stand:
    """A kind of trunk under a head. prefix: what its names begin with there.

    make: its config -> an empty trunk. rows: its config -> rows for the trunk alone. bare: weights
    -> the same without copies and buffers, the trunk's names without prefix.
    """

    model_type: str
    prefix: str
    make: Callable[[Any], nn.Module]
    rows: Callable[[Any], list[Row]]
    config_to_ours: Callable[[dict[str, Any]], Any]
    config_to_theirs: Callable[[Any], dict[str, Any]]
    bare: Callable[[dict[str, Tensor]], dict[str, Tensor]]


BERT = Stand(
    "bert",
    bert.PREFIX,
    Bert,
    lambda config: bert.table(config.n_layers),
    bert.config_to_ours,
    bert.config_to_theirs,
    bert.bare,
)
MODERN_BERT = Stand(
    "modernbert",
    modernbert.PREFIX,
    ModernBert,
    modernbert.table,
    modernbert.config_to_ours,
    modernbert.config_to_theirs,
    lambda weights: {name.removeprefix(modernbert.PREFIX): t for name, t in weights.items()},
)
LLAMA = Stand(
    "llama",
    "",  # its own table has the prefix "model."
    Llama,
    llama.table,
    # Under a head there is no matrix for next tokens, whatever config.json says of it.
    lambda theirs: llama.config_to_ours(theirs | {"tie_word_embeddings": True}),
    llama.config_to_theirs,
    llama.tidy,
)
GPT2 = Stand(
    "gpt2",
    gpt2.PREFIX,
    GPT,
    lambda config: gpt2.table(config.n_layers),
    gpt2.config_to_ours,
    gpt2.config_to_theirs,
    gpt2.tidy,
)
NANOCHAT = Stand(
    "nanochat",
    "",  # its own table has the prefix "model."
    lambda config: headless(ModernGPT(config)),
    lambda config: [row for row in nanochat.table(config) if row.ours != "head.weight"],
    nanochat.config_to_ours,
    nanochat.config_to_theirs,
    lambda weights: {name: t for name, t in weights.items() if name != "lm_head.weight"},
)


def family(
    stand: Stand,
    architecture: str,
    kind: Callable[[nn.Module, HeadConfig], nn.Module],
    head: Mapping[str, str],
    head_to_ours: Callable[[Mapping[str, Any], Any], HeadConfig],
    head_to_theirs: Callable[[HeadConfig], dict[str, Any]],
) -> Family:
    """The models `kind(trunk, config)` on a stand.

    head: our names below "head." -> theirs. head_to_ours: config.json and the trunk's config -> the
    whole config. head_to_theirs: what it adds to the trunk's config.json.
    """
    of_head = set(head.values())

    def tidy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        beside = {name: tensor for name, tensor in weights.items() if name in of_head}
        trunk = {name: tensor for name, tensor in weights.items() if name not in of_head}
        return beside | {stand.prefix + name: t for name, t in stand.bare(trunk).items()}

    def table(config: HeadConfig) -> list[Row]:
        rows = under("trunk.", stand.rows(config.trunk), stand.prefix)
        return rows + [Row(f"head.{ours}", (theirs,)) for ours, theirs in head.items()]

    return Family(
        stand.model_type,
        architecture,
        lambda config: kind(stand.make(config.trunk), config),
        table,
        lambda theirs: head_to_ours(theirs, stand.config_to_ours(theirs)),
        lambda ours: stand.config_to_theirs(ours.trunk) | head_to_theirs(ours),
        tidy,
    )


def label_names(theirs: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels that a config.json names, in the order of the logits.

    transformers leaves out two labels without names. Raises CheckpointError for numbers that are
    not 0, 1, 2, ...
    """
    named = theirs.get("id2label")
    if not named:
        return tuple(f"LABEL_{i}" for i in range(theirs.get("num_labels") or 2))
    by_number = {int(number): str(name) for number, name in named.items()}
    if sorted(by_number) != list(range(len(by_number))):
        raise CheckpointError(
            f"id2label numbers the labels {sorted(by_number)}",
            hint=f"It must be 0 to {len(by_number) - 1}, one for each logit.",
        )
    return tuple(by_number[i] for i in range(len(by_number)))


def labels_to_theirs(names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


_OF_TEXTS: tuple[Problem, ...] = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)


def _problem(theirs: Mapping[str, Any], n_labels: int) -> Problem:
    """What transformers takes a head to be for. Raises CheckpointError for another."""
    said = theirs.get("problem_type")
    if said is None:
        return "regression" if n_labels == 1 else "single_label_classification"
    if said not in _OF_TEXTS:
        raise CheckpointError(f"problem_type is {said!r}", hint=f"Known: {', '.join(_OF_TEXTS)}.")
    return said


def _texts_to_ours(theirs: Mapping[str, Any], trunk: Any) -> HeadConfig:
    names = label_names(theirs)
    return HeadConfig(
        trunk,
        names,
        _problem(theirs, len(names)),
        mean=theirs.get("classifier_pooling") == "mean",
        pad_token=theirs.get("pad_token_id"),
    )


def _texts_to_theirs(ours: HeadConfig) -> dict[str, Any]:
    told = labels_to_theirs(ours.label_names) | {"problem_type": ours.problem}
    return told if ours.pad_token is None else told | {"pad_token_id": ours.pad_token}


def _modern_to_theirs(ours: HeadConfig) -> dict[str, Any]:
    return _texts_to_theirs(ours) | _pooling_to_theirs(ours)


def _pooling_to_theirs(ours: HeadConfig) -> dict[str, Any]:
    return {"classifier_pooling": "mean" if ours.mean else "cls"}


_BERT_HEAD = {
    "pooler.dense.weight": "bert.pooler.dense.weight",
    "pooler.dense.bias": "bert.pooler.dense.bias",
    "out.weight": "classifier.weight",
    "out.bias": "classifier.bias",
}
_MODERN_HEAD = {
    "dense.weight": "head.dense.weight",
    "norm.weight": "head.norm.weight",
    "out.weight": "classifier.weight",
    "out.bias": "classifier.bias",
}
_DECODER_HEAD = {"out.weight": "score.weight"}


def _of_texts(stand: Stand, architecture: str, head: Mapping[str, str]) -> Family:
    told = _modern_to_theirs if stand is MODERN_BERT else _texts_to_theirs
    return family(stand, architecture, SequenceClassifier, head, _texts_to_ours, told)


BERT_TEXTS = _of_texts(BERT, "BertForSequenceClassification", _BERT_HEAD)
MODERN_BERT_TEXTS = _of_texts(MODERN_BERT, "ModernBertForSequenceClassification", _MODERN_HEAD)
LLAMA_TEXTS = _of_texts(LLAMA, "LlamaForSequenceClassification", _DECODER_HEAD)
GPT2_TEXTS = _of_texts(GPT2, "GPT2ForSequenceClassification", _DECODER_HEAD)
# transformers 5 has no such class; these are the names that its generic classifier gives one.
NANOCHAT_TEXTS = _of_texts(NANOCHAT, "NanoChatForSequenceClassification", _DECODER_HEAD)


def _of_choices(stand: Stand, architecture: str, head: Mapping[str, str]) -> Family:
    told = _pooling_to_theirs if stand is MODERN_BERT else lambda ours: {}
    return family(stand, architecture, ChoiceScorer, head, _choices_to_ours, told)


def _choices_to_ours(theirs: Mapping[str, Any], trunk: Any) -> HeadConfig:
    """One output, however many labels config.json counts: an option's mark."""
    mean = theirs.get("classifier_pooling") == "mean"
    return HeadConfig(trunk, MARK, "choice", mean=mean)


BERT_CHOICE = _of_choices(BERT, "BertForMultipleChoice", _BERT_HEAD)
MODERN_BERT_CHOICE = _of_choices(MODERN_BERT, "ModernBertForMultipleChoice", _MODERN_HEAD)


def _of_tokens(stand: Stand, architecture: str, head: Mapping[str, str]) -> Family:
    return family(
        stand,
        architecture,
        TokenClassifier,
        head,
        lambda theirs, trunk: HeadConfig(trunk, label_names(theirs), "token"),
        lambda ours: labels_to_theirs(ours.label_names),
    )


def _of_spans(stand: Stand, architecture: str, head: Mapping[str, str]) -> Family:
    return family(stand, architecture, SpanFinder, head, _spans_to_ours, lambda ours: {})


def _spans_to_ours(theirs: Mapping[str, Any], trunk: Any) -> HeadConfig:
    """The head of a span has two outputs, whatever names config.json may have for them."""
    return HeadConfig(trunk, SPAN, "span")


SPAN = ("start", "end")
_BERT_TOKENS = {"out.weight": "classifier.weight", "out.bias": "classifier.bias"}
_BERT_SPAN = {"out.weight": "qa_outputs.weight", "out.bias": "qa_outputs.bias"}
# Without a pooler: older files hold one that nothing reads.
_BERT = replace(BERT, bare=bert.encoder_only)
BERT_TOKENS = _of_tokens(_BERT, "BertForTokenClassification", _BERT_TOKENS)
MODERN_BERT_TOKENS = _of_tokens(MODERN_BERT, "ModernBertForTokenClassification", _MODERN_HEAD)
BERT_SPAN = _of_spans(_BERT, "BertForQuestionAnswering", _BERT_SPAN)
MODERN_BERT_SPAN = _of_spans(MODERN_BERT, "ModernBertForQuestionAnswering", _MODERN_HEAD)

FAMILIES: tuple[Family, ...] = (BERT_TEXTS, MODERN_BERT_TEXTS, LLAMA_TEXTS, GPT2_TEXTS)
FAMILIES += (NANOCHAT_TEXTS, BERT_CHOICE, MODERN_BERT_CHOICE)
FAMILIES += (BERT_TOKENS, MODERN_BERT_TOKENS, BERT_SPAN, MODERN_BERT_SPAN)
# A model's class and its trunk's -> its family.
KINDS: dict[tuple[type, type | None], Family] = {
    (SequenceClassifier, Bert): BERT_TEXTS,
    (SequenceClassifier, ModernBert): MODERN_BERT_TEXTS,
    (SequenceClassifier, Llama): LLAMA_TEXTS,
    (SequenceClassifier, GPT): GPT2_TEXTS,
    (SequenceClassifier, ModernGPT): NANOCHAT_TEXTS,
    (ChoiceScorer, Bert): BERT_CHOICE,
    (ChoiceScorer, ModernBert): MODERN_BERT_CHOICE,
    (TokenClassifier, Bert): BERT_TOKENS,
    (TokenClassifier, ModernBert): MODERN_BERT_TOKENS,
    (SpanFinder, Bert): BERT_SPAN,
    (SpanFinder, ModernBert): MODERN_BERT_SPAN,
}
