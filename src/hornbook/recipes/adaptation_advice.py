"""Which method, length and rate suit data of a size: a word before a fine-tuning run."""

from __future__ import annotations

from hornbook.recipes.adaptation_settings import AdaptSettings, usual_rate

RUNNING_TEXT = ("fill", "continue")  # a text teaches as many things as it has tokens


def advice(settings: AdaptSettings, n_examples: int, *, d_model: int) -> list[str]:
    """Which method and length suit data of this size; what is not as one would expect it.

    d_model: the width of the model, whose rates go with it.
    """
    method, said = settings.method, []
    if settings.task in RUNNING_TEXT:
        n_examples = 0
    elif n_examples < 200:
        said.append(
            f"{n_examples} examples: too few to move all weights by much. head or lora hold on to "
            "what the model knows; validation scores of so few are guesses (look at the interval)."
        )
        if method == "full":
            said.append("Try --method head and --method lora beside this.")
    elif n_examples < 2000:
        said.append(
            f"{n_examples:,} examples: full and lora usually end alike; lora takes a tenth of the "
            "checkpoint and less memory, full the fewest steps. 3 to 5 epochs."
        )
    else:
        said.append(
            f"{n_examples:,} examples: full fine-tuning is rarely beaten; lora comes close at "
            "rank 16 and ten times the rate. 1 to 3 epochs."
        )
    if method == "qlora":
        said.append("qlora is for a model that does not fit otherwise: it is slower than lora.")
    epochs = settings.epochs or 0
    if epochs > 5 and n_examples > 500:
        said.append(
            f"{epochs:g} epochs of {n_examples:,} examples overfit often: --set patience=2."
        )
    usual = usual_rate(settings, d_model=d_model)
    if settings.lr is not None and not usual / 8 < settings.lr < 4 * usual:
        word = "high" if settings.lr > usual else "low"
        said.append(f"lr {settings.lr:g} is {word} for {method}: {usual:g} is usual at this width.")
    return said
