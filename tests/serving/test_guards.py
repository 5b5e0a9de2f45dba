"""Guards: what they catch, what they leave alone, and that pieces hide nothing from them."""

from __future__ import annotations

import random

import openai
import pytest
from fake_batch import FakeBatch
from small_server import events_of, serving, text_of

from hornbook.errors import ConfigError
from hornbook.serving.guards import Guards, mask, read_phrases

PERSONAL = {
    "Write to jo.doe+x@mail.example.org today": "Write to [EMAIL] today",
    "card 4111 1111 1111 1111, thanks": "card [CARD], thanks",
    "card 5500-0000-0000-0004": "card [CARD]",
    "pay to DE89 3704 0044 0532 0130 00 now": "pay to [ACCOUNT] now",
    "pay to GB82WEST12345698765432": "pay to [ACCOUNT]",
    "call +44 (0)20 7946 0958": "call [PHONE]",
    "call 0049 30 901820": "call [PHONE]",
    "call (202) 555-0143 or 202-555-0143": "call [PHONE] or [PHONE]",
    "from 192.168.0.17 at": "from [ADDRESS] at",
    "number 078-05-1120.": "number [SECURITY NUMBER].",
}
ORDINARY = [
    "In 1984 and 2001 there were 1,234,567 of them, or 3.14159265358979.",
    "4111 1111 1111 1112 is no card, DE00 3704 0044 0532 0130 00 no account",
    "version 1.2.3.4.5, pages 100-200, ratio 1:2, me @ home, a@b",
    "2024-05-17T12:30:00 and 555-0143",
]


@pytest.mark.parametrize(("text", "masked"), PERSONAL.items())
def test_personal_data_is_masked(text, masked):
    assert mask(text) == (masked, masked.count("["))


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_numbers_are_left_alone(text):
    assert mask(text) == (text, 0)


def said(guards: Guards, pieces: list[str]) -> tuple[str, str | None, dict[str, int]]:
    counts: dict[str, int] = {}
    answer = guards.answer(lambda name, n: counts.update({name: counts.get(name, 0) + n}))
    out = "".join(answer.feed(piece, last=i == len(pieces) - 1) for i, piece in enumerate(pieces))
    return out, answer.finish, counts


def cut(text: str, draw: random.Random) -> list[str]:
    places = sorted(draw.sample(range(len(text) + 1), 12))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)])]


@pytest.mark.parametrize("seed", range(20))
def test_pieces_hide_nothing(seed):
    draw = random.Random(seed)
    filler = " ".join(draw.choices(["so", "many", "words", "12", "3.5", "(here)"], k=60))
    text, masked = draw.choice(list(PERSONAL.items()))
    whole = f"{filler}: {text}, {filler}"
    out, _, counts = said(Guards(personal_data=True), cut(whole, draw))
    assert out == f"{filler}: {masked}, {filler}"
    assert counts["personal_data"] == masked.count("[")
    one_by_one, _, _ = said(Guards(personal_data=True), list(whole))
    assert one_by_one == out


@pytest.mark.parametrize(
    "text",
    [
        "then the Secret Project, as we know",
        "the SECRET\n project",
        "ＳＥＣＲＥＴ　ｐｒｏｊｅｃｔ",
        "sec\u200bret-pro\u00adject",
    ],
)
def test_a_phrase_is_found_however_it_is_written(text):
    guards = Guards(phrases=("secret project",))
    assert guards.refused(text)
    assert not guards.refused("a secret. Projects")
    draw = random.Random(0)
    whole = "and so on " * 20 + text + " and so on" * 20
    out, finish, counts = said(guards, cut(whole, draw))
    assert finish == "content_filter" and counts == {"phrases": 1}
    assert "roject" not in out and len(out) > 50


def test_a_guard_of_length_cuts_to_the_character():
    out, finish, counts = said(Guards(longest=25), ["twelve chars"] * 5)
    assert (len(out), finish, counts) == (25, "length", {"longest": 1})
    assert said(Guards(longest=24), ["twelve chars"] * 2)[1] is None


def test_guards_of_a_server():
    guards = Guards(personal_data=True, phrases=("secret project",))
    script = "Mail me: jo@example.org. " + "Well, " * 40 + "the secret project is next."
    with serving(FakeBatch(script=script), guards=guards) as server:
        client = server.client
        refused = client.chat("Tell me of the SECRET project!")
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "content_filter"
        whole = client.chat(max_tokens=400).json()["choices"][0]
        assert whole["finish_reason"] == "content_filter"
        assert whole["message"]["content"].startswith("Mail me: [EMAIL]. Well, ")
        assert "project" not in whole["message"]["content"]
        events = events_of(client.chat(max_tokens=400, stream=True).text)
        assert text_of(events) == whole["message"]["content"]
        assert client.chat(logprobs=True).status_code == 400
        assert client.complete([1, 2]).status_code == 400  # tokens that no guard has read
        asked = client.complete("from jo@example.org", max_tokens=0, echo=True).json()
        assert asked["choices"][0]["text"] == "from [EMAIL]"
        metrics = client.get("/metrics").text
        assert 'hornbook_guard_cases_total{guard="phrases"} 3.0' in metrics
        assert 'hornbook_guard_cases_total{guard="personal_data"} 3.0' in metrics


def test_a_cut_answer_that_should_be_json_is_counted():
    with serving(FakeBatch(script='{"a": 1}'), schema={"type": "object"}) as server:
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0)
        ask = {"model": "tiny", "messages": [{"role": "user", "content": "a"}]}
        whole = client.chat.completions.create(**ask).choices[0]
        assert (whole.message.content, whole.finish_reason) == ('{"a": 1}', "stop")
        assert 'guard="schema"} 0.0' in server.client.get("/metrics").text
        client.chat.completions.create(**ask, max_tokens=3)
        list(client.chat.completions.create(**ask, max_tokens=3, stream=True))
        assert 'guard="schema"} 2.0' in server.client.get("/metrics").text


def test_lists_of_phrases(tmp_path):
    path = tmp_path / "phrases"
    path.write_text("# not these\nsecret project\n\n  other  one \n...\n")
    assert read_phrases(path) == ("secret project", "other  one")
    path.write_text("# none\n")
    for bad in (path, tmp_path / "missing", tmp_path):
        with pytest.raises(ConfigError):
            read_phrases(bad)
