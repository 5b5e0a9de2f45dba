"""Llama's names in transformers' checkpoints (`LlamaForCausalLM`)."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from torch import Tensor

from hornbook.interop.names import Family, Row, refuse_unless, rotary_base
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.rotary import Stretch

_LAYER = {
    "norm_1": "input_layernorm",
    "attention.out": "self_attn.o_proj",
    "norm_2": "post_attention_layernorm",
    "feed_forward.down": "mlp.down_proj",
}

# What transformers calls the parts of a stretch, in their order.
_STRETCH = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")


def tidy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the angles that old versions saved."""
    return {name: t for name, t in weights.items() if not name.endswith(".rotary_emb.inv_freq")}


def copies(config: LlamaConfig) -> dict[str, str]:
    """A tied head that was saved once more."""
    return {"lm_head.weight": "model.embed_tokens.weight"} if config.tied_head else {}


def table(config: LlamaConfig) -> list[Row]:
    """Rows for the whole model."""
    n_kv_heads = config.n_kv_heads or config.n_heads
    shares = (config.n_heads, n_kv_heads, n_kv_heads)
    rows = [
        Row("tokens.weight", ("model.embed_tokens.weight",)),
        Row("norm.weight", ("model.norm.weight",)),
    ]
    if not config.tied_head:
        rows.append(Row("head.weight", ("lm_head.weight",)))
    for i in range(config.n_layers):
        us, them = f"blocks.{i}.", f"model.layers.{i}."
        qkv = tuple(f"{them}self_attn.{part}_proj.weight" for part in "qkv")
        gate_up = tuple(f"{them}mlp.{part}_proj.weight" for part in ("gate", "up"))
        rows.append(Row(f"{us}attention.qkv.weight", qkv, shares=shares))
        rows.append(Row(f"{us}feed_forward.gate_up.weight", gate_up))
        rows += [Row(f"{us}{o}.weight", (f"{them}{t}.weight",)) for o, t in _LAYER.items()]
    return rows


def config_to_ours(theirs: dict[str, Any]) -> LlamaConfig:
    """Sizes out of a config.json. Raises CheckpointError for what this family does not do."""
    d_model, n_heads = theirs["hidden_size"], theirs["num_attention_heads"]
    if theirs.get("head_dim") is not None:
        refuse_unless(theirs, head_dim=d_model // n_heads)
    refuse_unless(theirs, hidden_act="silu", attention_bias=False, mlp_bias=False)
    rope = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    stretch = None
    if rope.get("rope_type", rope.get("type")) == "llama3":
        stretch = Stretch(*(rope[name] for name in _STRETCH))
        rope = {"rope_theta": rope.get("rope_theta")}
    return LlamaConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        n_layers=theirs["num_hidden_layers"],
        n_heads=n_heads,
        n_kv_heads=theirs.get("num_key_value_heads") or n_heads,
        d_model=d_model,
        d_ff=theirs["intermediate_size"],
        rotary_base=rotary_base(theirs | {"rope_parameters": rope, "rope_scaling": None}),
        rotary_stretch=stretch,
        norm_epsilon=theirs["rms_norm_eps"],
        tied_head=theirs.get("tie_word_embeddings", False),
    )


def config_to_theirs(ours: LlamaConfig) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.context_length,
        "num_hidden_layers": ours.n_layers,
        "num_attention_heads": ours.n_heads,
        "num_key_value_heads": ours.n_kv_heads or ours.n_heads,
        "hidden_size": ours.d_model,
        "intermediate_size": ours.d_ff,
        "rope_theta": ours.rotary_base,
        "rope_parameters": rope_parameters(ours.rotary_base, ours.rotary_stretch),
        "rms_norm_eps": ours.norm_epsilon,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": ours.tied_head,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def rope_parameters(base: float, stretch: Stretch | None) -> dict[str, Any]:
    """What config.json says of rotary angles."""
    if stretch is None:
        return {"rope_type": "default", "rope_theta": base}
    return {"rope_type": "llama3", "rope_theta": base} | dict(zip(_STRETCH, astuple(stretch)))


FAMILY = Family(
    "llama",
    "LlamaForCausalLM",
    Llama,
    table,
    config_to_ours,
    config_to_theirs,
    tidy,
    copies=copies,
)
