"""Slots: many conversations in one cache give what each would give alone, uncached."""

from __future__ import annotations

import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.attention import SelfAttention
from hornbook.nn.layout import Ragged
from hornbook.nn.slots import SlotCache

SIZES = {"vocab_size": 50, "context_length": 150, "n_layers": 2, "d_model": 24, "d_ff": 32}


def model(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    if family == "llama":
        built = Llama(LlamaConfig(**SIZES, n_heads=6, n_kv_heads=2))
    elif family == "gpt":
        built = GPT(GPTConfig(**SIZES, n_heads=6))
    else:
        built = ModernGPT(ModernGPTConfig(**SIZES, n_heads=6, n_kv_heads=3))
    return built.eval()


def conversations(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 50, (n,), generator=generator) for n in lengths]


@pytest.mark.parametrize("family", ["llama", "gpt", "modern-gpt"])
@torch.inference_mode()
def test_pieces_of_any_size_in_any_slots_are_the_uncached_pass(family):
    """Prompts in chunks, decoding, both at once, slots out of order and with gaps."""
    decoder = model(family)
    texts = dict(zip((4, 1, 2, 0), conversations(90, 20, 70, 130), strict=True))
    cache, told = SlotCache(5, 150), {slot: [] for slot in texts}

    def read(**n_new: int) -> None:
        slots = [int(name[1:]) for name in n_new]
        news = [
            texts[slot][cache.length(slot) : cache.length(slot) + n]
            for slot, n in zip(slots, n_new.values(), strict=True)
        ]
        hidden = decoder(torch.cat(news), cache.read(slots, list(n_new.values())))
        for slot, own in zip(slots, hidden.split(list(n_new.values())), strict=True):
            told[slot].append(own)

    read(s4=60)
    read(s4=1, s1=10, s2=69)
    read(s4=29, s0=128)
    read(s2=1, s1=9)
    read(s0=1, s1=1)
    read(s0=1)
    for slot, text in texts.items():
        expected = decoder(text, Ragged([len(text)]))
        torch.testing.assert_close(torch.cat(told[slot]), expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_neighbours_change_no_bit_of_a_slots_attention():
    torch.manual_seed(0)
    attention = SelfAttention(24, 6, n_kv_heads=2, causal=True)
    x = torch.randn(200, 24)

    def steps(neighbours: dict[int, int]) -> torch.Tensor:
        cache = SlotCache(4, 300)
        slots = sorted({2, *neighbours})
        for slot in slots:
            n = 50 if slot == 2 else neighbours[slot]
            attention(x[:n], cache.read([slot], [n]))
        out = []
        for i in range(20):
            rows = [x[100 + i] if slot == 2 else x[i] for slot in slots]
            q, k, v = (part.contiguous() for part in torch.stack(rows).split(8, 1))
            layout = cache.read(slots, [1] * len(slots))
            q = torch.cat([q, q, q], 1).unflatten(1, (6, 4))
            mixed = layout.attend(q, k.unflatten(1, (2, 4)), v.unflatten(1, (2, 4)), causal=True)
            out.append(mixed[slots.index(2)])
        return torch.stack(out)

    alone = steps({})
    assert torch.equal(alone, steps({1: 3, 3: 64}))
    assert torch.equal(alone, steps({0: 180, 1: 7, 3: 55}))


@torch.inference_mode()
def test_a_cut_forgets_and_a_copy_remembers():
    decoder, (text, other) = model("llama"), conversations(40, 40)
    cache = SlotCache(3, 150)
    decoder(text, cache.read([1], [40]))
    cache.copy(1, 0, 30)
    cache.cut(1, 10)
    assert [cache.length(slot) for slot in range(3)] == [30, 10, 0]
    mixed = decoder(torch.cat([text[30:35], other[:8]]), cache.read([0, 1], [5, 8]))
    expected = decoder(text[:35], Ragged([35]))[30:]
    torch.testing.assert_close(mixed[:5], expected, atol=1e-5, rtol=1e-5)
    branched = torch.cat([text[:10], other[:8]])
    expected = decoder(branched, Ragged([18]))[10:]
    torch.testing.assert_close(mixed[5:], expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_window_hides_what_is_too_far_back():
    torch.manual_seed(0)
    attention = SelfAttention(24, 6, causal=True, window=5)
    x = torch.randn(30, 24)
    cache = SlotCache(1, 64)
    pieces = [20, 1, 1, 8]
    told = [attention(part, cache.read([0], [len(part)])) for part in x.split(pieces)]
    torch.testing.assert_close(torch.cat(told), attention(x, Ragged([30])))


def test_outside_of_inference_mode_too():
    decoder, (text,) = model("llama"), conversations(12)
    cache = SlotCache(1, 150)
    with torch.inference_mode():
        decoder(text[:10], cache.read([0], [10]))
    hidden = decoder(text[10:], cache.read([0], [2]))
    torch.testing.assert_close(hidden, decoder(text, Ragged([12]))[10:], atol=1e-5, rtol=1e-5)


def test_what_cannot_be_read_is_refused_and_changes_nothing():
    cache = SlotCache(2, 10)
    cache.read([0], [4])
    for slots, n_new in (([0], [7]), ([0, 0], [1, 1]), ([1], [0]), ([], [])):
        with pytest.raises(ConfigError):
            cache.read(slots, n_new)
    with pytest.raises(ConfigError):
        cache.cut(0, 5)
    with pytest.raises(ConfigError):
        cache.copy(1, 0, 3)
    assert (cache.length(0), cache.length(1)) == (4, 0)


def test_a_cache_that_grew_in_inference_mode_is_copied_and_read_outside_of_it():
    decoder = model("llama")
    cache = SlotCache(2, 150)
    (text,) = conversations(140)
    with torch.inference_mode():
        for part in text.split(35):  # from room for 64 tokens to more
            decoder(part, cache.read([0], [len(part)]))
    cache.copy(0, 1, 100)
    with torch.no_grad():
        decoder(text[100:], cache.read([1], [40]))
