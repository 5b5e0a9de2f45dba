"""Shared by the tests of tasks."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer as RustTokenizer
from tokenizers.decoders import ByteLevel as Decoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from hornbook.text.byte_level import ALPHABET
from hornbook.text.tokenizer import END_OF_TEXT, Tokenizer


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """A byte a token, and the end of a text."""
    rust = RustTokenizer(BPE({letter: i for i, letter in enumerate(ALPHABET)}, []))
    rust.pre_tokenizer, rust.decoder = ByteLevel(add_prefix_space=False), Decoder()
    rust.add_special_tokens([END_OF_TEXT])
    return Tokenizer(rust)
