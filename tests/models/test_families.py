"""Every family: transformers' logits at random weights, there and back; nothing lost on the way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import load_model, save_model
from hornbook.models import CONFIGS, MODELS
from hornbook.models.bert import Bert, BertConfig
from hornbook.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_bert import ModernBert, ModernBertConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.models.presets import PRESETS, count_parameters, outline, preset
from hornbook.nn.cache import KeyValueCache
from hornbook.nn.layout import Padded, Ragged
from hornbook.tasks.masked_lm import MaskedLM
from hornbook.tasks.next_sentence import BertPretraining

transformers = pytest.importorskip("transformers")

LENGTHS = [11, 7, 7, 1]
SIZES = {"vocab_size": 90, "context_length": 20, "n_heads": 4, "d_model": 32, "d_ff": 48}
DECODERS = {
    "gpt": GPTConfig(**SIZES, n_layers=3),
    "modern-gpt": ModernGPTConfig(**SIZES, n_layers=3, n_kv_heads=2),
    "llama": LlamaConfig(**SIZES, n_layers=3, n_kv_heads=2, rotary_base=500.0),
    "llama, tied": LlamaConfig(**SIZES, n_layers=2, tied_head=True),
}
ENCODERS = {
    "bert": BertConfig(**SIZES, n_layers=3),
    "modern-bert": ModernBertConfig(**SIZES, n_layers=4, window=3),
    "modern-bert, all far": ModernBertConfig(**SIZES, n_layers=2, global_every=1),
}


def build(name: str, config) -> torch.nn.Module:
    """With weights that a swapped or missing one cannot hide among: none is 0, none is 1."""
    torch.manual_seed(0)
    return shaken(MODELS.load(name.partition(",")[0])(config))


@torch.no_grad()
def shaken(model: torch.nn.Module) -> torch.nn.Module:
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    return torch.randint(5, 90, mask.shape, generator=generator) * mask, mask


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_equals_transformers_both_ways(tmp_path, batch, name):
    ours = build(name, DECODERS[name])
    save_model(tmp_path, ours)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens, mask = batch
    expected = theirs(tokens, attention_mask=mask.long()).logits
    same(ours.logits(ours(tokens, Padded(mask)))[mask], expected[mask])
    ragged = ours.logits(ours(tokens[mask], Ragged(LENGTHS)))
    same(ragged, expected[mask])
    theirs.save_pretrained(tmp_path / "back")
    back = load_model(tmp_path / "back").eval()
    assert torch.equal(back.logits(back(tokens[mask], Ragged(LENGTHS))), ragged)


@torch.no_grad()
@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_and_its_masked_lm_equal_transformers_both_ways(tmp_path, batch, name):
    ours = shaken(MaskedLM(build(name, ENCODERS[name]))).eval()
    save_model(tmp_path, ours)
    theirs = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    tokens, mask = batch
    expected = theirs(tokens, attention_mask=mask.long()).logits
    same(ours.logits(ours.trunk(tokens, Padded(mask)))[mask], expected[mask])
    ragged = ours.logits(ours.trunk(tokens[mask], Ragged(LENGTHS)))
    same(ragged, expected[mask])
    theirs.save_pretrained(tmp_path / "back")
    back = load_model(tmp_path / "back").eval()
    assert back.config == ours.config
    assert torch.equal(back.logits(back.trunk(tokens[mask], Ragged(LENGTHS))), ragged)

    save_model(tmp_path / "trunk", ours.trunk)
    alone = transformers.AutoModel.from_pretrained(tmp_path / "trunk").eval()
    states = alone(tokens, attention_mask=mask.long()).last_hidden_state
    same(ours.trunk(tokens, Padded(mask))[mask], states[mask])
    assert isinstance(load_model(tmp_path / "trunk"), type(ours.trunk))


@torch.no_grad()
def test_next_sentence_equals_transformers(tmp_path, batch):
    torch.manual_seed(0)
    ours = shaken(BertPretraining(Bert(ENCODERS["bert"])))
    save_model(tmp_path, ours)
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path).eval()
    tokens, mask = batch
    segments = (torch.arange(tokens.shape[1]) > 2).long().expand_as(tokens)
    expected = theirs(tokens, mask.long(), segments)
    hidden = ours.trunk(tokens, Padded(mask), segments)
    same(ours.next_sentence(hidden[:, 0]), expected.seq_relationship_logits)
    guesses = ours.head(hidden, ours.trunk.token_embedding())
    same(guesses[mask], expected.prediction_logits[mask])
    theirs.save_pretrained(tmp_path / "back")
    back = load_model(tmp_path / "back")
    assert all(torch.equal(t, ours.state_dict()[n]) for n, t in back.state_dict().items())


@torch.no_grad()
def test_the_encoder_decoder_equals_marian_both_ways(tmp_path, batch):
    ours = build("encoder-decoder", EncoderDecoderConfig(**SIZES, n_layers=2))
    save_model(tmp_path, ours)
    theirs = transformers.MarianMTModel.from_pretrained(tmp_path).eval()
    source, mask = batch
    lengths = [3, 9, 9, 5]
    target_mask = torch.arange(9) < torch.tensor(lengths)[:, None]
    target = torch.randint(5, 90, target_mask.shape) * target_mask
    expected = theirs(
        source, mask.long(), decoder_input_ids=target, decoder_attention_mask=target_mask.long()
    ).logits
    padded = ours.logits(ours(source, Padded(mask), target, Padded(target_mask)))
    same(padded[target_mask], expected[target_mask])
    ragged = ours(source[mask], Ragged(LENGTHS), target[target_mask], Ragged(lengths))
    same(ours.logits(ragged), expected[target_mask])
    theirs.save_pretrained(tmp_path / "back")
    back = load_model(tmp_path / "back").eval()
    again = back(source[mask], Ragged(LENGTHS), target[target_mask], Ragged(lengths))
    assert torch.equal(again, ragged)

    moved = target.clone()
    moved[:, 4] = 3
    after = ours.logits(ours(source, Padded(mask), moved, Padded(target_mask)))
    assert torch.equal(after[:, :4], padded[:, :4])
    assert not torch.allclose(after[1, 4:], padded[1, 4:])


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_a_later_token_cannot_move_an_earlier_logit(name):
    model = build(name, DECODERS[name])
    tokens = torch.arange(10, 22)
    before = model.logits(model(tokens, Ragged([12])))
    for moved in (3, 11):
        other = tokens.clone()
        other[moved] = 4
        after = model.logits(model(other, Ragged([12])))
        assert torch.equal(before[:moved], after[:moved])
        assert not torch.isclose(before[moved:], after[moved:]).all(1).any()


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS | ENCODERS)
def test_company_changes_nothing(batch, name):
    """Padded, ragged and alone: a document's states are its own."""
    model = build(name, (DECODERS | ENCODERS)[name])
    tokens, mask = batch
    padded = model(tokens, Padded(mask))
    left = model(tokens.flip(1), Padded(mask.flip(1)))
    for row, length in enumerate(LENGTHS):
        alone = model(tokens[row, :length], Ragged([length]))
        same(padded[row, :length], alone)
        if name not in ENCODERS:  # flipped, a row begins with padding and reads backwards
            backwards = tokens[row, :length].flip(0)
            same(left[row, -length:], model(backwards, Ragged([length])))


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("left_padding", [0, 2])
def test_the_cache_changes_nothing(batch, name, left_padding):
    model = build(name, DECODERS[name])
    tokens = batch[0][1:3, :7]
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, :left_padding] = False
    whole = model(tokens, Padded(mask))
    cache, seen = KeyValueCache(), []
    for start, end in ((0, 3), (3, 4), (4, 5), (5, 7)):
        part = slice(start, end)
        seen.append(model(tokens[:, part], cache.extend(mask[:, part])))
        assert cache.n_read == end
    same(torch.cat(seen, 1)[mask], whole[mask])


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt", "modern-gpt", "llama", "encoder-decoder"])
def test_the_first_loss_is_that_of_a_guess(name):
    torch.manual_seed(0)
    sizes = {"vocab_size": 500, "context_length": 64, "n_heads": 2, "d_model": 64, "d_ff": 128}
    model = MODELS.load(name)(CONFIGS.load(name)(**sizes, n_layers=2))
    tokens, layout = torch.randint(500, (640,)), Ragged([64] * 10)
    inputs = (tokens, layout, tokens, layout) if name == "encoder-decoder" else (tokens, layout)
    targets = torch.randint(500, (640,))
    loss = torch.nn.functional.cross_entropy(model.logits(model(*inputs)), targets)
    # The encoder-decoder's embeddings have unit length and its last norm unit variance: so have its
    # logits, and a guess with that much noise costs half a nat more.
    guess = math.log(500) + (0.5 if name == "encoder-decoder" else 0.0)
    assert abs(loss.item() - guess) < 0.1


@pytest.mark.parametrize("name", [*DECODERS, *ENCODERS])
def test_impossible_sizes_and_long_texts_are_refused(name):
    config = (DECODERS | ENCODERS)[name]
    with pytest.raises(ConfigError, match="multiple of n_heads") as caught:
        MODELS.load(name.partition(",")[0])(replace(config, n_heads=5))
    assert "n_heads [4, 8], or d_model [30, 35]" in caught.value.hint
    model = build(name, config)
    with pytest.raises(ConfigError, match="21 tokens; the model reads 20"):
        model(torch.zeros(21, dtype=torch.long), Ragged([21]))
    with pytest.raises(ConfigError, match="21 tokens; the model reads 20"):
        tokens = torch.zeros(1, 21, dtype=torch.long)
        model(tokens, Padded(torch.ones(1, 21, dtype=torch.bool)))


PUBLISHED = {
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "minilm": 22_713_216,
    "modernbert-base": 149_655_232,
    "llama-7b": 6_738_415_616,
    "tinyllama": 1_100_048_384,
    "smollm-135m": 134_515_008,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_number_of_parameters(name):
    """BERT's are published with the pooler, ModernBERT's with the masked-LM head."""
    from hornbook.models.bert import Pooler

    family, config = preset(name)
    count = count_parameters(outline(family, config))
    with torch.device("meta"):
        if family == "bert":
            count += count_parameters(Pooler(config.d_model))
        if family == "modern-bert":
            count += count_parameters(MODELS.load(family)(config).masked_lm_head())
    assert count == PUBLISHED[name]


def test_presets_and_registries_fit_together():
    assert set(MODELS) == set(CONFIGS)
    for family, config in PRESETS.values():
        assert isinstance(config, CONFIGS.load(family))
    with pytest.raises(ConfigError, match="gpt3"):
        preset("gpt3")


def test_gpt2_as_openai_saved_it(tmp_path):
    """No prefix, no head, causal masks among the weights; every key has its place or a reason."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=20)
    theirs = shaken(transformers.GPT2LMHeadModel(config))
    theirs.save_pretrained(tmp_path)
    weights = {n: t.clone() for n, t in theirs.transformer.state_dict().items()}
    for i in range(2):
        weights[f"h.{i}.attn.bias"] = torch.ones(1, 1, 20, 20).tril()
        weights[f"h.{i}.attn.masked_bias"] = torch.tensor(-1e4)
    from hornbook.interop.huggingface import write_weights

    write_weights(tmp_path / "model.safetensors", weights)
    ours = load_model(tmp_path).eval()
    tokens = torch.arange(5, 20)
    with torch.no_grad():
        same(ours.logits(ours(tokens, Ragged([15]))), theirs(tokens[None]).logits[0])

    write_weights(tmp_path / "model.safetensors", weights | {"h.0.attn.gate": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"unexpected h\.0\.attn\.gate"):
        load_model(tmp_path)
    other_head = {"lm_head.weight": torch.zeros(90, 32)}
    write_weights(tmp_path / "model.safetensors", weights | other_head)
    with pytest.raises(CheckpointError, match="lm_head"):
        load_model(tmp_path)


def test_bert_as_google_saved_it(tmp_path):
    """gamma and beta, a position buffer, and both heads: a masked LM all the same."""
    ours = shaken(BertPretraining(Bert(ENCODERS["bert"])))
    save_model(tmp_path, ours)
    from hornbook.interop.huggingface import read_weights, write_weights

    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): t
        for n, t in read_weights(tmp_path / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(20)[None]
    write_weights(tmp_path / "model.safetensors", old)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("BertForPreTraining", "BertForMaskedLM"))
    model = load_model(tmp_path)
    assert type(model) is MaskedLM
    mine = ours.state_dict()
    assert all(torch.equal(t, mine[n]) for n, t in model.state_dict().items())


def test_large_models_lie_in_several_files(tmp_path):
    ours = build("llama", DECODERS["llama"])
    save_model(tmp_path / "one", ours)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "one")
    theirs.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert not (tmp_path / "many" / "model.safetensors").exists()
    back = load_model(tmp_path / "many")
    assert all(torch.equal(t, ours.state_dict()[n]) for n, t in back.state_dict().items())


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, "yarn"),
        ("llama", {"head_dim": 16}, "head_dim is 16, not 8"),
        ("gpt", {"activation_function": "relu"}, "activation_function is 'relu'"),
        ("gpt", {"architectures": ["GPT2DoubleHeadsModel"]}, "GPT2DoubleHeadsModel"),
        ("gpt", {"n_head": None}, "does not say 'n_head'"),
        ("bert", {"hidden_act": "relu"}, "hidden_act"),
        ("modern-bert", {"layer_types": ["full_attention"] * 4}, "layer_types"),
    ],
)
def test_what_a_family_cannot_follow_is_refused(tmp_path, name, change, said):
    import json

    save_model(tmp_path, build(name, (DECODERS | ENCODERS)[name]))
    config = json.loads((tmp_path / "config.json").read_text()) | change
    config = {key: value for key, value in config.items() if value is not None or key != "n_head"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        load_model(tmp_path)


def test_only_models_have_folders(tmp_path):
    with pytest.raises(ConfigError, match="Linear has no folder format"):
        save_model(tmp_path, torch.nn.Linear(2, 2))


def test_every_kind_saves_and_loads_as_itself(tmp_path):
    for number, make in enumerate(
        (
            lambda: MODELS.load("bigram")(CONFIGS.load("bigram")(7)),
            lambda: GPT(DECODERS["gpt"]),
            lambda: ModernGPT(DECODERS["modern-gpt"]),
            lambda: Llama(DECODERS["llama"]),
            lambda: Bert(ENCODERS["bert"]),
            lambda: ModernBert(ENCODERS["modern-bert"]),
            lambda: MaskedLM(ModernBert(ENCODERS["modern-bert"])),
            lambda: EncoderDecoder(EncoderDecoderConfig(**SIZES, n_layers=1)),
        )
    ):
        model = shaken(make())
        save_model(tmp_path / str(number), model)
        back = load_model(tmp_path / str(number))
        assert type(back) is type(model) and back.config == model.config
        assert all(torch.equal(t, model.state_dict()[n]) for n, t in back.state_dict().items())
