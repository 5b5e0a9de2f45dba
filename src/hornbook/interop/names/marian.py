"""The encoder-decoder's names in transformers' checkpoints (`MarianMTModel`)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hornbook.errors import CheckpointError
from hornbook.interop.names import Family, Row, refuse_unless, without_copies
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

COPIES = dict.fromkeys(
    ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"),
    "model.shared.weight",
)
BIAS = "final_logits_bias"

_ENCODER = {
    "attention.out": "self_attn.out_proj",
    "norm_1": "self_attn_layer_norm",
    "feed_forward.up": "fc1",
    "feed_forward.down": "fc2",
    "norm_2": "final_layer_norm",
}
_DECODER = _ENCODER | {
    "source_attention.q": "encoder_attn.q_proj",
    "source_attention.out": "encoder_attn.out_proj",
    "norm_2": "encoder_attn_layer_norm",
    "norm_3": "final_layer_norm",
}


def tidy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without sines and copies. Raises CheckpointError when logits have a bias."""
    if BIAS in weights and weights[BIAS].any():
        raise CheckpointError(
            f"{BIAS} is not zero: logits there have a bias, here they have none",
            hint="Its weights would load and give other logits. Use the library that made it.",
        )
    kept = {n: t for n, t in weights.items() if n != BIAS and ".embed_positions." not in n}
    return without_copies(kept, COPIES)


def table(config: EncoderDecoderConfig) -> list[Row]:
    """Rows for the whole model; one matrix serves both embeddings and the head."""
    rows = [Row("tokens.weight", ("model.shared.weight",))]
    for side, names in (("encoder", _ENCODER), ("decoder", _DECODER)):
        for i in range(config.n_layers):
            us, them = f"{side}.{i}.", f"model.{side}.layers.{i}."
            for kind in ("weight", "bias"):
                qkv = tuple(f"{them}self_attn.{part}_proj.{kind}" for part in "qkv")
                rows.append(Row(f"{us}attention.qkv.{kind}", qkv))
                if side == "decoder":
                    kv = tuple(f"{them}encoder_attn.{part}_proj.{kind}" for part in "kv")
                    rows.append(Row(f"{us}source_attention.kv.{kind}", kv))
                rows += [Row(f"{us}{o}.{kind}", (f"{them}{t}.{kind}",)) for o, t in names.items()]
    return rows


def config_to_ours(theirs: dict[str, Any]) -> EncoderDecoderConfig:
    """Sizes out of a config.json. Raises CheckpointError for what this family does not do."""
    refuse_unless(
        theirs,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        decoder_layers=theirs["encoder_layers"],
        decoder_attention_heads=theirs["encoder_attention_heads"],
        decoder_ffn_dim=theirs["encoder_ffn_dim"],
        decoder_vocab_size=theirs["vocab_size"],
    )
    return EncoderDecoderConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        n_layers=theirs["encoder_layers"],
        n_heads=theirs["encoder_attention_heads"],
        d_model=theirs["d_model"],
        d_ff=theirs["encoder_ffn_dim"],
    )


def config_to_theirs(ours: EncoderDecoderConfig) -> dict[str, Any]:
    both_sides = {
        "layers": ours.n_layers,
        "attention_heads": ours.n_heads,
        "ffn_dim": ours.d_ff,
        "layerdrop": 0.0,
    }
    return {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "vocab_size": ours.vocab_size,
        "decoder_vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.context_length,
        "d_model": ours.d_model,
        **{f"{side}_{k}": v for side in ("encoder", "decoder") for k, v in both_sides.items()},
        "activation_function": "relu",
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "dropout": ours.dropout,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "forced_eos_token_id": None,
    }


FAMILY = Family(
    "marian", "MarianMTModel", EncoderDecoder, table, config_to_ours, config_to_theirs, tidy
)
