"""GGUF's names for Llama and GPT-2: of tensors, and of what config.json says.

A file becomes a config and weights under the names that transformers gives them, and the way back;
from there on it is a model as any other of its family. Queries and keys of a Llama are the one
thing that is not only named otherwise: there each pair of features that turns together are
neighbours, here they are half a head apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from hornbook.errors import CheckpointError
from hornbook.interop.gguf_file import GGUFFile
from hornbook.interop.names import llama
from hornbook.nn.rotary import Stretch, speeds_of

# GGUF: transformers; {i} is the number of the layer.
_LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{i}.attn_norm": "model.layers.{i}.input_layernorm",
    "blk.{i}.attn_q": "model.layers.{i}.self_attn.q_proj",
    "blk.{i}.attn_k": "model.layers.{i}.self_attn.k_proj",
    "blk.{i}.attn_v": "model.layers.{i}.self_attn.v_proj",
    "blk.{i}.attn_output": "model.layers.{i}.self_attn.o_proj",
    "blk.{i}.ffn_norm": "model.layers.{i}.post_attention_layernorm",
    "blk.{i}.ffn_gate": "model.layers.{i}.mlp.gate_proj",
    "blk.{i}.ffn_up": "model.layers.{i}.mlp.up_proj",
    "blk.{i}.ffn_down": "model.layers.{i}.mlp.down_proj",
}
_GPT2 = {
    "token_embd": "wte",
    "position_embd": "wpe",
    "output_norm": "ln_f",
    "output": "lm_head",
    "blk.{i}.attn_norm": "h.{i}.ln_1",
    "blk.{i}.attn_qkv": "h.{i}.attn.c_attn",
    "blk.{i}.attn_output": "h.{i}.attn.c_proj",
    "blk.{i}.ffn_norm": "h.{i}.ln_2",
    "blk.{i}.ffn_up": "h.{i}.mlp.c_fc",
    "blk.{i}.ffn_down": "h.{i}.mlp.c_proj",
}
SLOWED = "rope_freqs.weight"
LLAMA_3 = Stretch(factor=8.0, slow=1.0, fast=4.0, first_context=8192)
NAMES = {"llama": _LLAMA, "gpt2": _GPT2}
# What says a size, in the file under "llama." or "gpt2.", and in config.json.
_SIZES = {
    "llama": {
        "context_length": "max_position_embeddings",
        "block_count": "num_hidden_layers",
        "embedding_length": "hidden_size",
        "feed_forward_length": "intermediate_size",
        "attention.head_count": "num_attention_heads",
        "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    },
    "gpt2": {
        "context_length": "n_positions",
        "block_count": "n_layer",
        "embedding_length": "n_embd",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
        "attention.layer_norm_epsilon": "layer_norm_epsilon",
    },
}


def config(file: GGUFFile) -> dict[str, Any]:
    """What a config.json would say. Raises CheckpointError for another family, missing sizes, and
    what these families do not do."""
    family = file["general.architecture"]
    if family not in NAMES:
        raise CheckpointError(
            f"{file.path} holds a model of the family '{family}'",
            hint=f"Of GGUF files these families are read: {', '.join(NAMES)}.",
        )
    theirs = {name: _short(file[f"{family}.{key}"]) for key, name in _SIZES[family].items()}
    if (n_layers := file[f"{family}.block_count"]) > len(file.tensors):
        raise CheckpointError(
            f"{file.path} gives {n_layers:,} layers to {len(file.tensors):,} tensors",
            hint="It is damaged: fetch it again.",
        )
    theirs |= {"model_type": family, "vocab_size": file.shape("token_embd.weight")[0]}
    if family == "gpt2":
        return theirs
    heads = theirs["num_attention_heads"]
    if not isinstance(heads, int):
        raise CheckpointError(f"{file.path} has heads by layer", hint="Here all have as many.")
    return theirs | {
        "num_key_value_heads": file.fields.get("llama.attention.head_count_kv", heads),
        "head_dim": file.fields.get("llama.rope.dimension_count"),
        "rope_parameters": _rope(file, theirs),
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }


def weights(file: GGUFFile, theirs: Mapping[str, Any]) -> dict[str, Tensor]:
    """All tensors under transformers' names, as float32. theirs: what `config` gave."""
    family = theirs["model_type"]
    names = _all_names(family, theirs)
    found, embedding = {}, file.tensors["token_embd.weight"]
    for name, stored in file.tensors.items():
        stem, _, kind = name.rpartition(".")
        if name == SLOWED:
            continue  # `config` has read it
        if family == "gpt2" and stem == "output" and stored.kind is not embedding.kind:
            continue  # the embedding once more, as GPT-2's head is, kept in another way
        tensor = file.tensor(name)
        if family == "llama" and stem.endswith((".attn_q", ".attn_k")):
            tensor = half_apart(tensor, heads_of(stem, theirs))
        if family == "gpt2" and stem.startswith("blk.") and tensor.ndim == 2:
            tensor = tensor.T
        found[f"{names.get(stem, stem)}.{kind}"] = tensor
    return found


def to_gguf(theirs: Mapping[str, Any], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The way back: transformers' tensors under GGUF's names."""
    family = theirs["model_type"]
    names = {name: stem for stem, name in _all_names(family, theirs).items()}
    found = {}
    for name, tensor in weights.items():
        bare, _, kind = name.rpartition(".")
        stem = names[bare]
        if family == "llama" and stem.endswith((".attn_q", ".attn_k")):
            tensor = neighbours(tensor, heads_of(stem, theirs))
        if family == "gpt2" and stem.startswith("blk.") and tensor.ndim == 2:
            tensor = tensor.T
        found[f"{stem}.{kind}"] = tensor.contiguous()
    if family == "llama" and (stretch := llama.config_to_ours(dict(theirs)).rotary_stretch):
        speeds = speeds_of(
            theirs["hidden_size"] // theirs["num_attention_heads"], theirs["rope_theta"]
        )
        found[SLOWED] = speeds / stretch(speeds)
    return found


def sizes(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What a GGUF file says of a config.json: fields and their values."""
    family = theirs["model_type"]
    found = {f"{family}.{key}": theirs[name] for key, name in _SIZES[family].items()}
    if family == "llama":
        found |= {
            "llama.attention.head_count_kv": theirs["num_key_value_heads"],
            "llama.rope.dimension_count": theirs["hidden_size"] // theirs["num_attention_heads"],
            "llama.rope.freq_base": float(theirs["rope_theta"]),
        }
    return found


def half_apart(rows: Tensor, n_heads: int) -> Tensor:
    """Pairs of features that turn together, from neighbours to half a head apart: (H*D, E)."""
    return rows.view(n_heads, -1, 2, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


def neighbours(rows: Tensor, n_heads: int) -> Tensor:
    """The way back."""
    return rows.view(n_heads, 2, -1, rows.shape[-1]).transpose(1, 2).reshape(rows.shape)


def heads_of(stem: str, theirs: Mapping[str, Any]) -> int:
    keys = stem.endswith("attn_k")
    return theirs["num_key_value_heads" if keys else "num_attention_heads"]


def _all_names(family: str, theirs: Mapping[str, Any]) -> dict[str, str]:
    n_layers = theirs["num_hidden_layers" if family == "llama" else "n_layer"]
    return {
        stem.format(i=i): name.format(i=i)
        for stem, name in NAMES[family].items()
        for i in range(n_layers)
    }


def _short(value: Any) -> Any:
    """1e-05, where a float32 of it reads 9.999999747378752e-06."""
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _rope(file: GGUFFile, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary angles as config.json has them.

    A file has no numbers of a stretch, only by how much each pair is slowed. Raises CheckpointError
    for slowings that aren't those of Llama 3.1 and its like, and for other ways of scaling.
    """
    base = _short(file.fields.get("llama.rope.freq_base", 10000.0))
    scaling = file.fields.get("llama.rope.scaling.type", "none")
    if scaling == "none" and SLOWED not in file.tensors:
        return {"rope_type": "default", "rope_theta": base}
    if scaling == "none":
        slowed = file.tensor(SLOWED)
        speeds = speeds_of(theirs["hidden_size"] // theirs["num_attention_heads"], base)
        found = replace(LLAMA_3, factor=_short(float(slowed.max())))
        if slowed.shape == speeds.shape and torch.allclose(
            speeds / found(speeds), slowed, rtol=1e-3
        ):
            return llama.rope_parameters(base, found)
    raise CheckpointError(
        f"{file.path} stretches its rotary positions in an unknown way (scaling {scaling})",
        hint="Its weights would load and give other logits. Use the library that made it.",
    )
