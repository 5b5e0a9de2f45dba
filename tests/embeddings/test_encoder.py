"""The real MiniLM through our encoder gives sentence-transformers' vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hornbook.embeddings.encoder import TextEncoder
from hornbook.errors import ConfigError
from hornbook.nn.precision import Precision

TEXTS = [
    "The central bank raised interest rates by half a point.",
    "Wheat exports fell sharply in the first quarter.",
    "x",
    "",
    "Ein Satz mit Umlauten: schöne Grüße aus Köln, naïve café — and 漢字.",
    "long " * 400,
]


def _reference(folder, texts: list[str]) -> np.ndarray:
    """What sentence-transformers computes: transformers' BERT, mean over the mask, length 1."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    batch = tokenizer(texts, padding=True, truncation=True, max_length=limit, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    mean = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(mean, dim=-1).numpy()


def test_float32_equals_the_reference(minilm):
    encoder = TextEncoder.open("minilm", precision=Precision("cpu", "float32", "test"))
    got, expected = encoder.encode(TEXTS), _reference(minilm, TEXTS)
    assert (got * expected).sum(1).min() > 0.9999
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_bfloat16_stays_close(minilm):
    exact = TextEncoder.open("minilm", precision=Precision("cpu", "float32", "test"))
    rounded = TextEncoder.open("minilm", precision=Precision("cpu", "bfloat16", "test"))
    assert (exact.encode(TEXTS) * rounded.encode(TEXTS)).sum(1).min() > 0.999


def test_a_text_does_not_depend_on_its_batch(minilm):
    encoder = TextEncoder.open("minilm", precision=Precision("cpu", "float32", "test"))
    together = encoder.encode(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)


def test_sentence_transformers_agrees(minilm):
    library = pytest.importorskip("sentence_transformers")
    theirs = library.SentenceTransformer(str(minilm), device="cpu").encode(TEXTS)
    ours = TextEncoder.open("minilm", precision=Precision("cpu", "float32", "test")).encode(TEXTS)
    assert (theirs * ours).sum(1).min() > 0.9999


def test_int8_stays_close_and_says_what_multiplies(minilm):
    exact = TextEncoder.open("minilm", precision="float32")
    rounded = TextEncoder.open("minilm", precision="int8")
    cosines = (exact.encode(TEXTS[:5]) * rounded.encode(TEXTS[:5])).sum(1)
    assert cosines.min() > 0.997 and cosines.max() < 0.999999
    assert rounded.kernel is not None and "products" in rounded.kernel.reason


def test_an_unknown_precision_is_refused(minilm):
    with pytest.raises(ConfigError, match="precision is 'int4'"):
        TextEncoder.open("minilm", precision="int4")
