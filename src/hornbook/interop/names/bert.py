"""BERT's names in transformers' checkpoints (`BertModel`)."""

from __future__ import annotations

from typing import Any

from hornbook.interop.names import Row
from hornbook.models.bert import BertConfig

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
    """Sizes out of a config.json. Dropout is left at 0: it is training's to set."""
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
