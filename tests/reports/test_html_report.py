"""The report holds what the record holds, as text and never as markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from fake_study import fake_study

from hornbook.records import HardText, LabelScore, StudyRecord, TechniqueResult
from hornbook.reports import html, readable

EVIL = "<script>document.documentElement.dataset.planted='yes'</script>\"'><img src=x onerror=a()>"
VOID = {"meta", "br", "img", "link", "input", "hr"}
_TAGS = """
    html head meta title style body header p span h1 h2 h3 bdi dl div dt dd small nav a main section
    table thead tbody tr th td svg text rect path circle g defs use clippath b i br figure
    figcaption ol ul li blockquote details summary pre code footer tspan
"""
ALLOWED = set(_TAGS.split())


class Page(HTMLParser):
    """Collects tags, attributes and text, and notes a tag that closes another than it should."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words, self.crossed, self.open = set(), [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.crossed.append(tag)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def planted(text: str) -> StudyRecord:
    """A record in which every string that comes from users or their data is the given one."""
    record = fake_study()
    hard = record.hardest[0].model_copy(
        update={"id": text, "text": text, "truth": [text], "predicted": [text]}
    )
    rename = {"majority": text}
    summary = record.summary.model_copy(
        update={
            "advice": text,
            "command": text,
            "dataset": text,
            "leaderboard": [
                row.model_copy(update={"technique": rename.get(row.technique, row.technique)})
                for row in record.summary.leaderboard
            ],
        }
    )
    audit = record.audit
    shown = {"first_id": text, "second_id": text, "excerpt": text}
    return record.model_copy(
        update={
            "summary": summary,
            "dataset": record.dataset.model_copy(
                update={"name": text, "source": text, "licence": text, "notes": [text]}
            ),
            "audit": audit.model_copy(
                update={
                    "findings": [text],
                    "leaks": [audit.leaks[0].model_copy(update=shown)],
                    "duplicates": [audit.leaks[0].model_copy(update=shown)],
                    "label_issues": [
                        audit.label_issues[0].model_copy(
                            update={
                                "id": text,
                                "given": [text],
                                "suggested": [text],
                                "excerpt": text,
                            }
                        )
                    ],
                    "label_counts": [audit.label_counts[0].model_copy(update={"label": text})],
                    "co_occurrence": [(text, text, 1)],
                }
            ),
            "per_label": {
                rename.get(name, name): [s.model_copy(update={"label": text}) for s in scores[:1]]
                for name, scores in record.per_label.items()
            },
            "confusions": {
                name: [c.model_copy(update={"truth": text, "predicted": text}) for c in found]
                for name, found in record.confusions.items()
            },
            "hardest": [hard],
            "mislabelled": [hard],
            "settings": {text: text, "list": [text]},
            "hashes": {text: text},
            "results": [
                *record.results,
                TechniqueResult(
                    technique=text,
                    repeat=0,
                    status="failed",
                    message=text,
                    decision=text,
                    settings={text: text},
                ),
            ],
        }
    )


def violations(page: Page) -> list[str]:
    """What a report may not contain: foreign tags, handlers, addresses outside itself."""
    found = sorted(page.tags - ALLOWED) + page.crossed + page.open
    for tag, name, value in page.attributes:
        outside = name in {"src", "href", "xlink:href"} and not (value or "").startswith("#")
        if name.startswith("on") or outside:
            found.append(f"{tag} {name}={value}")
    return found


def test_planted_markup_is_text(tmp_path):
    html.write_report(planted(EVIL), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert violations(page) == []
    assert EVIL in page.text


def test_without_escaping_the_same_check_fails(monkeypatch):
    made = html.environment()
    made.autoescape = False
    monkeypatch.setattr(html, "environment", lambda: made)
    assert "script" in violations(Page(html.render(planted(EVIL))))


@pytest.mark.parametrize(
    "text",
    [
        "x" * 200_000,
        "word " * 40_000,
        "\x00\x01\x1b[31m\x7f\x85\ud800\uffff",
        "שלום ‮abc⁦def",
        "{{ 7 * 7 }}{% raw %}",
        "</style></title><!--",
        "'\"`&amp;",
        "",
    ],
    ids=["long word", "long text", "control", "bidi", "template", "closing", "quotes", "empty"],
)
def test_any_text_can_be_shown(text, tmp_path):
    html.write_report(planted(text), tmp_path / "report.html")
    written = (tmp_path / "report.html").read_bytes()
    page = Page(written.decode("utf-8"))
    assert violations(page) == []
    assert " ".join(readable.printable(text[:60]).split()) in page.text
    assert not any(byte < 0x20 and byte not in b"\n\t" for byte in written)
    assert len(written) < 400_000  # of which the command, which stands there whole, is half


def test_the_policy_forbids_scripts_and_requests():
    page = Page(html.render(fake_study()))
    policy = next(v for t, n, v in page.attributes if t == "meta" and "default-src" in (v or ""))
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "script-src" not in rules and rules["img-src"] == "data:"


def test_the_same_record_gives_the_same_bytes():
    record = fake_study()
    again = StudyRecord.model_validate_json(record.model_dump_json())
    assert html.render(record) == html.render(again)


def test_every_part_of_the_study_is_told():
    record = fake_study()
    text = Page(html.render(record)).text
    expected = [
        record.summary.advice,
        record.summary.command,
        *(row.technique for row in record.summary.leaderboard),
        *(r.message for r in record.summary.not_finished),
        *record.audit.findings,
        *record.dataset.notes,
        record.dataset.sha256,
        *record.hashes.values(),
        record.environment.processor,
        "0.826–0.866",
        "recommended",
        "estimated, not measured",
        "2 runs did not finish.",
    ]
    assert [part for part in expected if part not in text] == []


def test_contents_lead_to_sections():
    page = Page(html.render(fake_study()))
    ids = {value for _, name, value in page.attributes if name == "id"}
    links = {v[1:] for tag, name, v in page.attributes if tag == "a" and name == "href"}
    assert links and links <= ids


def test_more_than_forty_labels_go_into_a_fold():
    scores = [
        LabelScore(label=f"label-{i:03}", support=500 - i, precision=0.5, recall=0.5, f1=0.5)
        for i in range(90)
    ]
    text = html.render(fake_study(per_label={"ensemble": scores}))
    assert text.index("label-039") < text.index("50 rarer labels") < text.index("label-040")


def test_a_long_text_is_cut_and_the_rest_counted():
    hard = HardText(
        id="1",
        text="y" * 200_000,
        truth=[],
        predicted=["a"],
        n_wrong=1,
        n_techniques=1,
        probability=0.5,
    )
    text = Page(html.render(fake_study(hardest=[hard]))).text
    assert "Whole text, 200,000 characters" in text
    assert "196,000 more characters are not shown" in text


def test_a_study_in_which_nothing_finished_still_reports():
    record = fake_study()
    failed = [TechniqueResult(technique="lora", repeat=0, status="failed", message="no memory")]
    summary = record.summary.model_copy(
        update={"leaderboard": [], "best": None, "recommended": None, "not_finished": failed}
    )
    text = html.render(
        fake_study(
            summary=summary, results=failed, per_label={}, confusions={}, hardest=[], mislabelled=[]
        )
    )
    assert "No technique finished." in text and "no memory" in text
    assert violations(Page(text)) == []


def test_scores_that_are_not_numbers_do_not_break_the_page():
    record = fake_study()
    nan = float("nan")
    first = record.summary.leaderboard[0].model_copy(
        update={"ci_low": nan, "ci_high": nan, "fit_seconds": 0.0, "p50_ms": nan}
    )
    rows = [first, *record.summary.leaderboard[1:]]
    text = html.render(fake_study(summary=record.summary.model_copy(update={"leaderboard": rows})))
    assert "nan" not in Page(text).text.split()
