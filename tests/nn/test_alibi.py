"""ALiBi: the published slopes, the bias by hand, and that company and padding change nothing."""

from __future__ import annotations

import json

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.nn.alibi import Alibi, slopes
from hornbook.nn.layout import Padded, Ragged
from hornbook.tasks.masked_lm import MaskedLM

SIZES = {"vocab_size": 50, "context_length": 20, "n_layers": 4, "n_heads": 4, "d_model": 32}
CONFIG = ModernBertConfig(**SIZES, d_ff=48, window=3, positions="alibi")
LENGTHS = [11, 7, 7, 1]


def test_the_slopes_are_the_papers():
    assert slopes(8) == [2**-i for i in range(1, 9)]
    assert slopes(16)[:2] == [2**-0.5, 2**-1] and slopes(16)[-1] == 2**-8
    assert slopes(6) == [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]
    assert slopes(1) == [2**-8]


@pytest.mark.parametrize(("window", "causal"), [(None, False), (2, False), (None, True), (3, True)])
def test_scores_fall_with_distance_as_written_out(window, causal):
    torch.manual_seed(0)
    n, n_heads = 7, 4
    q, k, v = torch.randn(3, n, n_heads, 8)
    found = Alibi(n_heads)(Ragged([n])).attend(q, k, v, window=window, causal=causal)
    for head in range(n_heads):
        for i in range(n):
            near = [
                j
                for j in range(n)
                if (window is None or abs(i - j) <= window) and not (causal and j > i)
            ]
            scores = [
                float(q[i, head] @ k[j, head]) / 8**0.5 - slopes(n_heads)[head] * abs(i - j)
                for j in near
            ]
            weights = torch.tensor(scores).softmax(0)
            expected = sum(w * v[j, head] for w, j in zip(weights, near))
            torch.testing.assert_close(found[i, head], expected)


@torch.no_grad()
def test_company_and_padding_change_nothing_and_the_order_matters():
    torch.manual_seed(0)
    model = ModernBert(CONFIG).eval()
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    tokens = torch.randint(1, 50, mask.shape) * mask
    ragged = model(tokens[mask], Ragged(LENGTHS))
    torch.testing.assert_close(model(tokens, Padded(mask))[mask], ragged, atol=1e-5, rtol=0)
    left = model(tokens.flip(1), Padded(mask.flip(1)))  # padding before the text
    alone = [model(row[near], Ragged([len(row[near])])) for row, near in zip(tokens, mask)]
    torch.testing.assert_close(torch.cat(alone), ragged, atol=1e-5, rtol=0)
    backwards = [
        model(row[near].flip(0), Ragged([int(near.sum())])) for row, near in zip(tokens, mask)
    ]
    torch.testing.assert_close(left[mask.flip(1)], torch.cat(backwards), atol=1e-5, rtol=0)
    swapped = tokens[:1].clone()
    swapped[0, 2], swapped[0, 10] = tokens[0, 10], tokens[0, 2]
    moved = model(swapped[0], Ragged([11]))
    assert not torch.allclose(moved[5], ragged[5], atol=1e-4), "places are seen"


def test_it_is_saved_as_itself_and_not_as_what_transformers_would_misread(tmp_path):
    torch.manual_seed(0)
    for kind, model in (("encoder", ModernBert(CONFIG)), ("masked", MaskedLM(ModernBert(CONFIG)))):
        save_model(tmp_path / kind, model)
        described = json.loads((tmp_path / kind / "config.json").read_text())
        assert described["model_type"] == "hornbook-modernbert-alibi"
        back = load_model(tmp_path / kind)
        assert type(back) is type(model) and back.config == CONFIG
        assert all(torch.equal(t, back.state_dict()[n]) for n, t in model.state_dict().items())
    with pytest.raises(ConfigError, match=r"'alibbi'(.|\n)*Did you mean 'alibi'"):
        ModernBert(ModernBertConfig(**SIZES, d_ff=48, positions="alibbi"))
