"""A real model with random weights, which reads and writes bytes, behind a server."""

from __future__ import annotations

import torch
from fake_batch import byte_tokenizer

from hornbook.bundle import Bundle
from hornbook.generation.batch import Batch
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.serving.served import Served
from hornbook.text.chat_template import ChatTemplate

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def add_tiny_model(served: Served) -> None:
    """Serve it as "tiny"."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=512,
        d_model=32,
        d_ff=64,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
    )
    batch = Batch(Bundle(Llama(config), tokenizer, "llama"), n_slots=4)
    served.add_writer(
        "tiny",
        batch,
        tokenizer,
        template=ChatTemplate(TEMPLATE),
        stop_tokens=frozenset({tokenizer.id_of("<|im_end|>")}),
        context_length=batch.context_length,
    )
