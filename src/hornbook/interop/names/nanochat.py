"""The modern GPT's names in transformers' checkpoints (`NanoChatForCausalLM`)."""

from __future__ import annotations

from typing import Any

from hornbook.interop.names import Family, Row, refuse_unless, rotary_base
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig

_LAYER = {
    "attention.out": "self_attn.o_proj",
    "feed_forward.up": "mlp.fc1",
    "feed_forward.down": "mlp.fc2",
}


def table(config: ModernGPTConfig) -> list[Row]:
    """Rows for the whole model; its norms have no weights."""
    n_kv_heads = config.n_kv_heads or config.n_heads
    shares = (config.n_heads, n_kv_heads, n_kv_heads)
    rows = [
        Row("tokens.weight", ("model.embed_tokens.weight",)),
        Row("head.weight", ("lm_head.weight",)),
    ]
    for i in range(config.n_layers):
        us, them = f"blocks.{i}.", f"model.layers.{i}."
        qkv = tuple(f"{them}self_attn.{part}_proj.weight" for part in "qkv")
        rows.append(Row(f"{us}attention.qkv.weight", qkv, shares=shares))
        rows += [Row(f"{us}{o}.weight", (f"{them}{t}.weight",)) for o, t in _LAYER.items()]
    return rows


def config_to_ours(theirs: dict[str, Any]) -> ModernGPTConfig:
    """Sizes out of a config.json. Raises CheckpointError for what this family does not do."""
    refuse_unless(theirs, hidden_act="relu2", attention_bias=False, tie_word_embeddings=False)
    return ModernGPTConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["max_position_embeddings"],
        n_layers=theirs["num_hidden_layers"],
        n_heads=theirs["num_attention_heads"],
        n_kv_heads=theirs["num_key_value_heads"],
        d_model=theirs["hidden_size"],
        d_ff=theirs["intermediate_size"],
        rotary_base=rotary_base(theirs),
        norm_epsilon=theirs["rms_norm_eps"],
        logit_cap=theirs["final_logit_softcapping"],
    )


def config_to_theirs(ours: ModernGPTConfig) -> dict[str, Any]:
    return {
        "architectures": ["NanoChatForCausalLM"],
        "model_type": "nanochat",
        "vocab_size": ours.vocab_size,
        "max_position_embeddings": ours.context_length,
        "num_hidden_layers": ours.n_layers,
        "num_attention_heads": ours.n_heads,
        "num_key_value_heads": ours.n_kv_heads or ours.n_heads,
        "hidden_size": ours.d_model,
        "intermediate_size": ours.d_ff,
        "rope_parameters": {"rope_type": "default", "rope_theta": ours.rotary_base},
        "rms_norm_eps": ours.norm_epsilon,
        "final_logit_softcapping": ours.logit_cap,
        "hidden_act": "relu2",
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


FAMILY = Family(
    "nanochat", "NanoChatForCausalLM", ModernGPT, table, config_to_ours, config_to_theirs
)
