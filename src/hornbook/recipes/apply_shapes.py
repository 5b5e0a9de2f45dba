"""What a task predicted, as what is said of it: plain data with the row beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hornbook.errors import ConfigError
from hornbook.recipes.apply_plain import Row
from hornbook.tasks.task import Task


def labels(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    found = {k: v for k, v in row.items() if k != "labels"}
    if "number" in prediction:
        return found | {"number": round(float(prediction["number"]), 4)}
    shares = sorted(prediction["probabilities"].items(), key=lambda pair: -pair[1])
    said = {k: prediction[k] for k in ("label", "labels") if k in prediction}
    return found | said | {"probabilities": {name: round(float(p), 4) for name, p in shares}}


def spans(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {"text": row["text"], "spans": prediction["spans"]}


def answer(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {"question": row["question"], "context": row["context"], **prediction}


def written(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    return {"text": row["text"], "written": prediction["text"]}


def chosen(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """By an encoder's marks; of a decoder by the likelihood of a byte, which does not favour short
    options, and by the sum."""
    if "marks" in prediction:
        return _marked(row, prediction)
    sums = np.array(prediction["log_probs"])
    per_byte = sums / np.array(prediction["n_bytes"])
    options = list(row["options"])
    return {
        "text": row["text"],
        "choice": options[prediction["option_norm"]],
        "choice_by_sum": options[prediction["option"]],
        "options": [
            {"option": option, "nats": round(float(s), 3), "nats_per_byte": round(float(b), 4)}
            for option, s, b in zip(options, sums, per_byte, strict=True)
        ],
    }


def _marked(row: Row, prediction: Mapping[str, Any]) -> dict[str, Any]:
    options = list(row["options"])
    pairs = zip(options, prediction["probabilities"], strict=True)
    return {
        "text": row["text"],
        "choice": options[prediction["option"]],
        "options": [{"option": o, "probability": round(float(p), 4)} for o, p in pairs],
    }


def anonymous(row: Row, prediction: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """What was found, by its type; nothing of what it was, so that what is said can be passed on.

    start and end are characters of the text that was given, at: of what came of it.
    """
    if getattr(task, "kind", "") != "entities":
        raise ConfigError(
            "this model gives every word a tag, so that no word would be left",
            hint="Name one that was taught entities (tags such as B-person and O).",
        )
    text, written, end, replaced = row["text"], "", 0, []
    for span in sorted(prediction["spans"], key=lambda span: (span["start"], -span["end"])):
        if span["start"] < end:
            continue
        written += text[end : span["start"]]
        end = span["end"]
        place = {"start": span["start"], "end": end, "at": len(written), "label": span["label"]}
        replaced.append(place | {"score": round(float(span["score"]), 4)})
        written += f"[{span['label']}]"
    return {"anonymized": written + text[end:], "replaced": replaced}
