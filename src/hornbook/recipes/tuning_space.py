"""Where settings are looked for: sensible ranges for each method, and what a person names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hornbook.errors import ConfigError, nearest
from hornbook.recipes.adaptation_opening import own_defaults
from hornbook.recipes.adaptation_settings import AdaptSettings
from hornbook.recipes.kinds import KINDS
from hornbook.records import SearchedSetting

# How far from the usual rate it is worth looking, either way. An adapter's and a head's best rates
# lie further apart between tasks than a whole model's.
REACH = {"full": 4.0, "last": 4.0, "head": 10.0, "lora": 5.0, "dora": 5.0, "qlora": 5.0}
EPOCHS = (1.0, 6.0)
RANKS = (4, 8, 16, 32)
# What makes no sense to search: it changes the question, or the machine, not the answer.
FIXED = {"task", "model", "data", "columns", "method", "seed", "time", "trackers", "precision"}
FIXED |= {"evaluations", "gradient_checkpointing", "options", "max_tokens"}


def default_space(settings: AdaptSettings, given: frozenset[str]) -> list[SearchedSetting]:
    """What is searched when nobody says: the rate, the length, and what the method is ruled by.

    settings: with nothing left open; given: settings that a person fixed, which are not searched.
    """
    method = settings.method.partition("-")[0]
    lr, reach = settings.lr or 5e-5, REACH[method]
    space = [_range("lr", lr / reach, lr * reach, log=True)]
    if not given & {"epochs", "steps", "time"}:
        space.append(_range("epochs", *EPOCHS, whole=True))
    if method in ("lora", "dora", "qlora"):
        space.append(SearchedSetting(name="rank", choices=list(RANKS)))
    elif method == "full":
        space.append(_range("layer_decay", 0.7, 1.0))
    space.append(_range("weight_decay", 1e-3, 0.1, log=True))
    return [one for one in space if one.name not in given]


def named_space(wanted: Sequence[str], own: Iterable[str] = ()) -> list[SearchedSetting]:
    """--search lr=1e-5..1e-3, rank=4,8,16: a range (log where it spans a decade), or choices.

    own: names of the task's own settings. Raises ConfigError for what is none, and for a setting
    that it makes no sense to search.
    """
    space = []
    for one in wanted:
        name, equals, values = one.partition("=")
        if not equals or not values:
            raise ConfigError(
                f"--search {one} names no values", hint="Write lr=1e-5..1e-3 or rank=4,8,16"
            )
        known = [n for n in AdaptSettings.model_fields if n not in FIXED]
        if name not in known and name not in own:
            raise ConfigError(
                f"'{name}' is no setting to search", hint=nearest(name, [*known, *own])
            )
        space.append(_named(name, values))
    return space


def own_settings(task: str) -> dict[str, Any]:
    """A task's own settings that can be searched, with their defaults: beta, margin, share.

    Where the recipe has a setting of the same name, that is meant, as with --set.
    """
    found = own_defaults(KINDS.load(task))
    return {name: value for name, value in found.items() if name not in AdaptSettings.model_fields}


def check_ends(
    space: Sequence[SearchedSetting], settle: Callable[[Mapping[str, Any]], object]
) -> None:
    """Raise ConfigError where an end of a range, a fraction between two, or a choice is none that
    the setting can have.

    settle: makes a run's settings of values that were drawn, and raises ConfigError where it can't.
    """
    for one in space:
        for value in one.choices or [one.low, one.high]:
            if one.whole and one.name != "epochs":
                value = int(value)  # type: ignore[arg-type]  # a range has both its ends
            try:
                settle({one.name: value})
            except ConfigError as error:
                raise ConfigError(
                    f"--search {one.name} has {value} in it: {error.message}",
                    hint=f"Search where all values are allowed. {error.hint}",
                ) from error
        if not one.choices and not one.whole:
            _check_fraction(one, settle)


def with_fractions(
    space: Sequence[SearchedSetting], settle: Callable[[Mapping[str, Any]], object]
) -> list[SearchedSetting]:
    """weight_decay=0..1 is meant with all that lies between, rank=4..16 with whole numbers, since a
    rank has no others; epochs=1..4 too. settle: as for `check_ends`."""

    def filled(one: SearchedSetting) -> SearchedSetting:
        if not one.whole or one.name == "epochs":
            return one
        try:
            _check_fraction(one, settle)
        except ConfigError:
            return one
        return one.model_copy(update={"whole": False})

    return [filled(one) for one in space]


def _check_fraction(one: SearchedSetting, settle: Callable[[Mapping[str, Any]], object]) -> None:
    """Raise ConfigError for rank=4.0..16.0: its ends are whole, and 4.5 is between them."""
    assert one.low is not None and one.high is not None
    value = one.low + min(0.5, (one.high - one.low) / 2)
    try:
        settle({one.name: value})
    except ConfigError as error:
        low, high = math.ceil(one.low), math.floor(one.high)
        raise ConfigError(
            f"--search {one.name} has numbers such as {value:g} in it: {error.message}",
            hint=f"For whole numbers alone write the ends without a point: {one.name}={low}..{high}"
            f"; or name the values: {one.name}={low},{high}.",
        ) from error


def _named(name: str, values: str) -> SearchedSetting:
    number = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
    if found := re.fullmatch(rf"({number})\.\.({number})", values):
        low, high = float(found[1]), float(found[2])
        if not low < high:
            raise ConfigError(f"{name}: {low:g} is not below {high:g}", hint="Low first.")
        whole = all(re.fullmatch(r"\d+", end) for end in found.groups())
        return _range(name, low, high, log=low > 0 and high / low >= 10, whole=whole)
    choices = [_value(value) for value in values.split(",") if value.strip()]
    if len(choices) < 2:
        raise ConfigError(
            f"{name} has one value, {values}: nothing to search",
            hint=f"Fix it with --set {name}={values}, or name several: {name}=a,b",
        )
    return SearchedSetting(name=name, choices=choices)


def _value(text: str) -> Any:
    text = text.strip()
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _range(
    name: str, low: float, high: float, *, log: bool = False, whole: bool = False
) -> SearchedSetting:
    return SearchedSetting(name=name, low=low, high=high, log=log, whole=whole)


def drawn(trial: Any, space: Sequence[SearchedSetting]) -> dict[str, Any]:
    """Values of a trial of optuna's."""
    found: dict[str, Any] = {}
    for one in space:
        if one.choices:
            found[one.name] = trial.suggest_categorical(one.name, one.choices)
        elif one.whole:
            assert one.low is not None and one.high is not None
            value = trial.suggest_int(one.name, int(one.low), int(one.high), log=one.log)
            found[one.name] = float(value) if one.name == "epochs" else value
        else:
            value = trial.suggest_float(one.name, one.low, one.high, log=one.log)
            found[one.name] = float(f"{value:.3g}")
    return found


def inside(values: Mapping[str, Any], space: Sequence[SearchedSetting]) -> dict[str, Any]:
    """The usual settings as a first trial, moved to the nearest value that is searched."""
    found: dict[str, Any] = {}
    for one in space:
        value = values.get(one.name)
        if one.choices:
            found[one.name] = value if value in one.choices else one.choices[0]
        elif value is None:
            found[one.name] = one.low
        else:
            assert one.low is not None and one.high is not None
            found[one.name] = min(max(float(value), one.low), one.high)
            if one.whole:
                found[one.name] = round(found[one.name])
    return found
