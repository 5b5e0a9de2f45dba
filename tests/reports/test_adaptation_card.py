"""The card of a fine-tuning run: commands that exist, licences, figures on test."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from fake_run import fake_run
from typer.testing import CliRunner

from hornbook.cli.main import app
from hornbook.interop.licences import licence_of
from hornbook.recipes.apply import name_of
from hornbook.recipes.kinds import KINDS
from hornbook.records import AdaptSummary, AssessmentRecord, MetricRecord
from hornbook.reports import licences
from hornbook.reports.adaptation_card import card, write_run_card
from hornbook.reports.card_on_test import BEGIN, write_test_scores


def summary(task="classify", licence="", base_licence="Apache-2.0", **changes) -> AdaptSummary:
    run = fake_run().model_dump()
    run["corpus"] |= {"name": "sms", "licence": licence}
    given = {
        "task": task,
        "base_model": "minilm",
        "base_licence": base_licence,
        "method": "full",
        "n_trained": 1000,
        "n_train": 900,
        "n_validation": 94,
        "n_test": 237,
        "best": "accuracy",
        "metrics": [MetricRecord(name="accuracy", value=0.9, low=0.85, high=0.95)],
    }
    return AdaptSummary(**(run | given | changes))


def test_part(value=0.8, **changes) -> AssessmentRecord:
    given = {
        "run": "spam",
        "task": "classify",
        "data": "/home/ada/sms.csv",
        "part": "test",
        "n_examples": 237,
        "examples_hash": "a" * 64,
        "metrics": [MetricRecord(name="f1_[b]", value=value, low=0.7, high=0.9)],
        "look": 1,
        "seconds": 1.0,
        "at": "2026-11-22T20:00:00",
    }
    return AssessmentRecord(**(given | changes))


test_part.__test__ = False


@pytest.fixture
def run(tmp_path):
    """A finished run with its card; `evaluated` adds records."""
    (tmp_path / "summary.json").write_text(summary().model_dump_json())
    (tmp_path / "evaluations").mkdir()
    write_run_card(tmp_path)
    return tmp_path


def evaluated(run, *records):
    for i, record in enumerate(records):
        (run / "evaluations" / f"{i}.json").write_text(record.model_dump_json())
    return write_test_scores(run)


def front(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("task", list(KINDS))
def test_its_command_is_one_that_there_is(task):
    use = re.search(r"## Use\n\n```bash\n(.*)\n```", card(summary(task)))[1]
    words = shlex.split(use)
    assert words[0] == "hornbook"
    if words[1] == "run":
        assert name_of(words[2])
        known = CliRunner().invoke(app, ["run", "--help"]).output
        assert all(word in known for word in words if word.startswith("--"))
    else:
        assert words == ["hornbook", "chat", "RUN"]
    assert {"answer": "--context", "choose": "--option"}.get(task, "") in use


def test_figures_on_test_come_into_the_card_once_they_are_there(run):
    before = (run / "README.md").read_text()
    assert "The 237 test examples were not looked at." in before
    assert write_test_scores(run) is None
    path = evaluated(run, test_part())
    text = path.read_text()
    assert "not looked at" not in text
    assert "On 237 test examples of sms." in text
    assert r"| f1\_\[b\] | 0.800 | 0.700 to 0.900 |" in text
    assert "/home/ada" not in text
    results = front(text)["model-index"][0]["results"]
    assert [r["dataset"]["split"] for r in results] == ["validation", "test"]
    assert results[1]["metrics"] == [{"type": "f1_[b]", "name": "f1_[b]", "value": 0.8}]
    assert (run / "README.md").read_text().split("## Limits")[1] == before.split("## Limits")[1]
    assert write_test_scores(run).read_text() == text
    write_run_card(run)
    assert path.read_text() == text


def test_the_newest_figures_stand_with_their_look_and_doubts(run):
    later = test_part(0.9, at="2026-11-23T01:00:00", look=2, warnings=["The data have changed."])
    other = test_part(0.6, part="all", data="fresh.csv", examples_hash="b" * 64)
    evaluated(run, later, test_part(), other, test_part(0.1, part="validation", look=0))
    text = (run / "README.md").read_text()
    assert "0.900" in text and "| 0.800 |" not in text and "0.100" not in text
    assert "look 2 at them" in text and "**Not to be relied on.** The data have changed." in text
    assert "On 237 examples of fresh." in text
    names = [r["dataset"]["name"] for r in front(text)["model-index"][0]["results"]]
    assert names == ["sms", "fresh"]  # of validation, and what is to be relied on
    assert "&id" not in text


def test_some_of_a_test_part_are_said_to_be_some_and_do_not_stand_for_it(run):
    some = test_part(n_examples=20, part_hash="c" * 64, n_part=237)
    text = evaluated(run, some).read_text()
    assert "On 20 of 237 test examples of sms, drawn at random." in text
    results = front(text)["model-index"][0]["results"]
    assert [r["dataset"]["split"] for r in results] == ["validation"]


def test_a_readme_that_is_not_ours_stays_as_it_is(run):
    path = run / "README.md"
    path.write_text("# My project\n\n## Data\n\nMine.\n")
    assert evaluated(run, test_part()) is None
    assert path.read_text() == "# My project\n\n## Data\n\nMine.\n"


def test_what_a_person_wrote_in_the_card_stays(run):
    path = run / "README.md"
    mine = path.read_text().replace("## Limits", "## Why\n\nFor my aunt.\n\n## Limits")
    path.write_text(mine.replace("license: apache-2.0", "license: mit\nlanguage: en"))
    text = evaluated(run, test_part()).read_text()
    assert "For my aunt." in text
    assert (front(text)["license"], front(text)["language"]) == ("mit", "en")
    # A card that was written before there were marks.
    path.write_text(re.sub(f"{BEGIN}.*?end of on test -->\n", "", text, flags=re.DOTALL))
    again = evaluated(run, test_part()).read_text()
    assert again.index("On 237 test examples") < again.index("## Data")


@pytest.mark.parametrize(
    ("base", "data", "license"),
    [
        ("Apache-2.0", "", "apache-2.0"),
        ("Apache-2.0", "CC BY 4.0", "apache-2.0"),
        ("Apache-2.0", "PSF-2.0", "apache-2.0"),
        ("Apache-2.0", "CC BY-NC-SA 4.0", "other"),
        ("Apache-2.0", "none stated; for research, with citation", "other"),
        ("something of ours", "", "other"),
        ("", "CC BY 4.0", None),
    ],
)
def test_the_licence_is_the_base_models_where_the_data_allow(base, data, license):
    found = front(card(summary(licence=data, base_licence=base)))
    assert found.get("license") == license
    assert ("license_name" in found) == (license == "other")
    assert licences.hub_name("ODC-By 1.0") == "odc-by"


def test_a_models_licence_is_the_catalogues_or_its_cards(tmp_path):
    assert licence_of("minilm") == "Apache-2.0"
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "model").mkdir()
    assert licence_of(str(tmp_path)) == licence_of(str(tmp_path / "model")) == "mit"
    assert licence_of(str(tmp_path / "model" / "nothing")) == ""
