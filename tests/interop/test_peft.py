"""peft opens our adapters and gives the same logits, head included, and the reverse; both learn
alike, step by step. Random tiny models of transformers are the bases."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from hornbook.adapters import lora
from hornbook.adapters.methods import prepare
from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.huggingface import load_model, save_model
from hornbook.interop.peft import load_adapter, save_adapter
from hornbook.nn.layout import Ragged
from hornbook.nn.losses import IGNORE, LossSum, cross_entropy_sum
from hornbook.nn.precision import Precision
from hornbook.quantization.four_bits import restore
from hornbook.tasks.masked_lm import MaskedBatch, MaskedLM
from hornbook.training.accelerator import make_accelerator
from hornbook.training.loop import train_steps
from hornbook.training.optimizers import adamw, decay_groups
from hornbook.training.schedules import Clock

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

LENGTHS = [7, 5, 9]


@dataclass
class Batch:
    inputs: Tensor
    layout: Ragged
    segments: Tensor | None = None


def _bert():
    config = transformers.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=20,
        num_labels=3,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return transformers.BertForSequenceClassification(config)


def _llama():
    config = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=20,
    )
    return transformers.LlamaForCausalLM(config)


def _gpt2():
    config = transformers.GPT2Config(
        vocab_size=60,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=20,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return transformers.GPT2LMHeadModel(config)


MAKE = {"bert": _bert, "llama": _llama, "gpt2": _gpt2}
# What peft adapts when it adapts every linear layer of the blocks.
LINEAR = {
    "bert": ["query", "key", "value", "attention.output.dense", "intermediate.dense"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "gpt2": ["c_attn", "c_proj", "c_fc"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for i, (name, make) in enumerate(MAKE.items()):
        torch.manual_seed(i)
        made[name] = tmp_path_factory.mktemp(name)
        make().save_pretrained(made[name])
    return made


def _theirs(name, folder):
    kind = type(MAKE[name]())
    return kind.from_pretrained(folder, attn_implementation="eager").eval()


def _tokens(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(3, 60, (sum(LENGTHS),), generator=generator)


def _our_logits(model, tokens: Tensor) -> Tensor:
    layout = Ragged(LENGTHS)
    if hasattr(model, "trunk"):
        return model(Batch(tokens, layout))
    return model.logits(model(tokens, layout))


def _their_logits(model, tokens: Tensor) -> Tensor:
    """Text by text, so that padding can't matter."""
    found = [model(input_ids=text[None]).logits[0] for text in tokens.split(LENGTHS)]
    return torch.stack(found) if found[0].ndim == 1 else torch.cat(found)


def _shake(parameters) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("how", ["lora", "stabilized", "dora", "some"])
@torch.no_grad()
def test_peft_opens_ours(folders, tmp_path, name, how):
    torch.manual_seed(5)
    model = load_model(folders[name]).eval()
    base = _our_logits(model, _tokens())
    prepare(
        model,
        "dora" if how == "dora" else "lora",
        rank=3,
        rank_stabilized=how == "stabilized",
        targets=r".*qkv\.(q|v)" if how == "some" else None,
    )
    _shake(p for p in model.parameters() if p.requires_grad)
    ours = _our_logits(model, _tokens())
    assert not torch.allclose(ours, base, atol=1e-2)
    save_adapter(tmp_path, model, base_name=str(folders[name]))
    theirs = peft.PeftModel.from_pretrained(_theirs(name, folders[name]), tmp_path).eval()
    _close(ours, _their_logits(theirs, _tokens()))

    again = load_model(folders[name]).eval()
    load_adapter(tmp_path, again)
    _close(_our_logits(again, _tokens()), ours)


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("how", ["lora", "stabilized", "dora", "uneven"])
@torch.no_grad()
def test_we_open_pefts(folders, tmp_path, name, how):
    torch.manual_seed(6)
    targets = LINEAR[name]
    if how == "uneven":
        targets = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"]}.get(name, ["c_attn"])
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=targets,
        use_rslora=how == "stabilized",
        use_dora=how == "dora",
        rank_pattern={targets[0]: 5} if how == "uneven" else {},
        alpha_pattern={targets[-1]: 7} if how == "uneven" else {},
        task_type="SEQ_CLS" if name == "bert" else "CAUSAL_LM",
        fan_in_fan_out=name == "gpt2",
    )
    theirs = peft.get_peft_model(_theirs(name, folders[name]), config).eval()
    _shake(p for p in theirs.parameters() if p.requires_grad)
    theirs.save_pretrained(tmp_path)
    model = load_model(folders[name]).eval()
    load_adapter(tmp_path, model, base_name=str(folders[name]))
    _close(_our_logits(model, _tokens()), _their_logits(theirs, _tokens()))
    lora.merge(model)
    _close(_our_logits(model, _tokens()), _their_logits(theirs, _tokens()))


def _padded_batch(seed: int) -> tuple[Tensor, Tensor]:
    """Token ids (N, T) and their mask, of the same texts that lie end to end for us."""
    texts = _tokens(seed).split(LENGTHS)
    tokens = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
    mask = torch.arange(tokens.shape[1]) < torch.tensor(LENGTHS)[:, None]
    return tokens, mask


def _labels(seed: int) -> Tensor:
    return torch.randint(0, 3, (len(LENGTHS),), generator=torch.Generator().manual_seed(seed))


def _their_losses(model, n_steps: int) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    found = []
    model.train()
    for seed in range(n_steps):
        tokens, mask = _padded_batch(seed % 4)
        labels = _labels(seed % 4)
        if model.config.model_type != "bert":
            labels = tokens.masked_fill(~mask, -100)
        loss = model(input_ids=tokens, attention_mask=mask.long(), labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


def _our_losses(model, n_steps: int) -> list[float]:
    def loss_of(model, seed: int) -> LossSum:
        logits = _our_logits(model, _tokens(seed))
        if hasattr(model, "trunk"):
            return cross_entropy_sum(logits, _labels(seed))
        texts = _tokens(seed).split(LENGTHS)
        targets = torch.cat([torch.cat([t[1:], torch.tensor([IGNORE])]) for t in texts])
        return cross_entropy_sum(logits, targets)

    groups = decay_groups(model.named_parameters(), lr=5e-3, weight_decay=0.0)
    steps = train_steps(
        model,
        loss_of,
        ([step % 4] for step in range(n_steps)),
        adamw(groups),
        lambda progress: 1.0,
        Clock(n_steps=n_steps),
        make_accelerator(Precision("cpu", "float32", "for exactness")),
    )
    return [step.loss for step in steps]


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("how", ["lora", "stabilized", "dora"])
def test_twenty_steps_are_pefts(folders, tmp_path, name, how):
    """The head learns too: of BERT the classifier, and the pooler, which peft is told to train."""
    torch.manual_seed(7)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=LINEAR[name],
        use_rslora=how == "stabilized",
        use_dora=how == "dora",
        task_type="SEQ_CLS" if name == "bert" else "CAUSAL_LM",
        modules_to_save=["pooler"] if name == "bert" else None,
    )
    theirs = peft.get_peft_model(_theirs(name, folders[name]), config)
    theirs.save_pretrained(tmp_path)
    ours = load_model(folders[name])
    load_adapter(tmp_path, ours)
    n_theirs = sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert sum(p.numel() for p in ours.parameters() if p.requires_grad) == n_theirs
    expected = torch.tensor(_their_losses(theirs, 20))
    found = torch.tensor(_our_losses(ours, 20))
    assert expected[-5:].mean() < expected[:5].mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_prepare_starts_where_peft_does(folders):
    """As many numbers learn, in matrices of the same shapes, from the same distribution."""
    config = peft.LoraConfig(r=4, target_modules=LINEAR["llama"], task_type="CAUSAL_LM")
    theirs = peft.get_peft_model(_theirs("llama", folders["llama"]), config)
    ours = load_model(folders["llama"])
    prepared = prepare(ours, "lora", rank=4)
    assert prepared.n_trainable == sum(p.numel() for p in theirs.parameters() if p.requires_grad)
    assert prepared.n_total == sum(p.numel() for p in theirs.parameters())
    drawn = torch.cat([layer.change.a.detach().flatten() for layer in lora.adapters(ours).values()])
    same = [p.detach().flatten() for n, p in theirs.named_parameters() if "lora_A" in n]
    assert drawn.std().item() == pytest.approx(torch.cat(same).std().item(), rel=0.1)


@torch.no_grad()
def test_each_adapter_brings_its_head(folders, tmp_path):
    """Two adapters, one of them for other labels: switched per call, each is as it was alone."""
    torch.manual_seed(8)
    alone = {}
    for adapter, n_labels in (("spam", 3), ("topic", 5)):
        config = transformers.BertConfig.from_pretrained(folders["bert"], num_labels=n_labels)
        base = type(_bert()).from_pretrained(
            folders["bert"], config=config, ignore_mismatched_sizes=True
        )
        theirs = peft.get_peft_model(
            base, peft.LoraConfig(r=3, target_modules=LINEAR["bert"], task_type="SEQ_CLS")
        ).eval()
        _shake(p for p in theirs.parameters() if p.requires_grad)
        theirs.save_pretrained(tmp_path / adapter)
        alone[adapter] = _their_logits(theirs, _tokens())
    model = load_model(folders["bert"]).eval()
    base = _our_logits(model, _tokens())
    for adapter in alone:
        load_adapter(tmp_path / adapter, model, adapter=adapter)
    for adapter in ("topic", "spam", "topic"):
        with lora.using(model, adapter):
            _close(_our_logits(model, _tokens()), alone[adapter])
    with lora.switched_off(model):
        assert torch.equal(_our_logits(model, _tokens()), base)
    save_adapter(tmp_path / "again", model, base_name="tiny", adapter="spam")
    again = load_model(folders["bert"]).eval()
    load_adapter(tmp_path / "again", again)
    _close(_our_logits(again, _tokens()), alone["spam"])


def test_an_adapter_of_another_base_is_refused(folders, tmp_path):
    model = load_model(folders["llama"])
    prepare(model, "lora", rank=2)
    with pytest.raises(ConfigError, match="is a llama, not a bert"):
        save_adapter(tmp_path, model, base_name="x", family="bert")
    save_adapter(tmp_path, model, base_name="hub/one-llama", family="llama")
    load_adapter(tmp_path, load_model(folders["llama"]), base_name="/somewhere/copy")  # same bits
    other = load_model(folders["llama"])
    with torch.no_grad():
        other.blocks[1].attention.out.weight[0] += 1e-3  # as merging an adapter would
    with pytest.raises(CheckpointError, match=r"one-llama.*other-llama"):
        load_adapter(tmp_path, other, base_name="other-llama")
    assert not lora.adapters(other)


def test_pefts_adapter_of_another_base_is_refused(folders, tmp_path):
    """peft keeps no fingerprint: names decide, and what doesn't fit."""
    config = peft.LoraConfig(r=2, target_modules=LINEAR["llama"], task_type="CAUSAL_LM")
    peft.get_peft_model(_theirs("llama", folders["llama"]), config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=rf"{folders['llama'].name}.*gpt-7"):
        load_adapter(tmp_path, load_model(folders["llama"]), base_name="org/gpt-7")
    with pytest.raises(CheckpointError, match="changes what this model has not"):
        load_adapter(tmp_path, load_model(folders["gpt2"]))
    said = tmp_path / "adapter_config.json"
    settings = json.loads(said.read_text())
    said.write_text(json.dumps(settings | {"peft_type": "IA3"}))
    with pytest.raises(CheckpointError, match="IA3"):
        load_adapter(tmp_path, load_model(folders["llama"]))
    said.write_text(json.dumps(settings | {"bias": "all"}))
    with pytest.raises(CheckpointError, match="bias is 'all'"):
        load_adapter(tmp_path, load_model(folders["llama"]))
    said.write_text(json.dumps(settings | {"r": 3}))
    with pytest.raises(CheckpointError, match="rank 2"):
        load_adapter(tmp_path, load_model(folders["llama"]))


@torch.no_grad()
def test_an_adapter_learnt_beside_four_bits_opens_in_peft(folders, tmp_path):
    """On the floats that the bits stand for it gives the same logits."""
    torch.manual_seed(9)
    model = load_model(folders["llama"]).eval()
    prepare(model, "qlora", rank=3)
    _shake(p for p in model.parameters() if p.requires_grad)
    ours = _our_logits(model, _tokens())
    save_adapter(tmp_path / "adapter", model, base_name="tiny")
    load_adapter(tmp_path / "adapter", load_model(folders["llama"]))  # the same base, in floats
    lora.detach(model)
    restore(model)
    save_model(tmp_path / "base", model)
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base").eval()
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    _close(ours, _their_logits(theirs, _tokens()))


def _small(kind: str, **settings):
    sizes = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 48, "max_position_embeddings": 24}
    return getattr(transformers, kind)(**(sizes | settings))


def _heads():
    modern = {"local_attention": 8, "pad_token_id": 0, "num_labels": 3}
    bert, modern = _small("BertConfig", num_labels=3), _small("ModernBertConfig", **modern)
    return {
        "masked": transformers.BertForMaskedLM(bert),
        "tokens": transformers.BertForTokenClassification(bert),
        "span": transformers.BertForQuestionAnswering(_small("BertConfig")),
        "modern": transformers.ModernBertForSequenceClassification(modern),
        "modern masked": transformers.ModernBertForMaskedLM(modern),
        "llama": transformers.LlamaForSequenceClassification(
            _small("LlamaConfig", num_labels=3, pad_token_id=0)
        ),
    }


def _at_all(model, tokens: Tensor) -> Tensor:
    layout = Ragged([len(tokens)])
    if isinstance(model, MaskedLM):
        return model(MaskedBatch(tokens, layout, torch.arange(len(tokens)), tokens))
    return model(Batch(tokens, layout))


@torch.no_grad()
def test_every_head_goes_with_its_adapter(tmp_path):
    torch.manual_seed(10)
    tokens = _tokens()[: LENGTHS[0]]
    for name, theirs in _heads().items():
        theirs.eval().save_pretrained(tmp_path / name)
        model = load_model(tmp_path / name).eval()
        prepared = prepare(model, "lora", rank=2)
        assert any(n.startswith("head.") for n in prepared.trainable)
        _shake(p for p in model.parameters() if p.requires_grad)
        save_adapter(tmp_path / name / "adapter", model, base_name=name)
        opened = peft.PeftModel.from_pretrained(theirs, tmp_path / name / "adapter").eval()
        said = opened(input_ids=tokens[None])
        expected = (
            torch.stack([said.start_logits, said.end_logits], -1) if name == "span" else said.logits
        )
        ours = _at_all(model, tokens)
        _close(ours.view(expected.shape), expected)
        again = load_model(tmp_path / name).eval()
        load_adapter(tmp_path / name / "adapter", again)
        _close(_at_all(again, tokens), ours)


@torch.no_grad()
def test_an_encoder_decoders_adapter_opens_in_peft(tmp_path):
    torch.manual_seed(11)
    config = transformers.MarianConfig(
        vocab_size=60, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, pad_token_id=0,
        decoder_start_token_id=0, max_position_embeddings=24, scale_embedding=True,
        activation_function="relu", eos_token_id=1, forced_eos_token_id=None,
    )  # fmt: skip
    theirs = transformers.MarianMTModel(config).eval()
    theirs.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base").eval()
    prepare(model, "dora", rank=2)
    _shake(p for p in model.parameters() if p.requires_grad)
    save_adapter(tmp_path / "adapter", model, base_name="tiny", family="marian")
    opened = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    source, target = _tokens(1)[:7], _tokens(2)[:5]
    ours = model.logits(model(source, Ragged([7]), target, Ragged([5])))
    said = opened(input_ids=source[None], decoder_input_ids=target[None]).logits[0]
    _close(ours, said)
