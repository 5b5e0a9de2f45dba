"""The modern encoder's names in transformers' checkpoints (`ModernBertForMaskedLM`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from hornbook.errors import CheckpointError
from hornbook.interop.names import Family, Row, refuse_unless, rotary_base, under, without_copies
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.tasks.masked_lm import MaskedLM

PREFIX = "model."
COPIES = {"decoder.weight": f"{PREFIX}embeddings.tok_embeddings.weight"}
WITH_ALIBI = "hornbook-modernbert-alibi"  # which transformers has not, and is not to open wrongly
FAR, NEAR = "full_attention", "sliding_attention"

_LAYER = {
    "norm_1": "attn_norm",
    "attention.qkv": "attn.Wqkv",
    "attention.out": "attn.Wo",
    "norm_2": "mlp_norm",
    "feed_forward.gate_up": "mlp.Wi",
    "feed_forward.down": "mlp.Wo",
}
_HEAD = {"dense.weight": "head.dense.weight", "norm.weight": "head.norm.weight"}


def table(config: ModernBertConfig) -> list[Row]:
    """Rows for the encoder alone. Its first layer has no norm."""
    rows = [
        Row("tokens.weight", ("embeddings.tok_embeddings.weight",)),
        Row("norm_0.weight", ("embeddings.norm.weight",)),
        Row("norm.weight", ("final_norm.weight",)),
    ]
    for i in range(config.n_layers):
        rows += [
            Row(f"blocks.{i}.{ours}.weight", (f"layers.{i}.{theirs}.weight",))
            for ours, theirs in _LAYER.items()
            if i > 0 or ours != "norm_1"
        ]
    return rows


def masked_lm_table(config: ModernBertConfig) -> list[Row]:
    rows = under("trunk.", table(config), PREFIX)
    rows += [Row(f"head.{ours}", (theirs,)) for ours, theirs in _HEAD.items()]
    return [*rows, Row("head.bias", ("decoder.bias",))]


def encoder_only(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's names without prefix."""
    return {
        name.removeprefix(PREFIX): tensor
        for name, tensor in weights.items()
        if not name.startswith(("head.", "decoder.", "classifier."))
    }


def config_to_ours(theirs: dict[str, Any]) -> ModernBertConfig:
    """Sizes out of a config.json. Raises CheckpointError for what this family does not do."""
    wanted = {"hidden_activation": "gelu", "classifier_activation": "gelu", "decoder_bias": True}
    biases = ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")
    refuse_unless(theirs, **wanted, **dict.fromkeys(biases, False))
    n_layers = theirs["num_hidden_layers"]
    ropes = theirs.get("rope_parameters") or {
        FAR: {"rope_theta": theirs.get("global_rope_theta", 160000.0)},
        NEAR: {"rope_theta": theirs.get("local_rope_theta") or 10000.0},
    }
    kinds = theirs.get("layer_types")
    positions = "alibi" if theirs.get("model_type") == WITH_ALIBI else "rotary"
    every = theirs.get("global_attn_every_n_layers") or _every(kinds, n_layers)
    config = ModernBertConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        n_layers=n_layers,
        n_heads=theirs["num_attention_heads"],
        d_model=theirs["hidden_size"],
        d_ff=theirs["intermediate_size"],
        window=theirs["local_attention"] // 2,
        global_every=every,
        rotary_base=rotary_base({"rope_parameters": ropes[FAR]}),
        rotary_base_in_window=rotary_base({"rope_parameters": ropes[NEAR]}),
        norm_epsilon=theirs["norm_eps"],
        positions=positions,
    )
    if kinds is not None and kinds != _kinds(config):
        raise CheckpointError(
            f"layer_types is {kinds}, not {_kinds(config)}",
            hint="Here every n-th layer looks at the whole document, from the first on.",
        )
    return config


def _every(kinds: list[str] | None, n_layers: int) -> int:
    """The distance from the first layer that looks far to the second."""
    later = [i for i in range(1, n_layers) if kinds is None or kinds[i] == FAR]
    return (3 if kinds is None else later[0]) if later else n_layers


def _kinds(config: ModernBertConfig) -> list[str]:
    return [FAR if config.looks_far(i) else NEAR for i in range(config.n_layers)]


def config_to_theirs(ours: ModernBertConfig) -> dict[str, Any]:
    ropes = {FAR: ours.rotary_base, NEAR: ours.rotary_base_in_window}
    return {
        "architectures": ["ModernBertForMaskedLM"],
        "model_type": WITH_ALIBI if ours.positions == "alibi" else "modernbert",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.context_length,
        "num_hidden_layers": ours.n_layers,
        "num_attention_heads": ours.n_heads,
        "hidden_size": ours.d_model,
        "intermediate_size": ours.d_ff,
        "local_attention": 2 * ours.window,
        "layer_types": _kinds(ours),
        "global_attn_every_n_layers": ours.global_every,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base} for kind, base in ropes.items()
        },
        "global_rope_theta": ours.rotary_base,
        "local_rope_theta": ours.rotary_base_in_window,
        "norm_eps": ours.norm_epsilon,
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "decoder_bias": True,
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": None,
        "cls_token_id": None,
        "sep_token_id": None,
        "pad_token_id": None,
    }


ENCODER = Family(
    "modernbert",
    "ModernBertModel",
    ModernBert,
    table,
    config_to_ours,
    config_to_theirs,
    encoder_only,
)
MASKED_LM = Family(
    "modernbert",
    "ModernBertForMaskedLM",
    lambda config: MaskedLM(ModernBert(config)),
    masked_lm_table,
    config_to_ours,
    config_to_theirs,
    lambda weights: without_copies(weights, COPIES),
)
# The same weights with ALiBi, in folders that transformers refuses.
ALIBI = tuple(replace(family, model_type=WITH_ALIBI) for family in (MASKED_LM, ENCODER))
