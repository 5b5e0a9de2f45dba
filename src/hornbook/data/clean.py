"""Text freed of mark-up: tags out, entities read, white space put in order. Twice is as once."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from html import unescape

# Tags by name, so that "a < b and c > d" stays what it is.
_INLINE = "a|abbr|acronym|b|bdi|bdo|big|cite|code|data|del|dfn|em|font|i|img|ins|kbd|label|mark|q"
_INLINE += "|rp|rt|ruby|s|samp|small|span|strike|strong|sub|sup|time|tt|u|var|wbr"
_BLOCK = "address|article|aside|blockquote|body|br|button|canvas|caption|center|col|colgroup|dd"
_BLOCK += "|details|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|head|header|hr|html"
_BLOCK += "|iframe|input|legend|li|link|main|meta|nav|ol|optgroup|option|p|picture|pre|section"
_BLOCK += "|select|source|summary|table|tbody|td|textarea|tfoot|th|thead|title|tr|ul|video"
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style|noscript|template)\b.*?</\1\s*>", re.S | re.I)
_BLOCK_TAG = re.compile(rf"</?(?:{_BLOCK})(?:\s[^<>]*)?/?>|<!doctype[^<>]*>", re.I)
_INLINE_TAG = re.compile(rf"</?(?:{_INLINE})(?:\s[^<>]*)?/?>", re.I)
_SPACES = re.compile(r"[^\S\n]+")
_LINE_ENDS = re.compile(r" ?\n ?")
_MANY_LINES = re.compile(r"\n{3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200b\u2060\ufeff]")


def clean_text(text: str) -> str:
    """Strip HTML, read entities ("&amp;amp;" to the end), normalise (NFC), tidy white space.

    What ends a block in a page ends a line; at most one empty line stays between two others. White
    space at the beginning of lines goes too: not for source code.
    """
    while (cleaned := _once(text)) != text:
        text = cleaned
    return text


def _once(text: str) -> str:
    text = _UNSEEN.sub(" ", text)
    text = _INLINE_TAG.sub("", _BLOCK_TAG.sub("\n", text))
    text = unescape(text).replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    text = _LINE_ENDS.sub("\n", _SPACES.sub(" ", text))
    return _MANY_LINES.sub("\n\n", text).strip()


def holds_any(words: Iterable[str]) -> Callable[[str], bool]:
    """Whether a text holds one of these words or phrases as such, in any case of letters."""
    choices = "|".join(re.escape(word) for word in words)
    found = re.compile(rf"(?<!\w)(?:{choices})(?!\w)", re.I)
    return lambda text: found.search(text) is not None
