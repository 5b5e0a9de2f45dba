"""Branches of one beginning give the numbers of separate documents."""

from __future__ import annotations

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.forked import Forked
from hornbook.nn.init import normal_
from hornbook.nn.layout import Ragged

SIZES = {"vocab_size": 31, "context_length": 16, "n_layers": 2, "n_heads": 4, "d_model": 16}
DOCUMENTS = [
    ([1, 2, 3], [[4, 5], [6, 7, 8]]),
    ([9], [[10], [11, 12], [13]]),
    ([3, 2, 1], [[5, 4], [8, 7, 6]]),  # the first one's shape, but not its neighbour
    ([7, 7, 7], [[5, 5], [1, 2, 3]]),
]
FAMILIES = {
    "llama": lambda: Llama(LlamaConfig(**SIZES, d_ff=24, n_kv_heads=2)),
    "gpt": lambda: GPT(GPTConfig(**SIZES, dropout=0.0)),
    "modern-gpt": lambda: ModernGPT(ModernGPTConfig(**SIZES)),
}


@pytest.fixture(params=FAMILIES)
def model(request):
    torch.manual_seed(0)
    model = FAMILIES[request.param]()
    normal_(model)
    return model.double()


def forked():
    tokens = [t for stem, branches in DOCUMENTS for part in (stem, *branches) for t in part]
    shapes = [(len(stem), [len(b) for b in branches]) for stem, branches in DOCUMENTS]
    return torch.tensor(tokens), Forked(shapes)


def apart():
    documents = [stem + branch for stem, branches in DOCUMENTS for branch in branches]
    return torch.tensor([t for d in documents for t in d]), Ragged([len(d) for d in documents])


def states(model):
    """Each branch's hidden states, forked and apart."""
    together, at = model(*forked()), 0
    one = []
    for stem, branches in DOCUMENTS:
        at += len(stem)
        for branch in branches:
            one.append(together[at : at + len(branch)])
            at += len(branch)
    separate, at = model(*apart()), 0
    other = []
    for stem, branches in DOCUMENTS:
        for branch in branches:
            other.append(separate[at + len(stem) : at + len(stem) + len(branch)])
            at += len(stem) + len(branch)
    return torch.cat(one), torch.cat(other)


def test_branches_read_as_documents_of_their_own(model):
    torch.testing.assert_close(*states(model))


def test_gradients_flow_to_the_stem_from_all_branches(model):
    forked_states, separate_states = states(model)
    forked_states.square().sum().backward()
    ours = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad(set_to_none=True)
    separate_states.square().sum().backward()
    theirs = [p.grad for p in model.parameters() if p.grad is not None]
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("pool", ["first", "last", "mean"])
def test_pooling_is_of_each_branch_with_its_stem(pool, model):
    (tokens, layout), (other_tokens, other_layout) = forked(), apart()
    ours = getattr(layout, pool)(model(tokens, layout))
    theirs = getattr(other_layout, pool)(model(other_tokens, other_layout))
    torch.testing.assert_close(ours, theirs)
    assert layout.longest() == other_layout.longest() == 6


def test_a_window_is_counted_in_positions():
    torch.manual_seed(0)
    tokens, layout = forked()
    q, k, v = torch.randn(3, len(tokens), 2, 4, dtype=torch.double).unbind()
    narrow = layout.attend(q, k, v, causal=True, window=1)
    # The second branch's first token (place 5) sees itself and the stem's last (place 2).
    for head in range(2):
        weights = torch.softmax(k[[2, 5], head] @ q[5, head] / 2, 0)
        torch.testing.assert_close(narrow[5, head], weights @ v[[2, 5], head])


def test_encoders_are_refused():
    q = torch.randn(len(forked()[0]), 2, 4)
    with pytest.raises(ConfigError, match="causal"):
        forked()[1].attend(q, q, q)
