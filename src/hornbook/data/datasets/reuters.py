"""Reuters-21578: stories of the Reuters newswire of 1987 with the topics its editors gave them.

The ModApte split (train: LEWISSPLIT="TRAIN", test: LEWISSPLIT="TEST", both with TOPICS="YES"), seen
through the 90 topics that have a story on each side, R90: 7,770 train and 3,019 test stories, a row
each, multi-label. Source: Apte, Damerau and Weiss 1994; Yang and Liu, SIGIR 1999; the collection's
README by D. D. Lewis.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from pathlib import Path

from hornbook import files
from hornbook.data.datasets import Card
from hornbook.data.examples import Document, Example, TextDataset
from hornbook.errors import DataError, DownloadError, UnavailableError

CARD = Card(
    name="reuters",
    summary="newswire stories by topic: 90 labels, several a story",
    size="10,789 texts (7,770 train, 3,019 test), 90 labels",
    source="Reuters-21578, Distribution 1.0 (D. D. Lewis; UCI KDD archive)",
    licence="research use only (Reuters Ltd. and Carnegie Group, Inc.)",
)

URLS = (
    "https://kdd.ics.uci.edu/databases/reuters21578/reuters21578.tar.gz",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/reuters21578-mld/reuters21578.tar.gz",
)
FOLDERS = ("reuters21578", "reuters")
DESCRIPTIONS = "cat-descriptions_120396.txt"
LARGEST_MEMBER = 4 << 20  # bytes; the largest file has 1.5 MB

# SHA-256 of the files as first published.
CHECKSUMS = {
    "reut2-000.sgm": "9ff9bb40624ef992a03f62aace12e697dca1087abfd9b4d06aa787a6ad3e0687",
    "reut2-001.sgm": "1528e7e82d110d88d0234eb9619eadb7f9fd805711971df05975b92277dfdf4d",
    "reut2-002.sgm": "99f18068d0518952987dedd78c622e5c2a584e357d264d3754696c815f3e6628",
    "reut2-003.sgm": "78a3a8d7e04bc9d42c4614d5d5c60a4293dbe3f708df6fb5a71d9ef31f4b3fa3",
    "reut2-004.sgm": "726342c19a65873330b412378cd6a3f0d512035f5223146ddd60930c62eb6ff0",
    "reut2-005.sgm": "d09de619b6dd2d047d5124681f6df90550abaf592020d1c1ce338ae9b91522e7",
    "reut2-006.sgm": "b5535c0d66b01f4976f84621a4a795afbc00d2c4bd0a1b7ae426df6630fb361d",
    "reut2-007.sgm": "aa706007ec84a03537a3921ca976d60e11b3f99e4b9e9b2d5c81dd384d2c2062",
    "reut2-008.sgm": "a3994583694a00b7c744097c1d7eabfcf90f2e6650cc21663e46828035a336cb",
    "reut2-009.sgm": "29995f606dd1a9bdf907eacc9d879846c716860d9d9141676979474aaea39c7d",
    "reut2-010.sgm": "996df6008089bd09fa5b28a4d2eb0ee5f7b9d4601cde566fed3926ac82960fa3",
    "reut2-011.sgm": "d3a2782015247d9c2bffb8926267827fdd449c70d619435ef01a25a1c56a53ca",
    "reut2-012.sgm": "da31035d483851f2aebce5b66d779e5e2c0ac9dcfe098596c6d544e81c5604ab",
    "reut2-013.sgm": "8f7700bc0455fac3fcc12377ced4807b7df8aba1f21ecad059b9cc2b1cf0b8be",
    "reut2-014.sgm": "ef936bd3e0f36cf722afa9a6957563549775af32e9e28b4f539c8737ceda83ab",
    "reut2-015.sgm": "6d3bcec73eff871b8a5403588af814c4e50a0de6bc25707480522ab836f74026",
    "reut2-016.sgm": "be2f03a185fff70131f3b4fdbd6229b7ee2be077eba9691eaa597c8cfbda8812",
    "reut2-017.sgm": "f370e610b4b1342e41a98e0c426a08541044bd1d7e539674f32372a6060b73b5",
    "reut2-018.sgm": "a5f971bf25448e915781962309e669359a35fbcaf3017a806eca0590897f209a",
    "reut2-019.sgm": "d3b07097fba2633d130b4914aceba671645985248943ce9e39c289315339dffb",
    "reut2-020.sgm": "f6ad1b724125c202566c63b35ea0b5ee23881f8b7ed47a32829d5af05d8e860d",
    "reut2-021.sgm": "3f5196d32869723c9042aa5756805b4e90360f1f45ea17f4594fa0e2b3630b18",
    DESCRIPTIONS: "70ae663742b7f94217c9dc8b2741a07c339fd272460f17523aed683b5ad7ee1f",
}
STORY_FILES = tuple(name for name in CHECKSUMS if name.endswith(".sgm"))

# Commodity codes that the collection leaves unexplained and that are no words.
ABBREVIATIONS = {
    "alum": "aluminium",
    "cpu": "capacity utilisation",
    "f-cattle": "feeder cattle",
    "hog": "hogs",
    "l-cattle": "live cattle",
    "lin-meal": "linseed meal",
    "lin-oil": "linseed oil",
    "meal-feed": "meal and feed",
    "rape-meal": "rapeseed meal",
    "rape-oil": "rapeseed oil",
    "soy-meal": "soybean meal",
    "soy-oil": "soybean oil",
    "sun-meal": "sunflower meal",
    "sun-oil": "sunflower oil",
    "sunseed": "sunflower seed",
    "veg-oil": "vegetable oil",
}

_STORY = re.compile(r"<REUTERS(?P<head>[^>]*)>(?P<inside>.*?)</REUTERS>", re.DOTALL)
_ATTRIBUTE = re.compile(r'(\w+)="([^"]*)"')
_TOPICS = re.compile(r"<TOPICS>(.*?)</TOPICS>", re.DOTALL)
_TEXT = re.compile(r"<TEXT[^>]*>(.*?)</TEXT>", re.DOTALL)
_PART = {
    part: re.compile(rf"<{part}>(.*?)</{part}>", re.DOTALL)
    for part in ("TITLE", "AUTHOR", "DATELINE", "BODY")
}
_CONTROL = re.compile(r"&#\d+;|[\x00-\x08\x0b-\x1f\x7f]")
_SIGNATURE = re.compile(r"\n\s*reuters?\s*$", re.IGNORECASE)


def load() -> TextDataset:
    """Read the collection from a data folder, or fetch it once from its public home.

    Raises UnavailableError where it is neither on the machine nor to be had, DataError where a
    folder holds only a part of it.
    """
    folder = _find() or _fetch(files.home() / "data" / FOLDERS[0])
    notes = []
    if changed := [n for n in STORY_FILES if files.sha256(folder / n) != CHECKSUMS[n]]:
        notes.append(
            f"{', '.join(changed)}: not as published (another SHA-256), so that counts and scores "
            "may differ from those of others."
        )
    split: dict[str, list[Example]] = {"TRAIN": [], "TEST": []}
    for name in STORY_FILES:
        for part, example in _stories((folder / name).read_text(encoding="latin-1")):
            split[part].append(example)
    train, test = split["TRAIN"], split["TEST"]
    shared = {t for e in train for t in e.labels} & {t for e in test for t in e.labels}
    n_stories = len(train), len(test)
    train, test = _within(train, shared), _within(test, shared)
    notes.append(
        f"ModApte split, R90: {len(train):,} of {n_stories[0]:,} train and {len(test):,} of "
        f"{n_stories[1]:,} test stories carry one of the {len(shared)} topics found on both sides; "
        "the others are left out."
    )
    return TextDataset(
        name="reuters",
        train=train,
        test=test,
        multi_label=True,
        source=CARD.source,
        licence=CARD.licence,
        notes=notes,
        label_descriptions=_descriptions(folder / DESCRIPTIONS, shared),
    )


def _within(examples: list[Example], topics: set[str]) -> list[Example]:
    """The examples with one of the topics at least, and only these topics."""
    kept = ((e, tuple(t for t in e.labels if t in topics)) for e in examples)
    return [Example(e.document, labels, e.id) for e, labels in kept if labels]


def _stories(text: str) -> list[tuple[str, Example]]:
    """The ModApte stories of one file: "TRAIN" or "TEST", and the story with all its topics."""
    found = []
    for match in _STORY.finditer(text):
        head = dict(_ATTRIBUTE.findall(match["head"]))
        if head.get("TOPICS") != "YES" or head.get("LEWISSPLIT") not in ("TRAIN", "TEST"):
            continue
        topics = _TOPICS.search(match["inside"])
        labels = re.findall(r"<D>(.*?)</D>", topics[1]) if topics else []
        document = _document(match["inside"])
        # Two stories list a topic twice.
        example = Example(document, tuple(dict.fromkeys(labels)), id=head["NEWID"])
        found.append((head["LEWISSPLIT"], example))
    return found


def _document(inside: str) -> Document:
    """Title and body. An UNPROC text has no parts, all of it is the body; a BRIEF has no body."""
    match = _TEXT.search(inside)
    whole = match[1] if match else ""
    parts = {name: pattern.search(whole) for name, pattern in _PART.items()}
    title = parts["TITLE"][1] if parts["TITLE"] else ""
    if parts["BODY"]:
        body = parts["BODY"][1]
    elif title:
        body = ""  # what follows the title of a BRIEF is the filler "Blah blah blah."
    else:
        body = whole
    return Document(_clean(body), " ".join(_clean(title).split()))


def _clean(text: str) -> str:
    """Without control characters and the agency's closing "Reuter"; entities as characters."""
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return _SIGNATURE.sub("", text.rstrip()).strip()


def _descriptions(path: Path, topics: set[str]) -> dict[str, str]:
    """What each topic code means, from the collection's own list, in words fit for a sentence."""
    named = {}
    if path.is_file():
        listing = path.read_text(encoding="latin-1").partition("@heading")[0]
        named = {
            code.lower(): name
            for name, code in re.findall(r"^(\S[^()\n]*?) +\(([A-Z-]+)\)$", listing, re.MULTILINE)
        }
    return {t: named.get(t) or ABBREVIATIONS.get(t) or t.replace("-", " ") for t in sorted(topics)}


def _find() -> Path | None:
    """The first data folder that holds the collection, or None."""
    for parent in files.data_folders():
        for name in FOLDERS:
            folder = parent / name
            present = [n for n in STORY_FILES if (folder / n).is_file()]
            if len(present) == len(STORY_FILES):
                return folder
            if present:
                missing = sorted(set(STORY_FILES) - set(present))
                raise DataError(
                    f"{folder} holds {len(present)} of {len(STORY_FILES)} files of Reuters-21578; "
                    f"missing: {', '.join(missing)}",
                    hint="Add them, or remove the folder to have the collection fetched.",
                )
    return None


def _fetch(folder: Path) -> Path:
    """Download the collection's archive, and unpack the files that their checksums vouch for."""
    archive = folder.parent / "reuters21578.tar.gz"
    problems = []
    for url in URLS:
        try:
            files.download(url, archive, sha256_expected=None)
            _unpack(archive, folder)
            return folder
        except UnavailableError as problem:
            problems.append(problem.message)
        finally:
            archive.unlink(missing_ok=True)
    raise UnavailableError(
        "Reuters-21578 is not on this machine and could not be fetched: " + "; ".join(problems),
        hint=f"Put reut2-000.sgm to reut2-021.sgm into {folder}, or into a folder 'reuters21578' "
        "below HORNBOOK_DATA. What works offline: `pydocs`, and your own tables.",
    )


def _unpack(archive: Path, folder: Path) -> None:
    """Write the members named in CHECKSUMS, and nothing else, whole or not at all.

    Only the last part of a member's name is looked at, so that no name can lead elsewhere.
    Raises DownloadError when a member is missing or is not the file as published.
    """
    wrong = set(CHECKSUMS)
    with files.atomic_folder(folder) as temporary:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                for member in tar:
                    name = Path(member.name).name
                    if name not in wrong or not member.isfile() or member.size > LARGEST_MEMBER:
                        continue
                    content = tar.extractfile(member)
                    data = content.read() if content else b""
                    if hashlib.sha256(data).hexdigest() == CHECKSUMS[name]:
                        (temporary / name).write_bytes(data)
                        wrong.remove(name)
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise DownloadError(
                f"{archive.name} is not a readable archive: {error}",
                hint="The transfer may have been cut short; try again.",
            ) from error
        if wrong:
            raise DownloadError(
                f"{archive.name} lacks these files as published: {', '.join(sorted(wrong))}",
                hint="The archive changed at its source; nothing of it was kept.",
            )
