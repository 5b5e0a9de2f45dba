"""hornbook run: every task, with whatever its texts come from; tiny models of random weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from typer.main import get_command

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import ConfigError, DataError, UnknownNameError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.counting import count
from hornbook.models.counting_gpt import CountingGPT, CountingGPTConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.heads import (
    HeadConfig,
    SequenceClassifier,
    SpanFinder,
    TokenClassifier,
    bare_trunk,
)
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPTConfig
from hornbook.recipes.apply import USES
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.train import train_tokenizer

TEXT = "ada met charles in london. the price of wheat and corn rose today; gold and tin fell. "
TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
COMMAND = get_command(app)  # made once: there are many calls
TAGS = ("B-PER", "I-PER", "B-LOC", "I-LOC")
ONE, OTHER = "ada met charles in london.", "the price of wheat rose."
SUMS = "Ada met Charles. It rained. Ada met Charles in London, and wheat rose."


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a model for each kind of head."""
    folder = tmp_path_factory.mktemp("models")
    words = train_tokenizer("wordpiece", lambda: [TEXT] * 20, 160)
    pieces = train_tokenizer("bpe", lambda: [TEXT + "\nuser assistant"] * 20, 320, special=SPECIAL)
    torch.manual_seed(0)

    def config():
        return BertConfig(words.vocab_size, 64, 2, 2, 32, 64)

    def llama():
        return Llama(LlamaConfig(pieces.vocab_size, 96, 2, 2, 16, d_ff=24))

    def labels(*names):
        return SequenceClassifier(Bert(config()), HeadConfig(config(), names))

    encoders = {
        "labels": labels("grain", "metal"),
        "nli": labels("contradiction", "entailment", "neutral"),
        "tags": TokenClassifier(Bert(config()), HeadConfig(config(), ("O", *TAGS), "token")),
        "spans": SpanFinder(Bert(config()), HeadConfig(config(), ("start", "end"), "span")),
        "masked": MaskedLM(Bert(config())),
        "encoder": Bert(config()),
    }
    for name, model in encoders.items():
        _save(folder / name, model, words, spread=1.0 if name == "tags" else 0.3)
    pair = EncoderDecoder(EncoderDecoderConfig(pieces.vocab_size, 48, 1, 2, 32, 64))
    _save(folder / "pairs", pair, pieces)
    chats = {"template": ChatTemplate(TURNS), "stop_tokens": [0, 2]}
    _save(folder / "chats", llama(), pieces, **chats)
    trunk = bare_trunk(llama())
    head = HeadConfig(trunk.config, ("reward",), problem="regression")
    _save(folder / "marks", SequenceClassifier(trunk, head), pieces, **chats)
    trunk = ModernGPTConfig(pieces.vocab_size, 32, n_layers=1, n_heads=1, d_model=16, d_ff=32)
    counted = count(np.array(pieces.encode([TEXT] * 20)).reshape(-1), pieces.vocab_size)
    network = CountingGPT(CountingGPTConfig(trunk, orders=(2, 3)), counted.counts)
    bundle.save(folder / "counting", network, pieces)
    return folder


def _save(folder, model, tokenizer, *, spread=0.3, **more):
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=spread)
    bundle.save(folder, model, tokenizer, **more)


@pytest.fixture(autouse=True)
def plain_numbers(monkeypatch):
    monkeypatch.setenv("HORNBOOK_PRECISION", "float32")
    monkeypatch.setenv("HORNBOOK_DEVICE", "cpu")


def hornbook(*words, **options):
    result = CliRunner().invoke(COMMAND, ["run", *(str(w) for w in words)], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def objects(*words, **options):
    told = hornbook(*words, "--json", **options)
    return [json.loads(line) for line in told.stdout.splitlines()]


# Every task, from everything: its model, what it needs besides, lines of text, the same as rows of
# a table, what a finding holds, and how many there are.

FEW = ("--tokens", 6)
SEVERAL = ("--label", "wheat,gold")
OPTIONS = ("--option", "london", "--option", "corn")
ANSWERS = [{"prompt": ONE, "completion": OTHER}, {"prompt": ONE, "completion": "no"}]
TEXTS = [{"text": ONE}, {"text": OTHER}]
KINDS = {
    "classify": ("labels", (), [ONE, OTHER], TEXTS, "label", 2),
    "pairs": ("nli", (), [ONE, OTHER], [{"first": ONE, "second": OTHER}], "label", 1),
    "tag": ("tags", (), [ONE, OTHER], TEXTS, "spans", 2),
    "anonymize": ("tags", (), [ONE, OTHER], TEXTS, "anonymized", 2),
    "answer": (
        "spans", ("--context", TEXT), ["who met?", "what fell?"],
        [{"question": "who met?", "context": TEXT}, {"question": "what?", "context": ONE}],
        "answer", 2,
    ),
    "fill": (
        "masked", (), ["ada met ___", "[MASK] fell"],
        [{"text": "ada met ___"}, {"text": "[MASK] fell"}], "guesses", 2,
    ),
    "translate": ("pairs", FEW, [ONE, OTHER], TEXTS, "written", 2),
    "summarize": ("pairs", FEW, [ONE, OTHER], TEXTS, "written", 2),
    "choose": (
        "chats", OPTIONS, [ONE, OTHER],
        [{"question": ONE, "options": '["it rose; it fell, today", "gold"]'},
         {"question": OTHER, "options": "tin, or so|gold"}],
        "choice", 2,
    ),
    "reward": ("marks", (), [ONE, OTHER, "no"], ANSWERS, "answers", 1),
    "zero-shot": (
        "encoder", SEVERAL, [ONE, OTHER],
        [{"text": ONE, "labels": "wheat;gold"}, {"text": OTHER, "labels": '["tin", "a, b"]'}],
        "shares", 2,
    ),
    "generate": ("chats", FEW, [ONE, OTHER], TEXTS, "written", 2),
    "chat": ("chats", FEW, [ONE, OTHER], TEXTS, "written", 2),
    "embed": ("encoder", (), [ONE, OTHER], TEXTS, "vector", 2),
    "similarity": ("encoder", (), [ONE, OTHER], TEXTS, "cosine", 1),
}  # fmt: skip
NOT_WITH_TABLES = ("--context", "--label", "--option")


def test_a_network_on_counts_writes_and_one_that_guesses_hidden_words_does_not(models):
    (found,) = objects("generate", models / "counting", ONE, *FEW)
    assert found["written"]
    with pytest.raises(ConfigError, match="can't generate"):
        hornbook("generate", models / "masked", ONE)


@pytest.mark.parametrize("source", ["argument", "lines", "standard input", "csv", "jsonl"])
@pytest.mark.parametrize("task", USES)
def test_every_task_reads_from_everything(task, source, models, tmp_path):
    model, more, lines, rows, holds, n_found = KINDS[task]
    text = "".join(line + "\n" for line in lines)
    of_lines = ["--lines"] if task == "summarize" else []
    piped = {}
    if source == "argument":
        given = lines
    elif source == "lines":
        (tmp_path / "texts.txt").write_text(text)
        given = ["--file", tmp_path / "texts.txt", *of_lines]
    elif source == "standard input":
        given, piped = ["-", *of_lines], {"input": text}
    else:
        given = ["--file", tmp_path / f"rows.{source}"]
        given[1].write_text(as_table(rows, source))
        more = () if more and more[0] in NOT_WITH_TABLES else more
    found = objects(task, models / model, *given, *more, **piped)
    assert [holds in one for one in found] == [True] * n_found
    if source == "argument":
        assert hornbook(task, models / model, *given, *more).stdout.strip()


def as_table(rows, form):
    if form == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    quoted = [['"' + value.replace('"', '""') + '"' for value in row.values()] for row in rows]
    return "\n".join([",".join(rows[0]), *map(",".join, quoted)]) + "\n"


# Options of a question, in every form that is documented


@pytest.mark.parametrize(
    "table",
    [
        'question,options\nwho?,"[""ada; or, so"", ""tin""]"\n',
        'ctx,choices\nwho?,"ada; or, so|tin"\n',
        'sentence,A,B\nwho?,"ada; or, so",tin\n',
        'text,options,answer\nwho?,"ada; or, so|tin",1\n',
    ],
)
def test_options_are_read_as_where_they_are_learnt(table, models, tmp_path):
    (tmp_path / "q.csv").write_text(table)
    (found,) = objects("choose", models / "chats", "--file", tmp_path / "q.csv")
    assert found["text"] == "who?"
    assert [one["option"] for one in found["options"]] == ["ada; or, so", "tin"]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("question,body\nwho?,no\n", ()),
        ("prompt,note\nwho?,no\n", ()),
        ("text,ctx\nno,who?\n", ()),
        ("stem,text\nwho?,no\n", ("--column", "context=stem")),
        ("stem,text\nwho?,no\n", ("--column", "text=stem")),
    ],
)
def test_the_context_is_the_same_column_whoever_gives_the_options(table, column, models, tmp_path):
    (tmp_path / "q.csv").write_text(table)
    (found,) = objects("choose", models / "chats", *OPTIONS, "--file", tmp_path / "q.csv", *column)
    assert found["text"] == "who?"
    rows = [f"{row},{end}" for row, end in zip(table.split(), ("A,B", "ada,tin"), strict=True)]
    (tmp_path / "q.csv").write_text("\n".join(rows))
    (found,) = objects("choose", models / "chats", "--file", tmp_path / "q.csv", *column)
    assert found["text"] == "who?"


def test_a_row_without_two_options_is_named(models, tmp_path):
    (tmp_path / "q.csv").write_text("body,options\nwho?,ada|tin\nwhat?,tin\n")
    with pytest.raises(DataError, match="line 3: there are 1 options"):
        hornbook("choose", "m", "--file", tmp_path / "q.csv", "--column", "text=body")


# Terminals


@pytest.mark.parametrize(
    ("task", "model", "words"),
    [
        ("anonymize", "tags", ("{}",)),
        ("tag", "tags", ("{}",)),
        ("reward", "marks", ("who?", "{}", "no {}")),
        ("classify", "labels", ("{}", "no {}")),
        ("choose", "chats", (ONE, "--option", "{}", "--option", "tin")),
        ("similarity", "encoder", ("{}", "no {}")),
    ],
)
def test_a_terminal_is_not_moved_by_a_text(task, model, words, models):
    told = hornbook(task, models / model, *(word.format("ada \x1b[2J\x9bfell") for word in words))
    assert "\x1b" not in told.stdout and "\x9b" not in told.stdout and "�" in told.stdout


# Articles


def test_an_article_is_one_text_unless_its_lines_are(tmp_path):
    (tmp_path / "article.md").write_text(SUMS.replace(". ", ".\n"))
    told = hornbook("summarize", "textrank", "--file", tmp_path / "article.md", "--sentences", 2)
    assert told.stdout == "Ada met Charles. Ada met Charles in London, and wheat rose.\n"
    assert "read as one text" in told.stderr
    by_line = hornbook("summarize", "textrank", "-", "--lines", input="One. Two.\nThree.\n")
    assert by_line.stdout == "One. Two.\nThree.\n" and not by_line.stderr


def test_any_task_can_read_a_file_whole(models, tmp_path):
    (tmp_path / "t.txt").write_text(f"{ONE}\n{OTHER}\n")
    (found,) = objects("tag", models / "tags", "--file", tmp_path / "t.txt", "--whole")
    assert found["text"] == f"{ONE}\n{OTHER}\n"


def test_a_model_s_summary_has_no_number_of_sentences(models):
    with pytest.raises(ConfigError, match="is for textrank"):
        hornbook("summarize", models / "pairs", ONE, "--sentences", 2)
    with pytest.raises(ConfigError, match="textrank takes whole sentences"):
        hornbook("summarize", "textrank", ONE, "--beams", 2)


# What makes no difference is refused


GIVEN = {
    "top": ("--top", 2),
    "n_tokens": ("--tokens", 4),
    "temperature": ("--temperature", 0),
    "seed": ("--seed", 0),
    "n_beams": ("--beams", 2),
    "system": ("--system", "short"),
    "aggregation": ("--aggregation", "max"),
    "hypothesis": ("--hypothesis", "on {label}"),
    "several": ("--several",),
    "n_sentences": ("--sentences", 1),
}


@pytest.mark.parametrize("task", USES)
def test_what_a_task_has_no_use_for_is_refused(task):
    for name, words in GIVEN.items():
        if name not in USES[task].heeds:
            with pytest.raises(ConfigError, match=f"{task} has no use for {words[0]}"):
                hornbook(task, "m", "text", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("classify", "m", "text", "--column", "text=body"), "--column is for tables"),
        (("classify", "m", "text", "--whole"), "are for a file of text"),
        (("classify", "m", "--file", "t.csv", "--lines"), "a table has rows"),
        (("classify", "m", "text", "--answer", "a"), "reads no answers"),
        (("reward", "m", "prompt"), "there is one text"),
    ],
)
def test_what_does_not_fit_the_source_is_refused(words, said):
    with pytest.raises(ConfigError, match=said):
        hornbook(*words)


def test_a_column_that_the_task_does_not_read_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,body\na,b\n")
    with pytest.raises(UnknownNameError, match="reads no column 'txt'") as caught:
        hornbook("classify", "m", "--file", tmp_path / "t.csv", "--column", "txt=body")
    assert "Did you mean 'text'" in caught.value.hint


# Rewards


def test_answers_are_put_in_order_and_marked_alike_however_they_come(models, tmp_path):
    answers = [f"{name} rose" for name in ("wheat", "corn", "gold", "tin", "ada", "it", "a", "b")]
    answers += ["today", "and in london"]  # more than are read at once
    (one,) = objects("reward", models / "marks", "who?", *answers)
    marks = [a["reward"] for a in one["answers"]]
    assert marks == sorted(marks, reverse=True) and len(set(marks)) > 5
    rows = [{"prompt": "who?", "completion": answer} for answer in answers]
    (tmp_path / "rows.jsonl").write_text(
        as_table([*rows, {"prompt": "b", "completion": "c"}], "jsonl")
    )
    grouped, other = objects("reward", models / "marks", "--file", tmp_path / "rows.jsonl")
    assert grouped["answers"] == one["answers"] and other["prompt"] == "b"
    alone = objects("reward", models / "marks", "who?", "--answer", answers[4])
    same = next(a for a in one["answers"] if a["answer"] == answers[4])
    assert alone[0]["answers"][0]["reward"] == pytest.approx(same["reward"], abs=2e-4)
    messages = [{"role": "user", "content": "who?"}]
    lists = [{"prompt": messages, "answers": answers}]
    (tmp_path / "lists.jsonl").write_text(as_table(lists, "jsonl"))
    (listed,) = objects("reward", models / "marks", "--file", tmp_path / "lists.jsonl")
    assert listed["answers"] == one["answers"] and listed["prompt"] == messages
    pair = [{"prompt": "who?", "chosen": answers[0], "rejected": answers[1]}]
    (tmp_path / "pair.jsonl").write_text(as_table(pair, "jsonl"))
    (both,) = objects("reward", models / "marks", "--file", tmp_path / "pair.jsonl")
    assert {a["answer"] for a in both["answers"]} == set(answers[:2])


def test_a_classifier_is_no_reward_model(models):
    with pytest.raises(ConfigError, match="can't reward"):
        hornbook("reward", models / "labels", "a", "b")


# Zero-shot


def test_entailment_labels_texts(models):
    """Softmax over the labels' entailment for one; against contradiction for several."""
    sentences = {name: f"on {name}." for name in ("wheat", "gold")}
    logits = {}
    for name, sentence in sentences.items():
        (pair,) = objects("pairs", models / "nli", ONE, sentence)
        logits[name] = {k: torch.tensor(v).log() for k, v in pair["probabilities"].items()}
    words = (
        "zero-shot",
        models / "nli",
        ONE,
        "--label",
        "wheat,gold",
        "--hypothesis",
        "on {label}.",
        "--as-it-is",
    )
    (several,) = objects(*words, "--several")
    for name, share in several["shares"].items():
        ends = torch.stack([logits[name]["entailment"], logits[name]["contradiction"]])
        assert share == pytest.approx(ends.softmax(0)[0].item(), abs=2e-3)
    assert several["labels"] == [n for n, share in several["shares"].items() if share >= 0.5]
    (one,) = objects(*words)
    assert sum(one["shares"].values()) == pytest.approx(1, abs=1e-3)
    assert one["label"] == max(one["shares"], key=one["shares"].get)


@pytest.mark.parametrize("model", ["encoder", "nli", "chats"])
def test_the_same_is_taken_off_whatever_the_text(model, models):
    """What lies between the odds of two labels as they are and as they are said."""
    words = ("zero-shot", models / model, ONE, OTHER, "--labels", "wheat,gold")

    def log_odds(*more):
        shares = [found["shares"] for found in objects(*words, *more)]
        return np.array([np.log(one["wheat"] / one["gold"]) for one in shares])

    off = log_odds("--as-it-is") - log_odds()
    assert abs(off[0]) > 0.1 and off == pytest.approx([off[0]] * 2, abs=0.03)  # rounded


def test_labelled_texts_say_what_they_brought(models, tmp_path):
    rows = [{"text": t * (1 + i), "label": label} for i in range(6)
            for t, label in ((ONE, "wheat"), (OTHER, "gold"))]  # fmt: skip
    (tmp_path / "some.jsonl").write_text(as_table(rows, "jsonl"))
    words = ("zero-shot", models / "encoder", ONE, "--calibrate", tmp_path / "some.jsonl")
    told = hornbook(*words, "--label", "gold,wheat")
    assert "calibrated on 12 labelled texts: temperature" in told.stderr
    with pytest.raises(ConfigError, match="calibrated were the shares of gold, wheat"):
        hornbook(*words, "--label", "gold,tin")


def test_entailment_is_asked_of_the_models_that_know_it(models):
    asked = ("zero-shot", models / "encoder", ONE, "--label", "a,b")
    with pytest.raises(ConfigError, match="knows no entailment"):
        hornbook(*asked, "--several")
    with pytest.raises(ConfigError, match="goes by cosines"):
        hornbook(*asked, "--hypothesis", "on {label}")
    with pytest.raises(ConfigError, match="can't zero-shot"):
        hornbook("zero-shot", models / "tags", ONE, "--label", "a,b")
    with pytest.raises(ConfigError, match="has no label 'entailment'"):
        hornbook("zero-shot", models / "labels", ONE, "--label", "a,b")
    with pytest.raises(ConfigError, match="no place for a label"):
        hornbook("zero-shot", models / "nli", ONE, "--label", "a,b", "--hypothesis", "on it")


# Similar pairs


def test_the_most_alike_are_told_and_how_many_there_are(models):
    texts = ["ada", "charles", "london", "wheat corn", "gold tin", "the price", "ada met", "rose"]
    told = hornbook("similarity", models / "encoder", *texts)
    assert len(told.stdout.splitlines()) == 20 and "20 most alike of 28 pairs" in told.stderr
    few = objects("similarity", models / "encoder", *texts, "--top", 3)
    every = objects("similarity", models / "encoder", *texts, "--top", 100)
    assert len(every) == 28 and few == every[:3]


# Anonymizing


def test_what_is_found_is_replaced_and_no_longer_said(models):
    (found,) = objects("anonymize", models / "tags", TEXT)
    (tagged,) = objects("ner", models / "tags", TEXT)
    assert found["replaced"] and "text" not in found
    at = [(span["start"], span["end"]) for span in tagged["spans"]]
    assert [(one["start"], one["end"]) for one in found["replaced"]] == at
    restored = found["anonymized"]
    for one in reversed(found["replaced"]):
        mark = f"[{one['label']}]"
        assert restored[one["at"] :].startswith(mark)
        behind = restored[one["at"] + len(mark) :]
        restored = restored[: one["at"]] + TEXT[one["start"] : one["end"]] + behind
    assert restored == TEXT and len(found["replaced"]) > 1


def test_pieces_of_names_are_not_left(models):
    with pytest.raises(ConfigError, match="would leave parts of names"):
        hornbook("anonymize", models / "tags", TEXT, "--aggregation", "simple")
