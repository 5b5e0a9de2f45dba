"""Writing one text from another: items, losses, predictions, what is kept; both ways to do it."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from hornbook import bundle as bundles
from hornbook.bundle import Bundle
from hornbook.data.written import SourceText
from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.tasks.task import Parts
from hornbook.tasks.write import Summarize, Translate
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.train import train_tokenizer
from hornbook.training.optimizers import adamw, decay_groups

ENGLISH = ["one", "two", "three", "four", "five", "six", "red", "green", "blue"]
GERMAN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "rot", "grün", "blau"]
CHAT = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}<e>{% endfor %}"
CHAT += "{% if add_generation_prompt %}<s>assistant: {% endif %}"


@pytest.fixture(scope="module")
def examples():
    rng = random.Random(0)
    rows = [[rng.randrange(9) for _ in range(rng.randint(1, 3))] for _ in range(60)]
    return [
        SourceText(" ".join(ENGLISH[i] for i in r), (" ".join(GERMAN[i] for i in r),)) for r in rows
    ]


@pytest.fixture(scope="module")
def tokenizer(examples):
    texts = [text for one in examples for text in (one.source, *one.targets)]
    return train_tokenizer("bpe", lambda: texts, 320, special=["<|endoftext|>", "<s>", "<e>"])


@pytest.fixture(scope="module")
def pair_model(tokenizer):
    torch.manual_seed(0)
    config = EncoderDecoderConfig(tokenizer.vocab_size, 24, 1, 2, 32, 64)
    return Bundle(EncoderDecoder(config), tokenizer, "marian", name="ours")


@pytest.fixture(scope="module")
def decoder(tokenizer):
    torch.manual_seed(0)
    end = tokenizer.id_of("<|endoftext|>")
    config = GPTConfig(tokenizer.vocab_size, 64, 1, 2, 32, 64)
    return Bundle(GPT(config), tokenizer, "gpt2", stop_tokens=frozenset([end]))


def learn(model, task, items, n_steps):
    optimizer = adamw(decay_groups(model.named_parameters(), lr=1e-2, weight_decay=0.0))
    batch = task.collate(items)
    model.train()
    for _ in range(n_steps):
        loss = task.loss(model, batch)
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    return (loss.total / loss.n_targets).item()


@pytest.mark.parametrize("which", ["pair_model", "decoder"])
def test_what_is_learnt_is_written_and_opened_again(which, examples, request, tmp_path):
    opened = request.getfixturevalue(which)
    some = examples[:6]
    task = Translate.make(opened, Parts("x", some, some), n_beams=1)
    model = task.build(opened)
    assert learn(model, task, task.items(some), 90) < 0.1
    said = task.predict(model, task.items(some))
    assert [one["text"] for one in said] == [one.targets[0] for one in some]
    assert task.metrics(some, said)[1].value == pytest.approx(100)
    bundles.save(tmp_path, model, opened.tokenizer, stop_tokens=opened.stop_tokens)
    task.write_beside(tmp_path)
    again = bundles.load(tmp_path)
    reopened = Translate.reopen(task.card(), again)
    assert reopened.predict(again.model, reopened.items([e.source for e in some])) == said
    beams = replace(task, n_beams=3).predict(model, task.items(some))
    assert beams == said


def test_transformers_writes_what_we_write(pair_model, examples, tmp_path):
    """A fine-tuned encoder-decoder's folder says with which tokens its texts begin and end."""
    from transformers import MarianMTModel

    task = Translate.make(pair_model, Parts("x", examples, examples), n_beams=3, n_tokens=8)
    bundles.save(tmp_path, pair_model.model, pair_model.tokenizer)
    task.write_beside(tmp_path)
    theirs = MarianMTModel.from_pretrained(tmp_path).eval()
    items = task.items(examples[:4])
    said = task.predict(pair_model.model, items)
    for item, one in zip(items, said):
        row = theirs.generate(torch.tensor([item.read]), num_beams=3, max_new_tokens=8)[0]
        assert pair_model.tokenizer.decode(row.tolist()) == one["text"]


def test_smoothing_is_for_learning_and_for_encoder_decoders(pair_model, decoder, examples):
    parts = Parts("x", examples, examples)
    plain, smooth = (
        Translate.make(pair_model, parts, label_smoothing=share) for share in (0.0, 0.1)
    )
    model, batch = pair_model.model, plain.collate(plain.items(examples[:8]))
    model.eval()
    assert plain.loss(model, batch).total.item() == smooth.loss(model, batch).total.item()
    model.train()
    assert plain.loss(model, batch).total.item() != smooth.loss(model, batch).total.item()
    with pytest.raises(ConfigError, match="label smoothing"):
        Translate.make(decoder, parts, label_smoothing=0.1)


def test_each_target_of_a_source_is_learnt_and_one_text_written(pair_model, examples):
    several = [SourceText("one", ("eins", "ein")), SourceText("two", ("zwei",))]
    task = Summarize.make(pair_model, Parts("x", several, several))
    items = task.items(several)
    assert [item.source for item in items] == [0, 0, 1]
    assert len(task.predict(pair_model.model, items)) == 2
    assert [m.name for m in task.metrics(several, [{"text": "ein"}, {"text": "drei"}])] == [
        "rouge1", "rouge2", "rougeL"
    ]  # fmt: skip


@pytest.mark.parametrize("template", [None, ChatTemplate(CHAT)])
def test_a_decoder_learns_the_text_and_one_end_alone(decoder, examples, template):
    ends = decoder.stop_tokens | {decoder.tokenizer.id_of("<e>")}
    opened = replace(decoder, template=template, stop_tokens=ends)
    task = Summarize.make(opened, Parts("x", examples, examples), prompt="Sum up {source}:")
    (item,) = task.items(examples[:1])
    learnt = [shown.target for shown in task.show(item) if shown.target]
    assert "".join(learnt[:-1]).strip() == examples[0].targets[0]
    assert learnt[-1] == ("<e>" if template else "<|endoftext|>")
    assert task.loss(decoder.model, task.collate([item])).n_targets == len(learnt)
    read = "".join(shown.text for shown in task.show(item) if not shown.target)
    assert f"Sum up {examples[0].source}:" in read
    assert ("assistant: " in read) == bool(template)


def test_what_has_no_room_is_cut_and_said(pair_model, decoder, examples):
    for opened in (pair_model, decoder):
        task = Translate.make(opened, Parts("x", examples, examples), max_tokens=12)
        (item,) = task.items([SourceText("one " * 30, ("eins " * 30,))])
        assert task.length(item) <= 12 and item.n_cut > 20
        assert item.written[-1] == opened.tokenizer.id_of("<|endoftext|>")
    short = Translate.make(pair_model, Parts("x", examples, examples), max_tokens=3)
    (finding,) = short.check(Parts("x", examples, examples))
    assert finding.code == "truncation" and finding.level == "warn"


@pytest.mark.parametrize("n_beams", [1, 3])
def test_a_source_longer_than_the_context_leaves_room_for_what_is_written(decoder, n_beams):
    """However long or short the target, or none: what is asked is the same, and is answered."""
    long = "one two three four " * 30
    parts = Parts("x", [SourceText(long, ("eins zwei drei " * 2,))], [])
    task = Summarize.make(decoder, parts, n_beams=n_beams)
    assert task.form.max_tokens == decoder.model.config.context_length
    asked = [task.items([e])[0].read for e in (long, SourceText(long, ("eins",)), parts.train[0])]
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0]) + task.n_tokens == task.form.max_tokens
    assert len(task.predict(decoder.model, task.items([long]))) == 1
    more = replace(task, n_tokens=60)  # as `run --max-tokens` asks
    assert len(more.predict(decoder.model, more.items([long]))) == 1


def test_a_template_that_ends_nothing_and_a_pad_that_ends_are_found(decoder, examples):
    parts = Parts("x", examples, examples)

    def codes(source, **tokens):
        opened = replace(decoder, template=ChatTemplate(source, tokens))
        return {f.code for f in Translate.make(opened, parts).check(parts)}

    assert codes(CHAT) == codes(CHAT, pad_token="<s>") == set()
    assert codes(CHAT, pad_token="<e>") == {"pad-is-eos"}
    unended = CHAT.replace("<e>", " END ")
    assert codes(unended) == {"no-end-of-turn"}


def test_an_answer_ends_with_what_the_template_puts_behind_it(decoder, examples):
    """Also where the model's files name another end only."""
    opened = replace(decoder, template=ChatTemplate(CHAT))
    assert opened.tokenizer.id_of("<e>") not in opened.stop_tokens
    task = Translate.make(opened, Parts("x", examples, examples))
    assert task.items(examples[:1])[0].written[-1] == opened.tokenizer.id_of("<e>")


@pytest.mark.parametrize("which", ["pair_model", "decoder"])
def test_more_tokens_than_the_context_are_refused(which, examples, request):
    opened = request.getfixturevalue(which)
    most = opened.model.config.context_length
    with pytest.raises(ConfigError, match=f"and the model reads {most}"):
        Translate.make(opened, Parts("x", examples, examples), max_tokens=most + 1)


def test_what_would_teach_nothing_is_found(pair_model, examples):
    copies = [SourceText(one.source, (one.source,)) for one in examples]
    task = Translate.make(pair_model, Parts("x", copies, copies))
    (finding,) = task.check(Parts("x", copies, copies))
    assert finding.code == "target-is-source" and finding.level == "stop"
    with pytest.raises(DataError, match="line 3 has an empty"):
        task.items([SourceText("one", (" ",), "line 3")])


def test_models_and_settings_that_do_not_fit_are_refused(pair_model, decoder, examples, tokenizer):
    parts = Parts("x", examples, examples)
    encoder = Bundle(Bert(BertConfig(tokenizer.vocab_size, 16, 1, 2, 16, 32)), tokenizer, "bert")
    with pytest.raises(ConfigError, match="doesn't write"):
        Translate.make(encoder, parts)
    with pytest.raises(ConfigError, match="0 times"):
        Translate.make(decoder, parts, prompt="Translate")
    with pytest.raises(ConfigError, match="is given the source as it is"):
        Translate.make(pair_model, parts, prompt="{source}")
    with pytest.raises(ConfigError, match="n_beams 0"):
        Translate.make(pair_model, parts, n_beams=0)
