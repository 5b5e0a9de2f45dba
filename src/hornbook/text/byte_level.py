"""Text as words of bytes: what GPT-2 does to a text before its merges see it.

A text is cut into words by GPT-2's pattern (a contraction, letters, digits, or other signs, each
with the space before it; spaces at a line's end by themselves):

    's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+

Each word then becomes its UTF-8 bytes, and each byte a printable character, so that a vocabulary
can be read: " the" is "Ġthe", "é" is "Ã©". Nothing is lost and no character is unknown. The pattern
runs in the `tokenizers` library, as Python's `re` knows neither \\p{L} nor this idea of a space.

Source: Radford et al. 2019, section 2.2, and encoder.py of openai/gpt-2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from tokenizers import Tokenizer as RustTokenizer
from tokenizers import decoders, pre_tokenizers

_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]

# The 256 bytes in GPT-2's order: those that print as themselves, then the rest as chr(256), ...
CHARACTER_OF = {byte: chr(byte) for byte in _PRINTABLE}
CHARACTER_OF |= {byte: chr(256 + i) for i, byte in enumerate(_OTHERS)}
BYTE_OF = {character: byte for byte, character in CHARACTER_OF.items()}
ALPHABET = sorted(BYTE_OF)

_splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)


def words(text: str) -> list[str]:
    """The words of a text, in byte characters: "to be" -> ["to", "Ġbe"]."""
    return [word for word, _ in _splitter.pre_tokenize_str(text)]


def count_words(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs: all that the training of a vocabulary needs to know."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(words(text))
    return counts


def text_of(spelled: str) -> str:
    """Byte characters back to text; bytes that are no UTF-8 become U+FFFD."""
    return bytes(BYTE_OF[character] for character in spelled).decode("utf-8", errors="replace")


def byte_level(rust: RustTokenizer) -> RustTokenizer:
    """Give a model of the `tokenizers` library this way from text to words and back."""
    rust.pre_tokenizer = _splitter
    rust.decoder = decoders.ByteLevel()
    return rust
