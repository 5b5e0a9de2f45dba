"""`hornbook plan`: the numbers that are printed, and what is said to a slip of the hand."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.cli.plan import parse_number
from hornbook.errors import HornbookError

SMALL = [
    *("plan", "train", "gpt", "--batch", "16", "--tokens", "1M"),
    *(
        f"--set={size}"
        for size in ("n_layers=2", "n_heads=2", "d_model=32", "d_ff=64", "vocab_size=99")
    ),
]


def said(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, HornbookError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize(
    ("text", "value"),
    [("13e9", 13e9), ("13B", 13e9), ("124M", 124e6), ("80GB", 80e9), ("1,000", 1e3), ("7", 7)],
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize("text", ["", "many", "-3", "0", "1e", "3 bananas"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(HornbookError):
        parse_number(text)


def test_the_rule_of_thumb_is_printed():
    assert "31.2 GB" in said("plan", "memory", "--params", "13e9", "--bits", "16")
    assert "15.6 GB" in said("plan", "memory", "--params", "13B", "--bits", "8")
    assert "208 GB" in said("plan", "memory", "--params", "13B", "--train")
    assert "124,439,808" in said("plan", "memory", "--preset", "gpt2")


def test_a_plan_on_paper_for_a_cluster():
    text = said(*SMALL, "--card", "t4", "--devices", "4", "--sharding", "fsdp", "--price", "0.5")
    for word in ("4 x t4, FSDP", "peak memory", "cost", "It fits"):
        assert word in text
    plan = json.loads(said(*SMALL, "--card", "t4", "--json"))
    assert plan["settings"]["d_model"] == 32
    assert plan["n_tokens"] >= 1_000_000


def test_a_plan_that_does_not_fit_ends_with_1_and_says_what_to_change():
    text = said(*SMALL, "--card", "t4", "--memory", "60MB", code=1)
    assert "does not fit" in text
    assert "try          micro_batch_size=" in text


def test_a_plan_for_this_machine_measures_it():
    assert "GFLOP/s measured" in said(*SMALL, "--precision", "float32", "--context", "64")


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["gtp2"], "no preset or family", "Did you mean 'gpt2'"),
        (["gpt", "--set", "layers=3"], "no size named 'layers'", "n_layers"),
        (["gpt", "--set", "n_layers=three"], "not a whole number", "n_layers=12"),
        (["gpt2", "--context", "4096"], "longer than the model's 1024", "at most 1024"),
        (["gpt2", "--card", "a100"], "--card is 'a100'", "a100-80"),
        (["gpt2", "--devices", "2"], "on paper", "--card"),
        (["gpt2", "--batch", "0"], "--batch is 0", "1 or more"),
        (["gpt2", "--optimizer", "adam"], "--optimizer is 'adam'", "adamw"),
        (["gpt2", "--card", "t4", "--utilisation", "40"], "--utilisation is 40", "0.3"),
    ],
)
def test_slips_are_answered_with_what_is_allowed(arguments, message, hint):
    with pytest.raises(HornbookError) as refused:
        said("plan", "train", *arguments)
    assert message in refused.value.message
    assert hint in refused.value.hint
