"""Models, one family a file: config, parts, block, model. What a network computes, no more.

Decoders offer forward(tokens, layout) -> hidden and logits(hidden); encoders offer hidden states
and, by `masked_lm_head()`, a head; the encoder-decoder reads a source and a target. The n-gram
model counts (`ngram.fit`) and has no config.
"""

from __future__ import annotations

from hornbook.registry import Registry

MODELS = Registry(
    "model family",
    {
        "bigram": "hornbook.models.bigram:Bigram",
        "gpt": "hornbook.models.gpt:GPT",
        "modern-gpt": "hornbook.models.modern_gpt:ModernGPT",
        "llama": "hornbook.models.llama:Llama",
        "bert": "hornbook.models.bert:Bert",
        "modern-bert": "hornbook.models.modern_bert:ModernBert",
        "encoder-decoder": "hornbook.models.encoder_decoder:EncoderDecoder",
    },
)
CONFIGS = Registry(
    "model family",
    {
        "bigram": "hornbook.models.bigram:BigramConfig",
        "gpt": "hornbook.models.gpt:GPTConfig",
        "modern-gpt": "hornbook.models.modern_gpt:ModernGPTConfig",
        "llama": "hornbook.models.llama:LlamaConfig",
        "bert": "hornbook.models.bert:BertConfig",
        "modern-bert": "hornbook.models.modern_bert:ModernBertConfig",
        "encoder-decoder": "hornbook.models.encoder_decoder:EncoderDecoderConfig",
    },
)
