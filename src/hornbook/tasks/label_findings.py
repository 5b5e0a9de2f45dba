"""What is wrong with the labels of divided data, before anything learns from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from hornbook.tasks.task import Finding

RARE = 8  # training texts
ONE_SIDED = 0.95  # share of the most frequent label
LOST = 0.05  # share of tokens


def label_findings(counts: Mapping[str, Counter[str]], label_names: Sequence[str]) -> list[Finding]:
    """counts: of labels by part, "train", "validation" and "test"; label_names: the head's."""
    train, known = counts["train"], set(label_names)
    findings = []
    if len(+train) < 2:
        findings.append(
            Finding(
                "one-label",
                "stop",
                f"all training texts have the label {', '.join(train) or 'of nothing'}",
                "There is nothing to tell apart.",
                "Add texts with another label, or name the right label column.",
            )
        )
    if beyond := sorted(train.keys() - known):
        findings.append(
            Finding(
                "label-beyond-head",
                "stop",
                f"{_listed(beyond)}: training labels that the head has no output for",
                "Their texts would teach nothing.",
                "Make the task from these data, so that the head gets their labels.",
            )
        )
    for part in ("validation", "test"):
        if not counts[part]:
            continue
        if unseen := sorted(counts[part].keys() - known):
            n = sum(counts[part][name] for name in unseen)
            findings.append(
                Finding(
                    "label-not-in-training",
                    "warn",
                    f"{_listed(unseen)}: {n:,} labels of the {part} part that training has not",
                    "They can't be given, and count as missed.",
                    "Move texts with them into the training part, or write them alike.",
                )
            )
        if gone := sorted(name for name in known if train[name] and not counts[part][name]):
            findings.append(
                Finding(
                    "label-vanished",
                    "warn",
                    f"{_listed(gone)}: in training, but not in the {part} part",
                    f"Nothing says how well {'it is' if len(gone) == 1 else 'they are'} learnt; "
                    "macro-F1 counts 0 for each.",
                    "Give the part more texts, or take rare labels out.",
                )
            )
    if rare := sorted(name for name in known if 0 < train[name] < RARE):
        findings.append(
            Finding(
                "rare-label",
                "note",
                f"{_listed(rare)}: fewer than {RARE} training texts each",
                "Such a label is seldom learnt.",
                "Add texts, or join it to another.",
            )
        )
    if train and max(train.values()) > ONE_SIDED * train.total():
        name, n = train.most_common(1)[0]
        findings.append(
            Finding(
                "one-sided",
                "warn",
                f"{n / train.total():.1%} of the training labels are '{name}'",
                "Who always says so has that accuracy.",
                "Choose by another metric: --set best=matthews, or macro_f1.",
            )
        )
    return findings


def cut_short(lengths: Sequence[int], max_tokens: int) -> list[Finding]:
    """What is lost by reading `max_tokens` tokens of texts of these lengths."""
    tokens = np.asarray(lengths)
    lost = np.maximum(tokens - max_tokens, 0)
    if not lost.any():
        return []
    share = lost.sum() / tokens.sum()
    return [
        Finding(
            "cut-short",
            "warn" if share > LOST else "note",
            f"{(lost > 0).mean():.1%} of the texts are longer than {max_tokens} tokens: "
            f"{share:.1%} of all tokens are not read",
            "What stands there can't be learnt from.",
            f"--set max_tokens={int(np.quantile(tokens, 0.95))} reads 95 % of the texts whole; "
            "time and memory grow with it.",
        )
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (", …" if len(names) > 8 else "")
