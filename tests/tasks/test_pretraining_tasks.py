"""Tasks that pretrain: what is fed, what is asked, and that a small model learns it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from hornbook.errors import ConfigError, DataError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.nn.losses import cross_entropy_sum
from hornbook.tasks import language_modeling, masked_lm, next_sentence, seq2seq
from hornbook.training.recomputation import recomputed

START, END = 0, 1


def test_teacher_forcing_by_hand():
    batch = seq2seq.collate([([7, 8], [5]), ([9], [6, 4])], start=START, end=END)
    assert batch.source.tolist() == [9, 7, 8]
    assert batch.inputs.tolist() == [START, 6, 4, START, 5]
    assert batch.targets.tolist() == [6, 4, END, 5, END]
    assert (batch.source_layout.lengths, batch.layout.lengths) == ([1, 2], [3, 2])


def test_a_rectangle_costs_what_texts_end_to_end_cost():
    torch.manual_seed(0)
    trunk = EncoderDecoder(EncoderDecoderConfig(12, 16, n_layers=2, n_heads=2, d_model=16, d_ff=32))
    pairs = [([7, 8, 5], [5]), ([9], [6, 4, 3]), ([3, 4], [2, 2])]
    ragged = seq2seq.collate(pairs, start=START, end=END)
    sources = [np.array(source) for source, _ in pairs]
    rows = seq2seq.rectangles(sources, [np.array([*t, END]) for _, t in pairs], start=START)
    assert rows.inputs.shape == rows.targets.shape == (3, 4) and rows.source.shape == (3, 3)
    for loss_of in (seq2seq.loss_of, seq2seq.smoothed_loss_of):
        gradients = []
        for batch in (ragged, rows):
            model = seq2seq.Seq2Seq(trunk)
            model.zero_grad()
            loss = loss_of(model, batch)
            assert loss.n_targets == 9
            loss.total.backward()
            gradients.append([loss.total.detach(), *(p.grad.clone() for p in model.parameters())])
        with recomputed(model) as n_blocks:
            model.zero_grad()
            loss_of(model, rows).total.backward()
        assert n_blocks == 4, "blocks of the encoder and of the decoder"
        again = [loss.total.detach(), *(p.grad for p in model.parameters())]
        assert all(map(torch.equal, again, gradients[1]))
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_text_begins_and_ends_with_what_the_vocabulary_has():
    class Some:
        def __init__(self, *tokens):
            self.rust, self.tokens = self, tokens

        def token_to_id(self, token):
            return self.tokens.index(token) if token in self.tokens else None

    assert seq2seq.bounds(Some("a", "<|endoftext|>", "[SEP]")) == (1, 1)
    assert seq2seq.bounds(Some("[SEP]", "[CLS]")) == (1, 0)
    assert seq2seq.bounds(Some("</s>", "<pad>")) == (1, 0)
    with pytest.raises(ConfigError, match="where to stop"):
        seq2seq.bounds(Some("a", "[CLS]"))


def test_windows_are_documents_of_one_length():
    rows = torch.arange(6).view(2, 3)
    batch = language_modeling.windows(rows, rows + 1)
    assert batch.tokens.tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.layout.lengths == [3, 3]
    assert batch.targets.tolist() == [1, 2, 3, 4, 5, 6]


def reversals(n: int, generator: torch.Generator) -> list[tuple[list[int], list[int]]]:
    out = []
    for _ in range(n):
        length = int(torch.randint(1, 5, (), generator=generator))
        source = torch.randint(2, 12, (length,), generator=generator).tolist()
        out.append((source, source[::-1]))
    return out


def test_it_learns_to_reverse():
    """Texts it never saw, all of them right: attention has found the places."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    trunk = EncoderDecoder(
        EncoderDecoderConfig(12, 16, n_layers=2, n_heads=4, d_model=64, d_ff=128)
    )
    model = seq2seq.Seq2Seq(trunk)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    n_steps = 300
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(step / 40, 1 - step / n_steps)
        loss = seq2seq.loss_of(
            model, seq2seq.collate(reversals(48, generator), start=START, end=END)
        )
        (loss.total / loss.n_targets).backward()
        optimizer.step()
        optimizer.zero_grad()
    fresh = reversals(200, generator)
    model.eval()
    written = seq2seq.greedy(
        trunk, [source for source, _ in fresh], start=START, end=END, max_tokens=8
    )
    right = sum(w == target for w, (_, target) in zip(written, fresh))
    assert right >= 196


def test_writing_stops_at_the_end_and_at_the_limit():
    torch.manual_seed(0)
    trunk = EncoderDecoder(
        EncoderDecoderConfig(12, 16, n_layers=1, n_heads=2, d_model=16, d_ff=32)
    ).eval()
    written = seq2seq.greedy(trunk, [[3], [4, 5]], start=START, end=END, max_tokens=4)
    assert all(len(row) <= 4 and END not in row for row in written)
    never = seq2seq.greedy(trunk, [[3]], start=START, end=99, max_tokens=4)
    assert len(never[0]) == 4
    again = trunk(
        torch.tensor([3]),
        seq2seq.Ragged([1]),
        torch.tensor([START, *never[0][:-1]]),
        seq2seq.Ragged([4]),
    )
    assert trunk.logits(again).argmax(-1).tolist() == never[0]  # with and without the cache


def test_smoothing_raises_the_least_loss():
    torch.manual_seed(0)
    config = EncoderDecoderConfig(12, 16, n_layers=1, n_heads=2, d_model=16, d_ff=32)
    model = seq2seq.Seq2Seq(EncoderDecoder(config))
    batch = seq2seq.collate([([7, 8], [5]), ([9], [6, 4])], start=START, end=END)
    plain, none = seq2seq.loss_of(model, batch), seq2seq.smoothed_loss_of(model, batch, 0.0)
    torch.testing.assert_close(plain.total, none.total)
    assert plain.n_targets == none.n_targets == 5
    certain = torch.nn.functional.one_hot(batch.targets, 12) * 50.0
    assert seq2seq.smoothed_loss_of(lambda _: certain, batch).total > 5


def test_what_is_hidden_in_a_text_does_not_depend_on_its_neighbours():
    masking = masked_lm.Masking(mask_token=4, vocab_size=50, n_specials=5, share=0.3)
    texts = [list(range(5, 40)), list(range(6, 46)), list(range(7, 30))]

    def drawn(*keys):
        return [torch.Generator().manual_seed(key) for key in keys]

    whole = masking.collate(texts, drawn(0, 1, 2))
    alone = [masking.collate([text], drawn(key)) for key, text in enumerate(texts)]
    assert whole.layout.lengths == [40, 35, 23]  # the longest first
    assert torch.equal(whole.tokens, torch.cat([alone[i].tokens for i in (1, 0, 2)]))
    assert torch.equal(whole.targets, torch.cat([alone[i].targets for i in (1, 0, 2)]))
    assert not torch.equal(alone[0].tokens, masking.collate(texts[:1], drawn(9)).tokens)


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_share_that_is_hidden(share):
    masking = masked_lm.Masking(mask_token=4, vocab_size=50, n_specials=5, share=share)
    generator = torch.Generator().manual_seed(0)
    documents = [[2, *range(5, 45), 3] for _ in range(200)]
    batch = masking.collate(documents, generator)
    n = 200 * 40
    assert abs(len(batch.places) / n - share) < 0.02
    assert (batch.targets >= 5).all()
    seen = batch.tokens[batch.places]
    assert abs((seen == 4).float().mean() - 0.8) < 0.03
    assert abs((seen == batch.targets).float().mean() - 0.1) < 0.03
    clean = torch.tensor([t for d in documents for t in d])
    untouched = torch.ones(len(clean), dtype=torch.bool).index_fill(0, batch.places, False)
    assert torch.equal(batch.tokens[untouched], clean[untouched])
    assert torch.equal(clean[batch.places], batch.targets)


@pytest.mark.parametrize(
    "trunk",
    [
        lambda: Bert(BertConfig(60, 20, n_layers=1, n_heads=2, d_model=16, d_ff=32)),
        lambda: ModernBert(ModernBertConfig(60, 20, n_layers=2, n_heads=2, d_model=16, d_ff=24)),
    ],
    ids=["bert", "modern-bert"],
)
def test_the_first_masked_lm_loss_is_that_of_a_guess(trunk):
    torch.manual_seed(0)
    masking = masked_lm.Masking(mask_token=4, vocab_size=60, n_specials=5, share=0.3)
    documents = torch.randint(5, 60, (50, 20)).tolist()
    batch = masking.collate(documents, torch.Generator().manual_seed(0))
    loss = masked_lm.loss_of(masked_lm.MaskedLM(trunk()), batch)
    assert abs(loss.total.item() / loss.n_targets - math.log(60)) < 0.1


def test_next_sentences_by_hand():
    """Half of the second texts are another pair's, never their own; segments change after [SEP]."""
    pairs = [([10 + i] * (i % 3 + 1), [30 + i] * 2) for i in range(20)]
    masking = masked_lm.Masking(mask_token=4, vocab_size=60, n_specials=5, share=0.0)
    batch = next_sentence.collate(pairs, masking, torch.Generator().manual_seed(0), cls=2, sep=3)
    documents = batch.masked.tokens.split(batch.masked.layout.lengths)
    rows = batch.segments.split(batch.masked.layout.lengths)
    for document, segments, follows in zip(documents, rows, batch.follows.tolist()):
        n = int((document == 3).nonzero()[0])
        assert document[0] == 2 and document[-1] == 3
        assert segments.tolist() == [0] * (n + 1) + [1] * (len(document) - n - 1)
        assert (document[n + 1] - 30 == document[1] - 10) == (follows == 0)
    assert 5 <= sum(batch.follows) <= 15
    with pytest.raises(DataError, match="one pair"):
        next_sentence.collate(pairs[:1], masking, torch.Generator(), cls=2, sep=3)


def test_both_of_berts_losses_are_means():
    torch.manual_seed(0)
    model = next_sentence.BertPretraining(
        Bert(BertConfig(60, 20, n_layers=1, n_heads=2, d_model=16, d_ff=32))
    )
    pairs = [([10 + i] * 3, [30 + i] * 2) for i in range(20)]
    masking = masked_lm.Masking(mask_token=4, vocab_size=60, n_specials=5, share=0.3)
    batch = next_sentence.collate(pairs, masking, torch.Generator().manual_seed(0), cls=2, sep=3)
    guesses, choices = model(batch)
    tokens = cross_entropy_sum(guesses, batch.masked.targets)
    expected = tokens.total / tokens.n_targets + torch.nn.functional.cross_entropy(
        choices, batch.follows
    )
    loss = next_sentence.loss_of(model, batch)
    torch.testing.assert_close(loss.total / loss.n_targets, expected)
