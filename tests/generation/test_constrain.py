"""What may stand where, and schemas that nothing meets."""

from __future__ import annotations

import pytest

from hornbook.errors import ConfigError
from hornbook.generation.constrain import json_object, json_schema
from hornbook.text.train import train_tokenizer

BPE = train_tokenizer("bpe", lambda: ["a plain text " * 20], 300)
PRINTABLE = "".join(chr(i) for i in range(32, 127)) + "\n"
CHARACTERS = train_tokenizer("character", lambda: [PRINTABLE], 200)


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": []},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "integer", "minimum": 5, "maximum": 3},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "nothing"},
        {"$ref": "#/nowhere"},
        {"type": "array", "uniqueItems": True},
        {"type": "string", "pattern": "("},
        {"const": float("nan")},
    ],
)
def test_a_schema_that_cannot_be_met_is_refused_at_once(schema):
    with pytest.raises(ConfigError, match="schema"):
        json_schema(schema, BPE)


@pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bytes", "characters"])
def test_only_what_can_be_finished_is_allowed(tokenizer):
    parser = json_object(tokenizer).start()
    written = '{"a": [1, true]}'
    for token in tokenizer.encode([written], special=False)[0]:
        assert not parser.may_end
        assert parser.allowed(len(tokenizer.tokens))[token]
        parser.take(token)
    assert parser.may_end and parser.must_end
    assert not parser.allowed(len(tokenizer.tokens)).any()


def test_other_tokens_are_not_allowed():
    allowed = json_object(BPE).start().allowed(len(BPE.tokens) + 7)  # a table larger than needed
    assert [BPE.tokens[i] for i in allowed.nonzero()[0]] == ["{"]


def test_parsers_of_one_grammar_do_not_share_their_place():
    grammar = json_object(BPE)
    first, second = grammar.start(), grammar.start()
    first.take(BPE.id_of("{"))
    assert second.allowed(300)[BPE.id_of("{")]


def test_tokens_that_do_not_simply_follow_each_other_are_refused():
    words = train_tokenizer("wordpiece", lambda: ["a plain text " * 20], 60)
    with pytest.raises(ConfigError, match="WordPiece"):
        json_object(words)
    few = train_tokenizer("character", lambda: ["abc"], 20)
    with pytest.raises(ConfigError, match="vocabulary"):
        json_object(few)
