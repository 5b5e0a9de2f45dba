"""Tokens to text while they come: whole characters only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hornbook.text.tokenizer import Tokenizer

_BROKEN = "\N{REPLACEMENT CHARACTER}"


def text_pieces(
    tokens: Iterable[int], tokenizer: Tokenizer, *, before: Sequence[int] = ()
) -> Iterator[str]:
    """The text that each token adds, later where a character is not complete yet.

    before: tokens of the prompt, which decide about spaces; their text is not given again. What
    stays broken at the end is given as it is.
    """
    ids = list(before)
    told = len(tokenizer.decode(ids))
    for token in tokens:
        ids.append(token)
        text = tokenizer.decode(ids)
        if text.endswith(_BROKEN):  # perhaps the first bytes of a character
            continue
        if text[told:]:
            yield text[told:]
        told = len(text)
    rest = tokenizer.decode(ids)[told:]
    if rest:
        yield rest
