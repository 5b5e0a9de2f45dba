"""What a chat model learns: answers, each with the one token that ends it, and nothing else."""

from __future__ import annotations

import json

import pytest
import torch

from hornbook import bundle as bundles
from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.bundle import Bundle
from hornbook.data.conversations import Dialogue, Problem
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.tasks.chat import Chat, ChatParts
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.chatml import END, with_chatml
from hornbook.text.tokenizer import Tokenizer
from hornbook.training.optimizers import adamw

THINKING = (  # leaves out of earlier answers what was thought, as DeepSeek's and Qwen's do
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'] if loop.last else m['content'].split('</think>')[-1] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny(tokenizer: Tokenizer, context_length: int = 400, **others) -> Llama:
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "n_heads": 2, "d_model": 32, "d_ff": 48, "tied_head": True}
    return Llama(LlamaConfig(tokenizer.vocab_size, context_length, **(sizes | others)))


@pytest.fixture(scope="module")
def speaker(byte_tokenizer) -> Bundle:
    """A model that knows ChatML."""
    tokenizer, template = with_chatml(byte_tokenizer)
    ends = frozenset({tokenizer.control_ids[END]})
    return Bundle(tiny(tokenizer), tokenizer, "llama", template, "tiny", ends)


def talk(*contents: str, **others) -> Dialogue:
    roles = ("user", "assistant") * len(contents)
    messages = [{"role": r, "content": c} for r, c in zip(roles, contents)]
    return Dialogue("a.jsonl, line 1", tuple(messages), **others)


def parts(*dialogues: Dialogue, **others) -> ChatParts:
    return ChatParts("talks", dialogues, dialogues[:1], **others)


def learnt(task: Chat, item) -> str:
    """What carries loss, with "·" for the rest."""
    return "".join(shown.target or "·" for shown in task.show(item))


def codes(task: Chat, given: ChatParts) -> dict[str, str]:
    return {finding.code: finding.level for finding in task.check(given)}


def test_answers_are_learnt_with_one_end_each(speaker):
    dialogue = talk("hi", "hello", "and?", "no")
    task = Chat.make(speaker, parts(dialogue))
    (item,) = task.items([dialogue])
    shown = "".join(s.text for s in task.show(item))
    assert shown == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\nno<|im_end|>"
    )
    assert learnt(task, item).replace("·", " ").split() == ["hello<|im_end|>", "no<|im_end|>"]
    ends = item.tokens[item.learnt] == task.end
    assert ends.sum() == 2
    asked = task.template.encode(dialogue.messages[:3], task.tokenizer)
    assert list(item.prompt) == asked == item.tokens[: len(asked)].tolist()


def test_control_tokens_that_people_type_end_nothing(speaker):
    dialogue = talk("say <|im_end|>", "gladly: <|im_end|>", "more <|im_start|>", "so <|im_end|>.")
    task = Chat.make(speaker, parts(dialogue))
    (item,) = task.items([dialogue])
    assert (item.tokens[item.learnt] == task.end).sum() == 2
    texts = [speaker.tokenizer.decode([t]) for t in item.tokens[item.learnt] if t != task.end]
    assert "".join(texts) == "gladly: <|im_end|>so <|im_end|>."


def test_answers_of_no_weight_are_read_and_not_learnt(speaker):
    messages = talk("hi", "rude", "again", "kind").messages
    dialogue = Dialogue("x", (messages[0], messages[1] | {"weight": 0}, *messages[2:]))
    task = Chat.make(speaker, parts(dialogue))
    assert learnt(task, task.items([dialogue])[0]).strip("·") == "kind<|im_end|>"


def test_a_template_that_rewrites_earlier_turns_gives_an_item_an_answer(speaker):
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", ChatTemplate(THINKING))
    dialogue = talk("hi", "<think>hm</think>hello", "and?", "<think>oh</think>no")
    given = parts(dialogue)
    task = Chat.make(bundle, given)
    first, second = task.items([dialogue])
    assert learnt(task, first).strip("·") == "<think>hm</think>hello<|im_end|>"
    assert learnt(task, second).strip("·") == "<think>oh</think>no<|im_end|>"
    assert "hm" not in "".join(s.text for s in task.show(second))
    assert codes(task, given)["turns-rewritten"] == "note"


def test_conversations_do_not_see_each_other(speaker):
    dialogues = [talk("hi", "hello"), talk("what is it?", "it is"), talk("a", "b", "c", "d")]
    task = Chat.make(speaker, parts(*dialogues))
    items = task.items(dialogues)
    together = task.loss(speaker.model, task.collate(items))
    alone = [task.loss(speaker.model, task.collate([item])) for item in items]
    assert together.n_targets == sum(loss.n_targets for loss in alone) == 6 + 6 + 4
    torch.testing.assert_close(together.total, sum(loss.total for loss in alone))


def test_a_template_whose_end_is_no_token_stops_the_run(byte_tokenizer, speaker):
    bundle = Bundle(tiny(byte_tokenizer), byte_tokenizer, "llama", speaker.template)
    given = parts(talk("hi", "hello"))
    assert codes(Chat.make(bundle, given), given)["no-end-of-turn"] == "stop"
    assert "no-end-of-turn" not in codes(Chat.make(speaker, given), given)


def test_an_end_that_the_files_do_not_name_is_found_and_kept(speaker):
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", speaker.template)
    given = parts(talk("hi", "hello"))
    task = Chat.make(bundle, given)
    assert codes(task, given)["end-of-turn-unknown"] == "note"
    assert task.stop_tokens == {task.tokenizer.control_ids[END]}


def test_padding_with_the_end_is_said_and_harms_nothing(speaker):
    template = ChatTemplate(speaker.template.source, {"pad_token": END, "eos_token": END})
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", template, "", speaker.stop_tokens)
    given = parts(talk("hi", "hello"))
    task = Chat.make(bundle, given)
    assert codes(task, given)["pad-is-eos"] == "note"
    assert learnt(task, task.items(given.train)[0]).endswith("hello<|im_end|>")


def test_a_prompt_unlike_what_precedes_answers_is_said(speaker):
    source = speaker.template.source.replace("assistant\\n' }}", "assistant\\n<think>' }}")
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", ChatTemplate(source))
    given = parts(talk("hi", "hello"))
    assert codes(Chat.make(bundle, given), given)["prompt-differs"] == "warn"


def test_rows_left_out_are_named(speaker):
    problems = (
        Problem("a.jsonl, line 7", "empty", "message 2: the assistant's answer is empty"),
        Problem("a.jsonl, line 9", "roles", "message 1 is of assistant"),
    )
    given = parts(talk("hi", "hello"), problems=problems)
    found = {f.code: f for f in Chat.make(speaker, given).check(given)}
    assert found["empty-completion"].level == found["roles-out-of-order"].level == "warn"
    assert "a.jsonl, line 7" in found["empty-completion"].what


def test_tools_that_the_template_leaves_out_are_missed(speaker):
    given = parts(talk("hi", "hello", tools=({"type": "function", "function": {"name": "f"}},)))
    task = Chat.make(speaker, given)
    assert "tools-unseen" not in codes(task, given)
    assert '"name": "f"' in "".join(s.text for s in task.show(task.items(given.train)[0]))
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", ChatTemplate(THINKING))
    assert codes(Chat.make(bundle, given), given)["tools-unseen"] == "warn"


def test_what_is_too_long_is_cut_behind_a_whole_answer(speaker):
    dialogue = talk("hi", "hello", "and?", "a long answer")
    cut = {}
    for max_tokens in (96, 50, 23, 10):
        task = Chat.make(speaker, parts(dialogue), max_tokens=max_tokens)
        (item,) = task.items([dialogue])
        assert len(item.tokens) <= max_tokens
        cut[max_tokens] = (learnt(task, item).replace("·", " ").split(), item.n_lost)
    assert cut[96] == (["hello<|im_end|>", "a", "long", "answer<|im_end|>"], 0)
    assert cut[50] == (["hello<|im_end|>"], 14)
    assert cut[23] == (["he"], 4 + 14)
    assert cut[10] == ([], 6 + 14)
    found = {f.code: f for f in task.check(parts(dialogue))}
    assert found["truncation"].level == "warn" and "1 keep none" in found["truncation"].what


def test_a_conversation_that_the_template_refuses_is_named(speaker):
    source = "{{ raise_exception('no') if messages[0]['content'] == 'bad' else '' }}" + THINKING
    bundle = Bundle(speaker.model, speaker.tokenizer, "llama", ChatTemplate(source))
    task = Chat.make(bundle, parts(talk("hi", "hello")))
    with pytest.raises(DataError, match=r"a\.jsonl, line 1"):
        task.items([talk("bad", "hello")])


def test_a_model_that_learnt_its_answers_gives_them_and_stops(speaker):
    dialogues = [talk("hi", "hello"), talk("who?", "me")]
    task = Chat.make(speaker, parts(*dialogues), answer_tokens=12)
    model = tiny(speaker.tokenizer, d_model=64)
    items = task.items(dialogues)
    before = task.predict(model.eval(), items)
    assert not any(p["ended"] for p in before) and before[0]["n_written"] == 12
    batch, optimizer = task.collate(items), adamw([{"params": list(model.parameters())}])
    for group in optimizer.param_groups:
        group["lr"] = 5e-3
    for _ in range(40):
        loss = task.loss(model, batch)
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    said = task.predict(model.eval(), items)
    assert [p["answer"] for p in said] == ["hello", "me"] and all(p["ended"] for p in said)
    values = {m.name: m.value for m in task.metrics(dialogues, said)}
    assert values["ended"] == 1 and values["n_written"] == 3.5
    assert values["loss"] == pytest.approx(loss.total.item() / loss.n_targets, rel=0.2)
    assert json.loads(json.dumps(said)) == said


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_an_adapted_model_answers_and_stays_adapted(speaker, method):
    dialogues = [talk("hi", "hello"), talk("who?", "me")]
    task = Chat.make(speaker, parts(*dialogues), answer_tokens=4)
    model = tiny(speaker.tokenizer, d_model=64).eval()
    prepare(model, method, rank=2)
    before = {name: value.clone() for name, value in lora.state(model).items()}
    said = task.predict(model, task.items(dialogues))
    assert [p["n_written"] for p in said] == [4, 4] and lora.adapters(model)
    for name, value in lora.state(model).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_chatml_gives_a_model_tokens_that_it_can_be_saved_with(byte_tokenizer, tmp_path):
    model = tiny(byte_tokenizer, tied_head=False)
    ids = torch.tensor([1, 2, 3])
    before = model.logits(model(ids, Ragged([3]))).detach()
    bundle = Bundle(model, byte_tokenizer, "llama", name="tiny")
    dialogue = talk("hi", "hello")
    with pytest.raises(ConfigError, match="template=chatml"):
        Chat.make(bundle, parts(dialogue))
    task = Chat.make(bundle, parts(dialogue), template="chatml")
    task.build(bundle)
    after = model.logits(model(ids, Ragged([3])))
    assert after.shape[1] == byte_tokenizer.vocab_size + 2
    torch.testing.assert_close(after[:, :-2], before)
    end_of_text = byte_tokenizer.control_ids["<|endoftext|>"]
    torch.testing.assert_close(after[:, task.end], before[:, end_of_text])

    bundles.save(
        tmp_path, model, task.tokenizer, template=task.template, stop_tokens=task.stop_tokens
    )
    opened = bundles.load(tmp_path)
    again = Chat.reopen(task.card(), opened)
    assert task.end in opened.stop_tokens and again.build(opened) is opened.model
    assert again.items([dialogue])[0].tokens.tolist() == task.items([dialogue])[0].tokens.tolist()


def test_only_decoders_chat(speaker):
    encoder = Bert(BertConfig(50, 16, n_layers=1, n_heads=2, d_model=8, d_ff=16))
    bundle = Bundle(encoder, speaker.tokenizer, "bert", speaker.template)
    with pytest.raises(ConfigError, match="left to right"):
        Chat.make(bundle, parts(talk("hi", "hello"))).build(bundle)
