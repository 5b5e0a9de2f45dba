"""Beams of an encoder-decoder: the texts that transformers finds, whoever stands in the batch."""

from __future__ import annotations

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.generation.source_beams import beams_of_sources
from hornbook.interop.huggingface import save_model
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig

START, END = 0, 1
MOST = 12


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = EncoderDecoderConfig(
        vocab_size=24, context_length=32, n_layers=2, n_heads=2, d_model=16, d_ff=32
    )
    made = EncoderDecoder(config).eval()
    with torch.no_grad():  # texts that end, some early and some late
        made.tokens.weight.mul_(1.5)
    return made


@pytest.fixture(scope="module")
def sources():
    rng = torch.Generator().manual_seed(0)
    lengths = [3, 9, 5, 5, 7, 2, 8, 4]
    return [[*torch.randint(2, 24, (n,), generator=rng).tolist(), END] for n in lengths]


def search(model, sources, **settings):
    return beams_of_sources(model, sources, start=START, end=END, max_tokens=MOST, **settings)


@pytest.mark.parametrize(("n_beams", "power"), [(4, 1.0), (3, 0.6), (2, 0.0), (5, 2.0)])
def test_the_texts_are_those_of_transformers(model, sources, tmp_path, n_beams, power):
    from transformers import MarianMTModel

    save_model(tmp_path, model)
    theirs = MarianMTModel.from_pretrained(tmp_path).eval()
    found = search(model, sources, n_beams=n_beams, length_power=power)
    n_ended = 0
    for source, beams in zip(sources, found, strict=True):
        said = theirs.generate(
            torch.tensor([source]),
            num_beams=n_beams,
            num_return_sequences=n_beams,
            length_penalty=power,
            max_new_tokens=MOST,
            do_sample=False,
            decoder_start_token_id=START,
            eos_token_id=END,
            pad_token_id=END,
            return_dict_in_generate=True,
            output_scores=True,
        )
        assert [beam.score for beam in beams] == pytest.approx(
            said.sequences_scores.tolist(), abs=1e-4
        )
        for beam, row in zip(beams, said.sequences.tolist(), strict=True):
            text = row[1:]
            assert list(beam.tokens) == (text[: text.index(END)] if END in text else text)
            n_ended += beam.ended
    assert n_ended > 5


def test_neighbours_change_nothing(model, sources):
    together = search(model, sources, n_beams=3)
    for source, beams in zip(sources, together, strict=True):
        (alone,) = search(model, [source], n_beams=3)
        assert [beam.tokens for beam in alone] == [beam.tokens for beam in beams]
        assert [b.score for b in alone] == pytest.approx([b.score for b in beams], abs=1e-5)


def test_a_score_is_what_the_whole_model_says_of_the_text(model, sources):
    """Without a cache, and with the source alone: log-probability over length."""
    from hornbook.nn.layout import Ragged

    for source, beams in zip(sources, search(model, sources), strict=True):
        best = beams[0]
        targets = [*best.tokens, END] if best.ended else list(best.tokens)
        inputs = torch.tensor([START, *targets[:-1]])
        hidden = model(torch.tensor(source), Ragged([len(source)]), inputs, Ragged([len(targets)]))
        shares = model.logits(hidden).log_softmax(-1).detach()
        total = float(shares[torch.arange(len(targets)), torch.tensor(targets)].sum())
        assert best.log_probability == pytest.approx(total, abs=1e-4)
        assert best.score == pytest.approx(total / len(targets), abs=1e-5)


def test_more_beams_find_likelier_texts(model, sources):
    def total(beams):
        return sum(beam[0].log_probability for beam in beams)

    one, many = (search(model, sources, n_beams=n, length_power=0.0) for n in (1, 6))
    assert total(many) > total(one)


def test_numbers_out_of_range_are_refused(model, sources):
    for settings in ({"n_beams": 0}, {"max_tokens": 0}):
        with pytest.raises(ConfigError, match="can't be searched"):
            beams_of_sources(model, sources, **({"start": 0, "end": 1, "max_tokens": 3} | settings))
