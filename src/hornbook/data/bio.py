"""Entities as tags of words: B-person begins one, I-person goes on with it, O is outside of all.

Files write it in several ways: BIO (IOB2); IOB1, where I- also begins an entity; BIOES and BILOU,
which mark last and single words. All are read as BIO, the way conlleval and seqeval score them: an
I- that goes on with nothing begins.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from hornbook.errors import DataError

Kind = Literal["entities", "plain"]
OUTSIDE = "O"

_TAG = re.compile(r"[BIESLUM]-.+", re.DOTALL)
# What was meant as BIO and is not: another separator, the letter at the end or small, no type.
_NEARLY = re.compile(r"[BIESLUbi][_:/.|].+|.+[-_:/|][BIO]|[bio]-.+|[BI]-?")


class Span(NamedTuple):
    """An entity: words [start, end) and its type."""

    start: int
    end: int
    label: str


def is_bio(tag: str) -> bool:
    """Whether a tag is O or of a form such as B-person."""
    return tag == OUTSIDE or bool(_TAG.fullmatch(tag))


def kind_of(tags: Iterable[tuple[str, str]]) -> Kind:
    """Whether tags mark entities, or are plain, as parts of speech are.

    tags: each with its place, for errors. Raises DataError for a form of BIO that is none of those
    known, and for plain tags among BIO's.
    """
    places: dict[str, str] = {}
    for tag, place in tags:
        places.setdefault(tag, place)
    entities = [tag for tag in places if _TAG.fullmatch(tag)]
    others = [tag for tag in places if tag != OUTSIDE and not _TAG.fullmatch(tag)]
    nearly = [tag for tag in others if _NEARLY.fullmatch(tag)]
    if nearly and (OUTSIDE in places or entities):
        tag = nearly[0]
        raise DataError(
            f"{places[tag]}: the tag '{tag}' is no form of BIO known here",
            hint="Write B-person, I-person, O (or BIOES, BILOU): a capital, a hyphen, the type.",
        )
    if entities and others:
        raise DataError(
            f"{places[others[0]]}: the tag '{others[0]}' has no B- or I-, while others have "
            f"('{entities[0]}' at {places[entities[0]]})",
            hint="Is this the right column? Tags are either all of BIO's form, or all plain.",
        )
    return "entities" if entities or places.keys() == {OUTSIDE} else "plain"


def as_bio(tags: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Tags of any known form as BIO, and how many were changed, by why."""
    changed: Counter[str] = Counter()
    bio = []
    before = OUTSIDE
    for tag in tags:
        if tag != OUTSIDE:
            letter, _, label = tag.partition("-")
            inside = letter in "IELM" and before in (f"B-{label}", f"I-{label}")
            if letter == "I" and not inside:
                changed["orphan"] += 1
            elif letter not in "BI":
                changed["form"] += 1
            tag = f"{'I' if inside else 'B'}-{label}"
        before = tag
        bio.append(tag)
    return bio, changed


def repairs(changed: Counter[str], n_tags: int) -> list[str]:
    """Sentences on what `as_bio` changed, for the reader."""
    notes = []
    if n := changed["form"]:
        notes.append(f"{n:,} tags of BIOES or BILOU (E-, S-, L-, U-) were read as BIO.")
    if n := changed["orphan"]:
        notes.append(
            f"{n:,} of {n_tags:,} tags are an I- that goes on with no entity of its type: each was "
            "read as B-, as seqeval and conlleval do."
        )
    return notes


def spans(tags: Sequence[str]) -> list[Span]:
    """The entities in tags, which may be a model's: an I- that goes on with nothing begins."""
    found: list[Span] = []
    start = 0
    label = ""
    for i, tag in enumerate([*tags, OUTSIDE]):
        letter, _, its = tag.partition("-")
        if label and (letter != "I" or its != label):
            found.append(Span(start, i, label))
            label = ""
        if tag != OUTSIDE and not label:
            start, label = i, its
    return found


def labels(tags: Iterable[str], kind: Kind) -> tuple[str, ...]:
    """The outputs of a head for these tags: of entities O, then B- and I- of every type."""
    if kind == "plain":
        return tuple(sorted(set(tags)))
    types = sorted({tag.partition("-")[2] for tag in tags} - {""})
    return (OUTSIDE, *(f"{letter}-{name}" for name in types for letter in "BI"))
