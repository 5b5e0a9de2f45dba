"""BERT's names in transformers' checkpoints: the encoder, alone and with its pretraining heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hornbook.interop.names import Family, Row, refuse_unless, under, without_copies
from hornbook.models.bert import Bert, BertConfig
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.next_sentence import BertPretraining

PREFIX = "bert."  # what a checkpoint of a model with a head puts before each encoder name
IGNORED = {"embeddings.position_ids"}  # 0, 1, 2, ...: a buffer that old versions saved

_EMBEDDINGS = {
    "tokens": "word_embeddings",
    "positions": "position_embeddings",
    "segments": "token_type_embeddings",
}
_LAYER = {
    "attention.out": "attention.output.dense",
    "norm_1": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "norm_2": "output.LayerNorm",
}


_MASKED_LM = {
    "dense.weight": "transform.dense.weight",
    "dense.bias": "transform.dense.bias",
    "norm.weight": "transform.LayerNorm.weight",
    "norm.bias": "transform.LayerNorm.bias",
    "bias": "bias",
}
_NEXT_SENTENCE = {
    "pooler.dense": f"{PREFIX}pooler.dense",
    "choice": "cls.seq_relationship",
}


def bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's names without prefix; Google's gamma and beta are weight and bias."""
    spelt = {
        name.removeprefix(PREFIX)
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in weights.items()
    }
    return {name: tensor for name, tensor in spelt.items() if name not in IGNORED}


def encoder_only(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in bare(weights).items() if not beside(name)}


def beside(name: str) -> bool:
    """Whether a bare name is of a part that stands on the encoder."""
    return name.startswith(("pooler.", "cls.", "classifier."))


def masked_lm_only(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the pooler and the next-sentence head, which BERT's own files hold as well."""
    return {
        name: tensor
        for name, tensor in with_heads(weights).items()
        if "pooler." not in name and not name.startswith("cls.seq_relationship.")
    }


def with_heads(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    named = {
        name if name.startswith("cls.") else PREFIX + name: tensor
        for name, tensor in bare(weights).items()
    }
    head = "cls.predictions."
    copies = {
        f"{head}decoder.weight": f"{PREFIX}embeddings.word_embeddings.weight",
        f"{head}decoder.bias": f"{head}bias",
    }
    return without_copies(named, copies)


def masked_lm_table(config: BertConfig) -> list[Row]:
    """Rows for the encoder and its masked-LM head."""
    rows = under("trunk.", table(config.n_layers), PREFIX)
    return rows + [Row(f"head.{o}", (f"cls.predictions.{t}",)) for o, t in _MASKED_LM.items()]


def pretraining_table(config: BertConfig) -> list[Row]:
    """Rows for the encoder and both heads."""
    return masked_lm_table(config) + [
        Row(f"next_sentence.{ours}.{kind}", (f"{theirs}.{kind}",))
        for ours, theirs in _NEXT_SENTENCE.items()
        for kind in ("weight", "bias")
    ]


def table(n_layers: int) -> list[Row]:
    """Rows for the encoder without pooler and heads."""
    rows = [
        Row(f"embeddings.{ours}.weight", (f"embeddings.{theirs}.weight",))
        for ours, theirs in _EMBEDDINGS.items()
    ]
    for kind in ("weight", "bias"):
        rows.append(Row(f"embeddings.norm.{kind}", (f"embeddings.LayerNorm.{kind}",)))
        for i in range(n_layers):
            us, them = f"blocks.{i}.", f"encoder.layer.{i}."
            qkv = tuple(f"{them}attention.self.{part}.{kind}" for part in ("query", "key", "value"))
            rows.append(Row(f"{us}attention.qkv.{kind}", qkv))
            rows += [Row(f"{us}{o}.{kind}", (f"{them}{t}.{kind}",)) for o, t in _LAYER.items()]
    return rows


def config_to_ours(theirs: dict[str, Any]) -> BertConfig:
    """Sizes out of a config.json. Dropout is left at 0: it is training's to set.

    Raises CheckpointError for what this family does not do.
    """
    refuse_unless(theirs, hidden_act="gelu", position_embedding_type="absolute")
    return BertConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        n_layers=theirs["num_hidden_layers"],
        n_heads=theirs["num_attention_heads"],
        d_model=theirs["hidden_size"],
        d_ff=theirs["intermediate_size"],
        n_segments=theirs["type_vocab_size"],
        norm_epsilon=theirs["layer_norm_eps"],
    )


def config_to_theirs(ours: BertConfig) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.context_length,
        "num_hidden_layers": ours.n_layers,
        "num_attention_heads": ours.n_heads,
        "hidden_size": ours.d_model,
        "intermediate_size": ours.d_ff,
        "type_vocab_size": ours.n_segments,
        "layer_norm_eps": ours.norm_epsilon,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
    }


ENCODER = Family(
    "bert",
    "BertModel",
    Bert,
    lambda config: table(config.n_layers),
    config_to_ours,
    config_to_theirs,
    encoder_only,
)
MASKED_LM = Family(
    "bert",
    "BertForMaskedLM",
    lambda config: MaskedLM(Bert(config)),
    masked_lm_table,
    config_to_ours,
    config_to_theirs,
    masked_lm_only,
)
PRETRAINING = Family(
    "bert",
    "BertForPreTraining",
    lambda config: BertPretraining(Bert(config)),
    pretraining_table,
    config_to_ours,
    config_to_theirs,
    with_heads,
)
