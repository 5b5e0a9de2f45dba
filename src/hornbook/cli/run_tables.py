"""What `hornbook run` prints of each finding: labels, entities in their text, the marked answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from hornbook.cli.harmless import harmless

_AROUND = 160  # characters of a context that are shown on either side of an answer
_NAMES = ("text", "question", "first", "prompt")


def show(task: str, found: Mapping[str, Any], *, several: bool, top: int) -> None:
    """One finding, as its task is best read. several: others follow, so that each is named."""
    console = Console(highlight=False, soft_wrap=True)
    if several and task in ("classify", "pairs", "zero-shot", "choose", "fill", "reward"):
        name = next((found[n] for n in _NAMES if n in found), "")
        if isinstance(name, list):  # a conversation: what was said last
            name = name[-1]["content"]
        console.print(Text(harmless(" ".join(str(name).split())[:100]), style="dim"))
    for line in _SHOWN[task](found, top):
        line.plain = harmless(line.plain)  # as long as it was: its styles stay where they are
        console.print(line)
    if several and task in ("answer", "chat", "generate"):
        console.print()


def _shares(shares: Mapping[str, float], top: int) -> list[Text]:
    best = list(shares.items())[: max(1, top)]
    width = max(len(name) for name, _ in best)
    return [
        Text.assemble(
            (f"{name:<{width}}", "bold" if i == 0 else ""), f"  {value:.3f}  ", _bar(value)
        )
        for i, (name, value) in enumerate(best)
    ]


def _bar(share: float) -> tuple[str, str]:
    return "█" * round(24 * max(0.0, min(1.0, share))), "cyan"


def _labels(found: Mapping[str, Any], top: int) -> list[Text]:
    if "number" in found:
        return [Text(f"{found['number']:.3f}", style="bold")]
    lines = _shares(found["probabilities"], top)
    if "labels" in found:
        given = ", ".join(found["labels"]) or "(no label)"
        lines.insert(0, Text(given, style="bold"))
    return lines


def _zero_shot(found: Mapping[str, Any], top: int) -> list[Text]:
    lines = _shares(found["shares"], top)
    if "labels" in found:  # of several
        lines.insert(0, Text(", ".join(found["labels"]) or "(no label)", style="bold"))
    return lines


def _entities(found: Mapping[str, Any], top: int) -> list[Text]:
    """The text with what was found in brackets behind each stretch, then a line for each."""
    text, line, at = found["text"], Text(), 0
    for span in found["spans"]:
        if span["start"] < at:
            continue
        line.append(text[at : span["start"]])
        line.append(text[span["start"] : span["end"]], style="bold cyan")
        line.append(f"[{span['label']}]", style="dim")
        at = span["end"]
    line.append(text[at:])
    if not found["spans"]:
        return [line, Text("(nothing found)", style="dim")]
    return [line]


def _answer(found: Mapping[str, Any], top: int) -> list[Text]:
    if not found["answer"]:
        return [Text("(no answer in this text)", style="bold")]
    context, start, end = found["context"], found["start"], found["end"]
    first, last = max(0, start - _AROUND), min(len(context), end + _AROUND)
    shown = Text.assemble(
        "…" if first else "",
        context[first:start].lstrip() if first else context[:start],
        ("»", "dim"),
        (context[start:end], "bold reverse"),
        ("«", "dim"),
        context[end:last],
        "…" if last < len(context) else "",
    )
    lines = [
        Text.assemble((found["answer"], "bold"), f"  {found['score']:.3f}"),
        shown,
    ]
    others = [one for one in found.get("n_best", [])[1:top] if one["answer"]]
    if others:
        told = ", ".join(f"{one['answer']} {one['score']:.3f}" for one in others)
        lines.append(Text(f"else: {told}", style="dim"))
    return lines


def _filled(found: Mapping[str, Any], top: int) -> list[Text]:
    lines = []
    for place in found["guesses"]:
        width = max(len(guess["token"]) for guess in place)
        for i, guess in enumerate(place):
            lines.append(
                Text.assemble(
                    (f"{guess['token']:<{width}}", "bold" if i == 0 else ""),
                    f"  {guess['probability']:.3f}  ",
                    (guess["text"], "dim"),
                )
            )
    return lines


def _written(found: Mapping[str, Any], top: int) -> list[Text]:
    return [Text(found["written"])]


def _anonymous(found: Mapping[str, Any], top: int) -> list[Text]:
    return [Text(found["anonymized"])]


def _marked(found: Mapping[str, Any], top: int) -> list[Text]:
    return [
        Text.assemble(
            f"{one['reward']:+8.3f}  ",
            (" ".join(one["answer"].split())[:_AROUND], "bold" if i == 0 else ""),
        )
        for i, one in enumerate(found["answers"][:top])
    ]


def _continued(found: Mapping[str, Any], top: int) -> list[Text]:
    return [Text.assemble((found["text"], "dim"), found["written"])]


def _chosen(found: Mapping[str, Any], top: int) -> list[Text]:
    width = max(len(one["option"]) for one in found["options"])
    return [
        Text.assemble(
            "→ " if one["option"] == found["choice"] else "  ",
            (f"{one['option']:<{width}}", "bold" if one["option"] == found["choice"] else ""),
            f"  {_how_likely(one)}",
        )
        for one in found["options"]
    ]


def _how_likely(option: Mapping[str, Any]) -> str:
    if "probability" in option:  # an encoder's, among these options
        return f"{option['probability']:.3f}"
    return f"{option['nats_per_byte']:.3f} nats a byte, {option['nats']:.2f} in all"


def _vector(found: Mapping[str, Any], top: int) -> list[Text]:
    first = ", ".join(f"{x:+.3f}" for x in found["vector"][:6])
    return [Text(f"{len(found['vector'])} numbers: {first}, …  {found['text'][:60]}")]


def _alike(found: Mapping[str, Any], top: int) -> list[Text]:
    first, second = (" ".join(text.split())[:60] for text in found["texts"])
    return [Text(f"{found['cosine']:+.3f}  {first}  |  {second}")]


_SHOWN = {
    "classify": _labels,
    "pairs": _labels,
    "zero-shot": _zero_shot,
    "tag": _entities,
    "anonymize": _anonymous,
    "answer": _answer,
    "fill": _filled,
    "translate": _written,
    "summarize": _written,
    "chat": _written,
    "generate": _continued,
    "choose": _chosen,
    "reward": _marked,
    "embed": _vector,
    "similarity": _alike,
}
