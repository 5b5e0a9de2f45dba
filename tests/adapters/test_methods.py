"""What each method trains, and what every adapter keeps: a fresh one is the base, merged is
attached, switched off and taken apart is the base to the last bit, two on one base are each alone.
"""

from __future__ import annotations

import pytest
import torch

from hornbook.adapters import lora
from hornbook.adapters.fingerprint import fingerprint
from hornbook.adapters.fused import matrices
from hornbook.adapters.methods import prepare
from hornbook.errors import ConfigError
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.quantization.four_bits import FourBitLinear
from hornbook.recipes.rates import rate_of
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.training.optimizers import decay_groups
from hornbook.training.recomputation import recomputed

TOKENS, LAYOUT = torch.arange(10, 22), Ragged([7, 5])


@pytest.fixture
def llama():
    torch.manual_seed(0)
    return Llama(LlamaConfig(50, 20, n_layers=3, n_heads=4, n_kv_heads=2, d_model=32, d_ff=48))


@pytest.fixture
def bert():
    torch.manual_seed(0)
    return MaskedLM(Bert(BertConfig(50, 20, n_layers=3, n_heads=2, d_model=32, d_ff=48)))


def _shake(model) -> None:
    with torch.no_grad():
        for layer in lora.adapters(model).values():
            for parameter in layer.change.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _run(model):
    return (model.trunk if hasattr(model, "trunk") else model)(TOKENS, LAYOUT)


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
@torch.no_grad()
def test_what_every_adapter_keeps(llama, method):
    llama.eval()
    floats = _run(llama)
    prepare(llama, method, rank=4)
    base = _run(llama)  # of qlora: after rounding
    assert torch.equal(base, floats) == (method != "qlora")
    with lora.switched_off(llama):
        assert torch.equal(_run(llama), base)  # a fresh adapter is the base
    _shake(llama)
    attached = _run(llama)
    assert not torch.allclose(attached, base, atol=1e-2)
    with lora.switched_off(llama):
        assert torch.equal(_run(llama), base)
    with lora.merged(llama):
        assert not lora.adapters(llama)
        torch.testing.assert_close(_run(llama), attached, atol=1e-4, rtol=1e-4)
    assert torch.equal(_run(llama), attached)
    with lora.switched_off(llama):
        assert torch.equal(_run(llama), base)  # taken apart again, the base has its bits
    lora.merge(llama)
    assert {type(m) for m in llama.modules()}.isdisjoint({lora.LoRALinear, FourBitLinear})
    torch.testing.assert_close(_run(llama), attached, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_two_adapters_on_one_base_are_each_as_alone(llama):
    llama.eval()
    base, alone = _run(llama), {}
    for adapter, targets in (("german", lora.ALL_BLOCK_LAYERS), ("code", r"blocks\.0\..*")):
        lora.attach(llama, rank=2, targets=targets, adapter=adapter, divide=matrices)
        for name, layer in lora.adapters(llama).items():
            layer.active = adapter if adapter in layer.changes else None
            if layer.change is not None and name.startswith("blocks.0"):
                layer.change.b.normal_()
        alone[adapter] = _run(llama)
    assert lora.names(llama) == ["german", "code"]
    for adapter in ("german", "code", "german"):
        with lora.using(llama, adapter):
            assert torch.equal(_run(llama), alone[adapter])
    with lora.switched_off(llama):
        assert torch.equal(_run(llama), base)
    with pytest.raises(ConfigError, match=r"'germn'.*\n.*Did you mean 'german'"):
        lora.using(llama, "germn").__enter__()


def test_an_error_inside_switches_back(llama):
    prepare(llama, "lora", rank=2)
    with pytest.raises(KeyError), lora.switched_off(llama):
        raise KeyError
    assert all(layer.active == lora.DEFAULT for layer in lora.adapters(llama).values())


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
def test_gradients_are_those_of_the_definition(llama, method):
    """Against a plain product with the changed weight, in float64 by autograd alone."""
    prepare(llama, method, rank=3, alpha=5, targets=r"blocks\.0\.attention\.qkv\.(q|v)")
    (layer,) = lora.adapters(llama).values()
    layer.double()
    with torch.no_grad():
        layer.change.b.normal_()
    x = torch.randn(6, 32, dtype=torch.float64, requires_grad=True)
    y = torch.randn(6, layer.out_features, dtype=torch.float64)
    learnt = dict(layer.change.named_parameters())
    found = torch.autograd.grad((layer(x) * y).sum(), [x, *learnt.values()])
    weight = layer.base.weight.double()
    if method == "dora":
        with torch.no_grad():
            lengths = layer.change.lengths(layer.base)
        m = iter((learnt["magnitude"] / lengths).split([32, 16]))
    parts = {part.name: delta for part, delta in layer.change.delta()}
    assert parts.keys() == {"q", "v"}
    rows = []
    for name, begin, end in (("q", 0, 32), ("k", 32, 48), ("v", 48, 64)):
        changed = weight[begin:end] + parts.get(name, 0)
        rows.append(next(m)[:, None] * changed if method == "dora" and name != "k" else changed)
    expected = torch.autograd.grad((x @ torch.cat(rows).T * y).sum(), [x, *learnt.values()])
    for ours, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
def test_sixteen_bits_and_recomputed_blocks_learn_the_same(llama, method):
    prepare(llama, method, rank=3)
    _shake(llama)

    def gradient() -> torch.Tensor:
        llama.zero_grad()
        llama.logits(_run(llama)).float().square().sum().backward()
        return torch.cat([p.grad.flatten() for p in llama.parameters() if p.requires_grad])

    plain = gradient()
    with recomputed(llama):
        torch.testing.assert_close(gradient(), plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = gradient()
    assert (rounded - plain).norm() < 0.05 * plain.norm()


def test_dropout_is_of_the_change_alone(llama):
    prepare(llama, "lora", rank=2, dropout=0.5)
    llama.train()
    fresh = _run(llama)
    llama.eval()
    assert torch.equal(_run(llama), fresh)
    _shake(llama)
    assert torch.equal(_run(llama), _run(llama))
    llama.train()
    assert not torch.equal(_run(llama), _run(llama))


def test_what_learns(bert, llama):
    def learning(model):
        return {name for name, p in model.named_parameters() if p.requires_grad}

    everything = learning(bert)
    head = {name for name in everything if name.startswith("head.")}
    prepared = prepare(bert, "head")
    assert learning(bert) == head == set(prepared.trainable)
    prepare(bert, "last-2")
    last = {n for n in everything if n.startswith(("trunk.blocks.1.", "trunk.blocks.2."))}
    assert learning(bert) == head | last
    assert prepare(bert, "full").n_trainable == sum(p.numel() for p in bert.parameters())
    prepared = prepare(bert, "lora", rank=2)
    assert head < learning(bert) and len(prepared.adapted) == 12
    assert all(n in head or ".changes." in n for n in learning(bert))
    prepare(llama, "last-1")
    assert learning(llama) == {
        n for n, _ in llama.named_parameters() if n.startswith(("blocks.2.", "norm."))
    }
    for method, said in (("last-4", "3 blocks"), ("head", "none"), ("lorra", "mean 'lora'")):
        with pytest.raises(ConfigError, match=said):
            prepare(llama, method)
    for settings in ({"rank": 0}, {"dropout": 1.5}, {"targets": "nowhere"}, {"targets": "("}):
        with pytest.raises(ConfigError):
            prepare(llama, "lora", **settings)


def test_numbers_are_counted_once_and_in_four_bits_too(llama):
    n_base = sum(p.numel() for p in llama.parameters())
    prepared = prepare(llama, "qlora", rank=2)
    assert prepared.n_total == n_base + prepared.n_trainable


def test_beside_four_bits_it_learns_as_well_from_an_eighth_of_the_bytes():
    """Tokens that follow, by heart: QLoRA's loss is within a twentieth of LoRA's, all the way."""
    losses, sizes = {}, {}
    for method in ("lora", "qlora"):
        torch.manual_seed(0)
        config = LlamaConfig(50, 20, n_layers=1, n_heads=4, n_kv_heads=2, d_model=64, d_ff=128)
        model = Llama(config)
        prepare(model, method, rank=8)
        bases = [layer.base for layer in lora.adapters(model).values()]
        kept = [x for base in bases for x in [*base.parameters(), *base.buffers()]]
        sizes[method] = sum(x.numel() * x.element_size() for x in kept)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        losses[method] = []
        for _ in range(30):
            logits = model.logits(_run(model))[:-1]
            loss = torch.nn.functional.cross_entropy(logits, TOKENS[1:])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[method].append(loss.item())
    first, last = losses["lora"][0], losses["lora"][-1]
    assert last < 0.9 * first
    assert max(abs(q - f) for q, f in zip(losses["qlora"], losses["lora"])) < 0.05 * first
    assert 7 < sizes["lora"] / sizes["qlora"] < 8  # 4.13 bits of 32, and scales of scales


def test_all_matrices_of_an_encoder_decoder_are_adapted():
    model = EncoderDecoder(EncoderDecoderConfig(50, 20, n_layers=1, n_heads=2, d_model=32, d_ff=48))
    prepared = prepare(model, "lora", rank=2)
    linear = [n for n, m in model.named_modules() if isinstance(m, lora.LoRALinear)]
    assert set(linear) == set(prepared.adapted) and len(linear) == 4 + 7
    kv = model.decoder[0].source_attention.kv.change
    assert [part.name for part in kv.parts] == ["k", "v"]


def test_a_fingerprint_is_of_the_base_alone(llama):
    before = fingerprint(llama)
    prepare(llama, "qlora", rank=2)
    _shake(llama)
    assert fingerprint(llama) == before
    lora.merge(llama)
    assert fingerprint(llama) != before


def test_rates_fall_from_block_to_block(bert):
    """Howard and Ruder 2018, section 3.2: each layer learns slower than the one above it."""
    rate = rate_of(bert, layer_decay=0.5, head=3.0)
    assert rate("head.dense.weight") == 3
    assert [rate(f"trunk.blocks.{i}.norm_1.weight") for i in range(3)] == [0.25, 0.5, 1]
    assert rate("trunk.embeddings.tokens.weight") == rate("trunk.embeddings.norm.bias") == 0.125
    prepare(bert, "lora", rank=2)
    groups = decay_groups(bert.named_parameters(), lr=1.0, weight_decay=0.1, lr_scale=rate)
    found = {(group["lr"], group["weight_decay"] > 0) for group in groups}
    assert found == {(0.25, True), (0.5, True), (1.0, True), (3.0, True), (3.0, False)}
