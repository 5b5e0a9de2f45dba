"""The last block goes on with the tokens that are wanted: same numbers, less work."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from hornbook.models.bert import Bert, BertConfig
from hornbook.models.heads import HeadConfig, SequenceClassifier, TokenClassifier
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.nn.layout import Padded, Ragged, first_places
from hornbook.nn.losses import IGNORE
from hornbook.tasks.classification import Batch
from hornbook.tasks.tag import Tag

LENGTHS = [7, 4, 1]
TOKENS = torch.arange(sum(LENGTHS)) % 30
WANTED = torch.tensor([10, 0, 8, 3])
TRUNKS = {
    "bert": Bert(BertConfig(30, 8, 3, 2, 16, 24)),
    "modern-bert": ModernBert(ModernBertConfig(30, 8, 3, 2, 16, 24, window=2)),
}
trunks = pytest.mark.parametrize("trunk", TRUNKS.values(), ids=TRUNKS)


def padded() -> tuple[torch.Tensor, Padded]:
    mask = torch.arange(7) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.zeros(3, 7, dtype=torch.long)
    tokens[mask] = TOKENS
    return tokens, Padded(mask)


@pytest.mark.parametrize("laid", [(TOKENS, Ragged(LENGTHS)), padded()], ids=["ragged", "padded"])
@trunks
def test_the_states_and_gradients_are_those_of_all_picked_afterwards(trunk, laid):
    tokens, layout = laid
    found = []
    for states in (
        trunk(tokens, layout, wanted=WANTED),
        trunk(tokens, layout).flatten(0, -2)[WANTED],
    ):
        trunk.zero_grad()
        states.pow(3).sum().backward()
        found.append([states, *(p.grad.clone() for p in trunk.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1])
    for ours, whole in zip(*found, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-4, atol=1e-5)


@trunks
def test_the_last_feed_forward_sees_no_others(trunk):
    rows = []
    hooks = [
        block.feed_forward.register_forward_pre_hook(lambda _, x: rows.append(len(x[0])))
        for block in trunk.blocks
    ]
    trunk(TOKENS, Ragged(LENGTHS), wanted=WANTED)
    for hook in hooks:
        hook.remove()
    assert rows == [12, 12, 4]


def test_a_lower_part_that_is_all_of_it():
    bert = TRUNKS["bert"]
    lower = bert.lower(TOKENS, Ragged(LENGTHS), 3)
    assert torch.equal(bert.upper(lower, Ragged(LENGTHS), 3, WANTED), lower[WANTED])
    assert torch.equal(bert.upper(lower, Ragged(LENGTHS), 3), lower)


def test_first_places_count_through_rectangles_too():
    assert first_places(Ragged(LENGTHS), TOKENS).tolist() == [0, 7, 11]
    tokens, layout = padded()
    assert first_places(layout, tokens).tolist() == [0, 7, 14]


@pytest.mark.parametrize("mean", [False, True])
@trunks
def test_heads_read_what_they_read_of_all_states(trunk, mean):
    if mean and isinstance(trunk, Bert):
        pytest.skip("a BERT's head reads the first token")
    model = SequenceClassifier(trunk, HeadConfig(trunk.config, ("no", "yes"), mean=mean))
    layout = Ragged(LENGTHS)
    states = trunk(TOKENS, layout)
    read = layout.mean(states) if mean else layout.first(states)
    torch.testing.assert_close(model(Batch(TOKENS, layout)), model.head(read), rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_tagged", [0, 5])
def test_tags_have_the_loss_of_all_tokens(n_tagged):
    trunk = TRUNKS["bert"]
    model = TokenClassifier(trunk, HeadConfig(trunk.config, ("O", "NOUN"), "token"))
    targets = torch.full((12,), IGNORE)
    targets[torch.tensor([1, 2, 5, 8, 9])[:n_tagged]] = 1
    batch = Batch(TOKENS, Ragged(LENGTHS), targets)
    task = SimpleNamespace()  # the loss asks nothing of it
    loss = Tag.loss(task, model, batch)
    expected = torch.nn.functional.cross_entropy(model(batch), targets, reduction="sum")
    assert loss.n_targets == n_tagged
    torch.testing.assert_close(loss.total, expected, rtol=1e-5, atol=1e-6)
    loss.total.backward()
