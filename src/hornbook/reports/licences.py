"""Licences as the Hugging Face hub writes them, and which of them a model may name."""

from __future__ import annotations

import re

# Those that ask for no more than to be named: a model made with such data may keep its own.
_OPEN = {"apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-3.0", "odc-by"}
_OPEN |= {"unlicense", "psf-2.0"}
_KNOWN = _OPEN - {"psf-2.0"} | {"cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"}
_KNOWN |= {"gpl-3.0", "lgpl-3.0", "agpl-3.0", "gemma", "llama2", "llama3", "openrail", "odbl"}


def hub_name(licence: str) -> str:
    """ "CC BY 4.0" as "cc-by-4.0"; "" for what names no licence, or says that there is none."""
    name = re.sub(r"[\s_]+", "-", licence.strip().lower())
    name = {"odc-by-1.0": "odc-by", "cc0": "cc0-1.0", "odbl-1.0": "odbl"}.get(name, name)
    return name if name in _KNOWN | _OPEN else ""


def front_matter(base: str, data: str) -> dict[str, str]:
    """What the hub reads of a model's licence, by that of its base model and of its data.

    {} where the base model's is not known: then nobody may say. Data that ask for more than to be
    named, or of which nobody stated a licence, make it `other`, with both in its name; of one's own
    data, of which nothing is known, the owner decides.
    """
    name = hub_name(base)
    if not base or base == "other":
        return {}
    if name in _KNOWN and (not data or hub_name(data) in _OPEN | {name}):
        return {"license": name}
    both = f"model {base}" + (f", data {data}" if data else "")
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", both.lower())}


def sentence(base: str, data: str) -> str:
    """A limit to be said beside it; "" where no licence stands in the card."""
    if not front_matter(base, data):
        return ""
    ours = "That of the data is not known." if not data else f"The data's: {data}."
    return f"The base model's licence: {base}. {ours}"
