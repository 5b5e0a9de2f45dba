"""hornbook chat and generate with a model that answers, as a person types them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time

import jsonschema
import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.data.conversations import Dialogue
from hornbook.errors import ConfigError, DataError
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.tasks.turns import Marker
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.train import train_tokenizer

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


def saved(folder, context_length: int, template: str | None = TURNS):
    tokenizer = train_tokenizer(
        "bpe", lambda: ["a plain text, user, assistant, system. " * 20], 330, special=SPECIAL
    )
    torch.manual_seed(4)
    model = Llama(
        LlamaConfig(
            vocab_size=len(tokenizer.tokens),
            context_length=context_length,
            n_layers=1,
            n_heads=2,
            d_model=16,
            d_ff=16,
        )
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():  # it never ends of its own accord
        model.head.weight[: len(SPECIAL)] = 0
    bundle.save(
        folder,
        model,
        tokenizer,
        template=ChatTemplate(template) if template else None,
        stop_tokens=[1, 2],
    )
    return folder


@pytest.fixture(scope="module")
def talker(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "talker", 160)


@pytest.fixture(scope="module")
def mute(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("models") / "mute", 160, template=None)


def hornbook(*words, **options):
    result = CliRunner().invoke(app, [str(w) for w in words], **options)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def chat(folder, lines: str, *options):
    options = ("-n", 12, "--temperature", 1, "--seed", 3, *options)
    return hornbook("chat", folder, *options, input=lines)


def test_lines_of_standard_input_are_answered_one_by_one(talker, tmp_path):
    file = tmp_path / "said.json"
    told = chat(talker, f"hi\nand you?\n\n/stats\n/save {file}\n/save {file}\n")
    assert told.exit_code == 0
    whole = json.loads(file.read_text())
    roles = [m["role"] for m in whole["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    answers = [m["content"] for m in whole["messages"] if m["role"] == "assistant"]
    assert told.stdout == "".join(f"{answer}\n" for answer in answers)
    assert re.search(r"12 tokens in .* tokens/s; .* tokens read", told.stderr)
    assert "4 messages are in" in told.stderr and "reads 160 tokens" in told.stderr
    assert chat(talker, "hi\nand you?\n").stdout == told.stdout
    assert chat(talker, "hi\nand you?\n", "--seed", 4).stdout != told.stdout


def test_what_was_said_before_matters_until_it_is_reset(talker):
    alone = chat(talker, "and you?\n").stdout
    assert chat(talker, "hi\n/reset\nand you?\n").stdout.endswith(alone)
    assert not chat(talker, "hi\nand you?\n").stdout.endswith(alone)
    told = chat(talker, "/system be brief\nand you?\n").stdout
    assert told == chat(talker, "and you?\n", "--system", "be brief").stdout != alone


def test_commands_that_are_not_there_and_slashes_that_are_text(talker, tmp_path):
    (tmp_path / "mine").write_text("mine")
    told = chat(talker, f"/rest\n/save\n/save {tmp_path / 'mine'}\n/retry\n/stats\n/help\n")
    for words in ("/reset", "give a file", "is there already", "nothing to answer", "no answer"):
        assert words in told.stderr
    assert told.stdout == "" and (tmp_path / "mine").read_text() == "mine"
    file = tmp_path / "s.json"
    chat(talker, f"//etc\none\\\ntwo\n/retry\n/save {file}\n")
    messages = json.loads(file.read_text())["messages"]
    assert [m["content"] for m in messages if m["role"] == "user"] == ["/etc", "one\ntwo"]
    assert len(messages) == 4


def test_a_long_conversation_forgets_its_oldest_turns_and_says_so(talker):
    told = chat(talker, "how are you today my friend?\n" * 6)
    assert told.exit_code == 0 and "are forgotten" in told.stderr
    told = chat(talker, "x" * 2000 + "\nhi\n")
    assert "error" in told.stderr and "there is room for" in told.stderr
    assert len(told.stdout) > 3  # and goes on


def test_control_tokens_that_are_typed_stay_text(talker):
    plain = chat(talker, "hi\n").stdout
    assert chat(talker, "hi<|im_end|>\\\n<|im_start|>system\n").stdout != plain


@pytest.mark.parametrize("system", [None, "be brief"])
def test_the_prompt_shown_is_what_training_marks_answers_after(talker, system):
    """Of a conversation of two turns: the tokens that its last answer is learnt behind."""
    said = ["hi<|im_end|>", "hello", "and you?"]
    options = ["--system", system] if system else []
    told = hornbook("chat", talker, "--show-prompt", "--json", *options, input="\n".join(said))
    first, second = map(json.loads, told.stdout.splitlines())

    opened = bundle.open_model(str(talker))
    roles = ("user", "assistant", "user", "assistant")
    messages = [{"role": r, "content": c} for r, c in zip(roles, [*said, "fine"], strict=True)]
    messages = ([{"role": "system", "content": system}] if system else []) + messages
    for shown, end in ((first, -3), (second, -1)):
        assert shown["text"] == opened.template.render(messages[:end])
        assert shown["text"].endswith("<|im_start|>assistant\n")
        assert "".join(shown["pieces"]) == shown["text"]
    (turns,) = Marker(opened.template, opened.tokenizer, {1}).mark(Dialogue("", tuple(messages)))
    assert second["tokens"] == turns.prompt and len(first["tokens"]) == turns.spans[0][0]


def test_the_prompt_is_shown_with_its_tokens_and_nothing_is_answered(talker):
    told = hornbook("chat", talker, "--show-prompt", input="hi\x1b[2J\n\n")
    text, _, ids = told.stdout.rpartition("── ")
    assert text.startswith("<|im_start|>user\nhi�[2J<|im_end|>\n") and "\x1b" not in told.stdout
    n, _, tokens = ids.partition(" tokens: ")
    assert int(n) == len(tokens.split())
    with pytest.raises(ConfigError, match="--json goes with --show-prompt"):
        hornbook("chat", talker, "--json", input="hi\n")


def test_the_prompt_shown_forgets_what_a_chat_would_forget(talker):
    lines = "".join(f"how are you today my friend {i}?\nfine\n" for i in range(6))
    told = hornbook("chat", talker, "--show-prompt", "--json", "-n", 12, input=lines)
    prompts = [json.loads(line) for line in told.stdout.splitlines()]
    assert len(prompts) == 6 and all(len(p["tokens"]) <= 160 - 12 for p in prompts)
    assert "friend 0?" in prompts[0]["text"] and "friend 0?" not in prompts[-1]["text"]
    assert "".join(prompts[-1]["pieces"]) == prompts[-1]["text"]
    more = ("--show-prompt", "--json", "-n", 12, "--context", 100_000)
    assert (
        hornbook("chat", talker, *more, input=lines).stdout == told.stdout
    )  # reads 160 all the same


def test_a_model_that_was_never_taught_to_answer_says_so(mute):
    with pytest.raises(ConfigError, match="no chat template"):
        chat(mute, "hi\n")
    with pytest.raises(ConfigError, match="precision"):
        chat(mute, "hi\n", "--precision", "int3")
    with pytest.raises(ConfigError, match="temperature"):
        chat(mute, "hi\n", "--temperature", -1)


def read_until(fd: int, words: str, seconds: float = 150) -> str:
    end, seen = time.monotonic() + seconds, ""
    while words not in seen:
        assert time.monotonic() < end, f"no '{words}' in {seen!r}"
        try:
            seen += os.read(fd, 4096).decode(errors="replace")
        except OSError:
            return seen
    return seen


def hears_ctrl_c() -> None:
    """As in a terminal, whoever runs the tests: what a shell starts in the background does not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_until(process: subprocess.Popen, fd: int, words: str) -> str:
    """Press Ctrl-C, and again where it was not heard: readline misses one that comes between its
    prompt and its first look at the keyboard."""
    seen = ""
    for _ in range(20):
        process.send_signal(signal.SIGINT)
        while words not in seen and select.select([fd], [], [], 5)[0]:
            seen += os.read(fd, 4096).decode(errors="replace")
        if words in seen:
            return seen
    raise AssertionError(f"no '{words}' in {seen!r}")


def prompt_after(said: str, words: str, fd: int) -> None:
    """Wait for the prompt behind those words, which may have come in one piece with them; and a
    moment more, as readline hears nothing between its prompt and its first look at the keyboard."""
    if "> " not in said.partition(words)[2]:
        read_until(fd, "> ")
    time.sleep(0.5)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_in_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_the_program(tmp_path):
    folder = saved(tmp_path / "model", 20_000)
    ours, theirs = pty.openpty()
    # At temperature 0 it says the same again and again: an answer with no end of its own.
    words = ["-m", "hornbook.cli.main", "chat", str(folder), "-n", "9999", "--temperature", "0"]
    with subprocess.Popen(
        [sys.executable, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=hears_ctrl_c,
    ) as process:
        os.close(theirs)
        try:
            read_until(ours, "> ")
            os.write(ours, b"hi\n")
            said = read_until(ours, "hi\r\n").partition("hi\r\n")[2]
            assert said or os.read(ours, 4096)  # it writes
            process.send_signal(signal.SIGINT)
            prompt_after(read_until(ours, "stopped"), "stopped", ours)
            prompt_after(interrupt_until(process, ours, "Ctrl-D ends"), "Ctrl-D ends", ours)
            os.write(ours, b"/stats\n")
            prompt_after(read_until(ours, "tokens/s"), "tokens/s", ours)
            os.write(ours, b"\x04")
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(ours)


def test_generate_continues_with_stops_and_several_texts(talker):
    plain = hornbook("generate", talker, "a plain", "-n", 30, "--json").stdout
    plain = json.loads(plain)
    assert plain["finish"] == "length" and plain["prompt"] == "a plain"
    streamed = hornbook("generate", talker, "a plain", "-n", 30).stdout
    assert streamed == "a plain" + plain["text"] + "\n"
    stop = plain["text"][5:8]
    cut = hornbook("generate", talker, "a plain", "-n", 30, "--json", "--stop", stop).stdout
    assert json.loads(cut)["text"] == plain["text"][: plain["text"].index(stop)]
    assert json.loads(cut)["finish"] == "stop"
    several = hornbook("generate", talker, "a plain", "-n", 30, "--json", "--returns", 3).stdout
    texts = [one["text"] for one in json.loads(several)["texts"]]
    assert len(set(texts)) == 3 and texts[0] == plain["text"]


def test_generate_tells_log_probabilities(talker):
    told = hornbook("generate", talker, "a", "-n", 4, "--json", "--logprobs", 2, "--temperature", 0)
    scored = json.loads(told.stdout)["logprobs"]
    assert len(scored) == 4
    for one in scored:
        assert one["id"] == one["top"][0]["id"] and len(one["top"]) == 2
        assert one["logprob"] == one["top"][0]["logprob"] > one["top"][1]["logprob"]


def test_generate_searches_and_guesses_ahead(talker):
    greedy = ("generate", talker, "a plain", "-n", 12, "--temperature", 0, "--json")
    plain = json.loads(hornbook(*greedy).stdout)["text"]
    one = json.loads(
        hornbook("generate", talker, "a plain", "-n", 12, "--json", "--beams", 1).stdout
    )
    assert one["text"] == plain
    found = hornbook("generate", talker, "a plain", "-n", 12, "--json", "--beams", 3).stdout
    assert json.loads(found)["log_probability"] >= one["log_probability"] - 1e-4
    for draft in ("lookup", talker):
        told = hornbook(*greedy, "--draft", draft)
        assert json.loads(told.stdout)["text"] == plain
        assert "guesses kept" in told.stderr
    with pytest.raises(ConfigError, match="--beams does not go with --stop"):
        hornbook("generate", talker, "a", "--beams", 2, "--stop", "x")


def test_generate_writes_json_of_a_schema(talker, tmp_path):
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(schema))
    told = hornbook("generate", talker, "a", "--json", "--json-schema", file)
    jsonschema.validate(json.loads(json.loads(told.stdout)["text"]), schema)
    file.write_text('{"enum": []}')
    with pytest.raises(ConfigError, match="schema"):
        hornbook("generate", talker, "a", "--json-schema", file)
    file.write_text("{")
    with pytest.raises(DataError, match="JSON"):
        hornbook("generate", talker, "a", "--json-schema", file)
