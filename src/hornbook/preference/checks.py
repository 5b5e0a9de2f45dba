"""What of preferences would spoil training, found before any weight moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hornbook.data.preferences import Judged, Preference, text_of
from hornbook.preference.encoding import Encoder, Item
from hornbook.tasks.task import Finding
from hornbook.tasks.turn_findings import pad_ends, unended, unknown_end
from hornbook.tasks.turns import end_of_turn

_FEW = 20  # pairs of unlike lengths, below which their lengths say nothing


def lengths(pairs: Sequence[Preference]) -> list[Finding]:
    """Whether the longer answer is nearly always the better one, or the worse."""
    unlike = [p for p in pairs if len(p.chosen) != len(p.rejected)]
    if len(unlike) < _FEW:
        return []
    longer = sum(len(p.chosen) > len(p.rejected) for p in unlike) / len(unlike)
    share, which = max((longer, "longer"), (1 - longer, "shorter"))
    if share < 0.65:
        return []
    return [
        Finding(
            "length-bias",
            "warn" if share >= 0.8 else "note",
            f"the {which} answer is the chosen one in {share:.0%} of pairs",
            cost=f"a model that only learns to write {which} answers would be right as often",
            mend="watch the length of what it writes; ipo compares nats a token, dpo sums",
        )
    ]


def contradictions(pairs: Sequence[Preference]) -> list[Finding]:
    """Pairs that stand there the other way round too."""
    there = {(text_of(p.prompt), p.chosen, p.rejected) for p in pairs}
    other_way = [p for p in pairs if (text_of(p.prompt), p.rejected, p.chosen) in there]
    if not other_way:
        return []
    places = ", ".join(p.place for p in other_way[:5])
    return [
        Finding(
            "contradiction",
            "warn",
            f"{len(other_way)} pairs stand there the other way round too ({places})",
            cost="each takes back what the other teaches",
            mend="keep one of them, or tell dpo with --set smoothing=0.1 that labels may be wrong",
        )
    ]


def truncation(items: Sequence[Item], max_tokens: int) -> list[Finding]:
    """Examples too long to be read whole."""
    cut = [item for item in items if item.n_cut]
    if not cut:
        return []
    lost = sum(item.n_cut for item in cut)
    return [
        Finding(
            "truncation",
            "warn",
            f"{len(cut)} of {len(items)} examples are longer than {max_tokens} tokens; "
            f"{lost:,} tokens are not read",
            cost="prompts lose their beginning; answers longer than that by themselves, their end",
            mend="--set max_tokens=... up to the model's context",
        )
    ]


def unspoken(encoder: Encoder) -> list[Finding]:
    """A model that nobody taught to answer, or to stop; or whose template says one end, and its
    tokenizer another."""
    template, tokenizer, found = encoder.template, encoder.tokenizer, []
    if template is not None:
        end = end_of_turn(template, tokenizer)
        if end is None:
            cost = "Nothing of where an answer ends is learnt."
            found.append(unended(template, tokenizer, level="warn", cost=cost))
        elif end not in encoder.ends:
            mend = "Name it as eos_token_id in the model's generation_config.json before training."
            found.append(
                replace(unknown_end(tokenizer, end, encoder.ends, mend=mend), level="warn")
            )
        found += pad_ends(template, tokenizer, encoder.ends)
    else:
        found.append(
            Finding(
                "no-template",
                "note",
                "the model has no chat template: prompts are read as texts to go on with",
                cost="it is not asked in the way of a conversation",
                mend="take a model that chats, or first `hornbook finetune chat`",
            )
        )
    if not encoder.ends:
        found.append(
            Finding(
                "no-end",
                "warn",
                "the tokenizer has no token that ends a text",
                cost="nothing of where an answer ends is learnt",
                mend="take a model whose tokenizer has one",
            )
        )
    return found


def balance(judged: Sequence[Judged], weight_good: float, weight_bad: float) -> list[Finding]:
    """Whether good and bad answers weigh about the same (KTO, section 4.2: between 1 and 4/3)."""
    n_good = sum(example.good for example in judged)
    n_bad = len(judged) - n_good
    if not n_good or not n_bad:
        return []  # refused where the data are read
    ratio = weight_good * n_good / (weight_bad * n_bad)
    if 1 <= ratio <= 4 / 3:
        return []
    if ratio < 1:
        setting = f"weight_good={7 / 6 * weight_bad * n_bad / n_good:.3g}"
    else:
        setting = f"weight_bad={6 / 7 * weight_good * n_good / n_bad:.3g}"
    return [
        Finding(
            "imbalance",
            "note",
            f"{n_good:,} good answers and {n_bad:,} bad ones weigh {ratio:.2f} to 1",
            cost="what is rarer is learnt less; the paper found 1 to 1.33 best",
            mend=f"--set {setting}",
        )
    ]
