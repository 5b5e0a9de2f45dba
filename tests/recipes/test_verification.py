"""hornbook verify: every kind of model holds, and what breaks a promise is seen."""

from __future__ import annotations

import pytest
import torch
from typer.testing import CliRunner

from hornbook import bundle
from hornbook.cli.main import app
from hornbook.errors import ConfigError
from hornbook.generation.request import Sampling
from hornbook.models import ngram
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.heads import HeadConfig, SequenceClassifier, SpanFinder, TokenClassifier
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.models.presets import count_parameters
from hornbook.nn.losses import LossSum
from hornbook.recipes import verification, verification_subject
from hornbook.recipes.verification import apart, verify
from hornbook.recipes.verification_subject import TEXTS, Subject, subject_of, tiny
from hornbook.records import VerificationRecord
from hornbook.text.train import train_tokenizer

SIZES = {"context_length": 40, "n_layers": 2, "n_heads": 2, "d_model": 16, "d_ff": 32}


def opened(make, name="tiny") -> bundle.Bundle:
    tokenizer = train_tokenizer("wordpiece", lambda: TEXTS, 120)
    torch.manual_seed(0)
    return bundle.Bundle(make(tokenizer.vocab_size), tokenizer, "bert", name=name)


def bert(vocab_size: int) -> Bert:
    return Bert(BertConfig(vocab_size, **SIZES))


def headed(kind, n_labels: int = 3):
    def make(vocab_size: int):
        trunk = bert(vocab_size)
        problem = {TokenClassifier: "token", SpanFinder: "span"}.get(
            kind, "single_label_classification"
        )
        names = tuple("abc"[:n_labels])
        return kind(trunk, HeadConfig(trunk.config, names, problem=problem))

    return make


KINDS = {
    "encoder": bert,
    "modern encoder": lambda v: ModernBert(ModernBertConfig(v, **SIZES, window=3)),
    "classifier": headed(SequenceClassifier),
    "tagger": headed(TokenClassifier),
    "finder of answers": headed(SpanFinder, 2),
    "encoder-decoder": lambda v: EncoderDecoder(EncoderDecoderConfig(v, **SIZES)),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_model_of_every_kind_holds(name):
    record = verify(opened(KINDS[name]))
    assert record.holds, [c for c in record.checks if not c.holds]
    assert len(record.checks) == 6 and len(record.left_out) == 1
    exact = {c.name for c in record.checks if c.difference == 0}
    assert {
        "a resumed run is an uninterrupted one",
        "opened again it is what was saved",
        "recomputation changes no gradient",
    } <= exact


def test_a_decoder_also_writes_the_same_whatever_is_beside_it_and_stays_as_it_was():
    speaker = tiny()
    before = {name: x.clone() for name, x in speaker.model.state_dict().items()}
    state = torch.get_rng_state()
    heard = []
    record = verify(speaker, heard=heard.append)
    assert record.holds and record.checks == heard and len(heard) == 7
    assert record.n_parameters == count_parameters(speaker.model)
    assert all(torch.equal(x, before[n]) for n, x in speaker.model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return subject_of(tiny())


def broken(subject: Subject, **parts) -> Subject:
    return Subject(**{**vars(subject), **parts})


def test_means_of_parts_are_seen(subject):
    """The mistake of transformers issue 34191: every part counts as much as every other."""

    def mean(model, items):
        loss = subject.loss(model, items)
        return LossSum(loss.total / loss.n_targets, 1)

    check = verification.accumulated(broken(subject, loss=mean))
    assert not check.holds and check.difference > 0.01


def test_a_run_that_forgets_its_moments_is_seen(subject, monkeypatch):
    real = verification.latest_checkpoint

    class Forgetful:
        def __init__(self, found):
            self.found, self.step = found, found.step

        def load_into(self, model, optimizer):
            self.found.load_into(model)

    monkeypatch.setattr(verification, "latest_checkpoint", lambda f: Forgetful(real(f)))
    check = verification.resumed(subject)
    assert not check.holds and check.difference > 0


def test_padding_that_is_read_is_seen():
    """An encoder whose padding is looked at: outputs move, and only beside others."""
    subject = subject_of(opened(bert))

    def read(model, items, lay):
        laid = lay([item.tokens for item in items])
        return [states + 0.01 * laid.inputs.numel() for states in subject.read(model, items, lay)]

    check = verification.beside_others(broken(subject, read=read))
    assert not check.holds and check.difference > 0.01


def test_a_text_without_a_seed_of_its_own_is_seen(subject, monkeypatch):
    monkeypatch.setattr(verification, "Sampling", lambda seed: Sampling())
    check = verification.written_beside_others(subject)
    assert not check.holds and check.difference > 0


def test_an_adapter_merged_twice_is_seen(subject, monkeypatch):
    real = verification.lora.LoRALinear.merged

    def twice(layer):
        plain = real(layer)
        with torch.no_grad():
            plain.weight += plain.weight - layer.base.weight
        return plain

    monkeypatch.setattr(verification.lora.LoRALinear, "merged", twice)
    assert not verification.merged(subject).holds


def test_a_base_that_is_not_given_back_is_seen(subject, monkeypatch):
    monkeypatch.setattr(verification.lora, "detach", lambda model: None)
    check = verification.merged(subject)
    assert not check.holds and check.difference is None


def test_a_weight_lost_in_saving_is_seen(subject, monkeypatch):
    real = bundle.save

    def lossy(folder, model, *rest, **named):
        real(folder, model, *rest, **named, numbers=torch.bfloat16)

    monkeypatch.setattr(verification.bundles, "save", lossy)
    check = verification.saved_and_opened(subject)
    assert not check.holds and check.difference > 1e-4


def test_other_dropout_on_the_way_back_is_seen(monkeypatch):
    def careless(function, *rest, use_reentrant):
        from torch.utils.checkpoint import checkpoint

        return checkpoint(function, *rest, use_reentrant=False, preserve_rng_state=False)

    monkeypatch.setattr("hornbook.training.recomputation.checkpoint", careless)
    check = verification.recomputed_blocks(subject_of(opened(bert)))
    assert not check.holds and check.difference > 0.01


def test_how_far_apart_by_hand():
    inf, nan = float("inf"), float("nan")
    assert apart([torch.tensor([2.0, -4.0])], [torch.tensor([2.0, -3.0])]) == 1 / 4
    assert apart([torch.tensor([1.0, -inf])], [torch.tensor([1.0, -inf])]) == 0
    for other in ([1.0, 0.0], [1.0, nan], [1.0, inf]):
        assert apart([torch.tensor([1.0, -inf])], [torch.tensor(other)]) == inf
    assert apart([torch.ones(2)], [torch.ones(3)]) == inf
    assert apart([], []) == inf  # such as gradients of steps that were refused
    # A NaN in one tensor isn't lost behind the others.
    assert apart([torch.ones(1), torch.ones(1)], [torch.ones(1), torch.tensor([nan])]) == inf
    assert apart([torch.ones(1), torch.ones(1)], [torch.tensor([nan]), torch.ones(1)]) == inf


def test_counts_learn_nothing():
    tokenizer = train_tokenizer("bpe", lambda: TEXTS, 300)
    tokens = [t for text in tokenizer.encode(TEXTS) for t in text]
    model = ngram.fit(tokens, tokenizer.vocab_size, max_order=2)
    with pytest.raises(ConfigError, match="counts"):
        verify(bundle.Bundle(model, tokenizer, "hornbook-ngram", name="counted"))


def hornbook(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def test_the_command_ticks_and_ends_with_one_when_a_check_fails(tmp_path, monkeypatch):
    speaker = tiny()
    bundle.save(tmp_path / "tiny", speaker.model, speaker.tokenizer)
    monkeypatch.setattr(verification, "ROUNDING", -1.0)
    told = hornbook("verify", tmp_path / "tiny")
    assert told.exit_code == 1
    lines = told.stdout.splitlines()
    assert sum(line.startswith("✓") for line in lines) == 4
    assert sum(line.startswith("✗") for line in lines) == 3
    assert "4 of 7 hold" in lines[-1]


def test_without_any_model_a_tiny_one_is_made_and_the_record_is_printed(monkeypatch):
    record = VerificationRecord(
        model="x", kind="decoder", n_parameters=1, holds=True, checks=[], seconds=0, n_threads=1
    )
    verified = []

    def once(opened):
        verified.append(opened.name)
        return record

    monkeypatch.setattr(verification_subject, "where", lambda _: None)
    monkeypatch.setattr(verification, "verify", once)
    told = hornbook("verify", "--json")
    assert told.exit_code == 0 and verified == ["a tiny random llama"]
    assert VerificationRecord.model_validate_json(told.stdout) == record
