"""GPT-2's names in transformers' checkpoints (`GPT2Model`); its matrices are stored transposed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hornbook.interop.names import Family, Row, refuse_unless, without_copies
from hornbook.models.gpt import GPT, GPTConfig

PREFIX = "transformer."
COPIES = {"lm_head.weight": "wte.weight"}
BUFFERS = (".attn.bias", ".attn.masked_bias")  # causal masks that old versions saved

_LAYER = {
    "norm_1": ("ln_1", False),
    "attention.qkv": ("attn.c_attn", True),
    "attention.out": ("attn.c_proj", True),
    "norm_2": ("ln_2", False),
    "feed_forward.up": ("mlp.c_fc", True),
    "feed_forward.down": ("mlp.c_proj", True),
}


def tidy(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's own files have neither prefix nor head; others have both."""
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    bare = {name: tensor for name, tensor in bare.items() if not name.endswith(BUFFERS)}
    return without_copies(bare, COPIES)


def table(n_layers: int) -> list[Row]:
    """Rows for the whole model; its head is the token embedding."""
    rows = [Row("tokens.weight", ("wte.weight",)), Row("positions.weight", ("wpe.weight",))]
    for kind in ("weight", "bias"):
        rows.append(Row(f"norm.{kind}", (f"ln_f.{kind}",)))
        for i in range(n_layers):
            rows += [
                Row(
                    f"blocks.{i}.{ours}.{kind}",
                    (f"h.{i}.{theirs}.{kind}",),
                    flip and kind == "weight",
                )
                for ours, (theirs, flip) in _LAYER.items()
            ]
    return rows


def config_to_ours(theirs: dict[str, Any]) -> GPTConfig:
    """Sizes out of a config.json. Raises CheckpointError for what this family does not do."""
    refuse_unless(
        theirs,
        activation_function="gelu_new",
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        tie_word_embeddings=True,
    )
    return GPTConfig(
        vocab_size=theirs["vocab_size"],
        context_length=theirs["n_positions"],
        n_layers=theirs["n_layer"],
        n_heads=theirs["n_head"],
        d_model=theirs["n_embd"],
        d_ff=theirs.get("n_inner") or 4 * theirs["n_embd"],
        norm_epsilon=theirs["layer_norm_epsilon"],
    )


def config_to_theirs(ours: GPTConfig) -> dict[str, Any]:
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": ours.vocab_size,
        "n_positions": ours.context_length,
        "n_layer": ours.n_layers,
        "n_head": ours.n_heads,
        "n_embd": ours.d_model,
        "n_inner": ours.d_ff,
        "layer_norm_epsilon": ours.norm_epsilon,
        "activation_function": "gelu_new",
        "bos_token_id": None,
        "eos_token_id": None,
    }


FAMILY = Family(
    "gpt2",
    "GPT2LMHeadModel",
    GPT,
    lambda config: table(config.n_layers),
    config_to_ours,
    config_to_theirs,
    tidy,
    also=("GPT2Model",),
)
