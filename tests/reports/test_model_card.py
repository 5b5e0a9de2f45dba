"""A card that the hub can read and that says what the record says."""

from __future__ import annotations

import re

import pytest
import yaml
from fake_study import fake_study

from hornbook.reports.model_card import write_model_card


def card(path, technique="tfidf-svm", study=None, **changes):
    study = study or fake_study()
    given = {
        "result": next(r for r in study.results if r.technique == technique),
        "row": next((r for r in study.summary.leaderboard if r.technique == technique), None),
        "dataset": study.dataset,
        "per_label": study.per_label.get(technique, []),
        "environment": study.environment,
        "hashes": study.hashes,
        "command": study.summary.command,
    }
    write_model_card(path / "README.md", **(given | changes))
    text = (path / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_front_matter_holds_the_scores(tmp_path):
    front, _ = card(tmp_path, base_model="sentence-transformers/all-MiniLM-L6-v2")
    (result,) = front["model-index"][0]["results"]
    values = {m["name"]: m["value"] for m in result["metrics"]}
    assert values == {"micro-F1": 0.836, "macro-F1": 0.78, "accuracy": 0.836}
    assert front["base_model"] == "sentence-transformers/all-MiniLM-L6-v2"
    assert front["co2_eq_emissions"]["emissions"] == pytest.approx(0.38 * 0.033)
    assert "estimated" in front["co2_eq_emissions"]["source"]


def test_body_says_how_good_how_sure_how_dear_and_how_to_use(tmp_path):
    _, body = card(tmp_path)
    for part in (
        "| micro-F1 | 0.836 | 0.814 to 0.856 |",
        "could not be told from the leader",
        "argmax of calibrated scores",
        'hornbook predict RUN --technique tfidf-svm "your text here"',
        "hornbook compare pydocs --budget 2m",
        "energy, estimated | 0.033 Wh",
        "Fewer than 10 test texts",
        "fitted once",
        "5b" * 32,
    ):
        assert part in body, part


def test_the_hub_library_accepts_it(tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub isn't installed")
    card(tmp_path, base_model="a/b")
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert {r.metric_name: r.metric_value for r in data.eval_results}["micro-F1"] == 0.836


def test_a_failed_technique_gets_a_card_without_scores(tmp_path):
    front, body = card(tmp_path, technique="bert-scratch")
    assert "model-index" not in front and "co2_eq_emissions" not in front
    assert "killed by signal 9" in body


@pytest.mark.parametrize(
    "text",
    [
        "<script>x</script>",
        "a|b\n\n# c",
        "a\n```\n<b>",
        "---\nbase: 1",
        "[x](javascript:y)",
        "\x00: {",
    ],
)
def test_names_from_data_are_not_markdown(tmp_path, text):
    study = fake_study()
    dataset = study.dataset.model_copy(update={"name": text, "notes": [text], "source": text})
    front, body = card(
        tmp_path,
        study=study,
        dataset=dataset,
        per_label=[study.per_label["lora"][0].model_copy(update={"label": text})],
        hashes={text: "0"},
        command=text,
    )
    assert front["library_name"] == "hornbook" and "base" not in front
    outside = re.sub(r"(`{3,})bash\n.*?\n\1\n", "", body, flags=re.DOTALL)
    assert "```" not in outside
    assert not re.search(r"(?<!\\)<", outside) and not re.search(r"(?<!\\)\]\(", outside)
    assert not re.search(r"^# c", outside, flags=re.MULTILINE)
    rows = [line for line in outside.splitlines() if line.startswith("|") and "120" in line]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in rows] == [6]
