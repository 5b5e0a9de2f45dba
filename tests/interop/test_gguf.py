"""GGUF files: written and read back, against llama.cpp's own reader of numbers, and broken ones."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from tokenizers import AddedToken, models, pre_tokenizers
from tokenizers import Tokenizer as RustTokenizer

from hornbook import bundle
from hornbook.errors import CheckpointError, ConfigError
from hornbook.interop.gguf_file import GGUFFile
from hornbook.interop.gguf_writer import write_gguf
from hornbook.interop.names.gguf import half_apart
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.nn.layout import Ragged
from hornbook.nn.rotary import Stretch
from hornbook.text.byte_level import ALPHABET, byte_level
from hornbook.text.chat_template import ChatTemplate
from hornbook.text.tokenizer import Tokenizer

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
LENGTHS = [7, 4, 1]
STRETCH = Stretch(factor=32.0, slow=1.0, fast=4.0, first_context=8192)


def byte_tokenizer() -> Tokenizer:
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the")]
    tokens = [*SPECIALS, *ALPHABET, "th", "the", "Ġthe"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    rust = byte_level(RustTokenizer(models.BPE(vocab=vocabulary, merges=merges)))
    rust.add_special_tokens(SPECIALS)
    return Tokenizer(rust)


def tiny(kind: str):
    torch.manual_seed(0)
    sizes = {"vocab_size": 264, "context_length": 32, "n_layers": 2, "n_heads": 4, "d_ff": 96}
    if kind == "gpt2":
        model = GPT(GPTConfig(**sizes, d_model=64))
    else:
        tied = kind == "llama, tied"
        config = LlamaConfig(
            **sizes,
            d_model=64,
            n_kv_heads=2,
            rotary_base=50000.0,
            norm_epsilon=1e-3,
            tied_head=tied,
            rotary_stretch=STRETCH if kind == "llama, stretched" else None,
        )
        model = Llama(config)
    with torch.no_grad():
        for parameter in model.parameters():  # large: what is small would hide a difference
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


@torch.no_grad()
def logits(model):
    tokens = torch.arange(3, 3 + sum(LENGTHS)) * 7 % 259
    return model.logits(model(tokens, Ragged(LENGTHS)))


@pytest.mark.parametrize("kind", ["llama", "llama, tied", "llama, stretched", "gpt2"])
@pytest.mark.parametrize(("numbers", "at_most"), [("f32", 0), ("f16", 0.01), ("q8_0", 0.1)])
def test_what_is_written_reads_back(tmp_path, kind, numbers, at_most):
    model, path = tiny(kind), tmp_path / "m.gguf"
    template = ChatTemplate(TEMPLATE, {"eos_token": "<|im_end|>"})
    write_gguf(
        path,
        model,
        byte_tokenizer(),
        name="m",
        numbers=numbers,
        template=template,
        stop_tokens=[2],
    )
    found = bundle.load(path)
    assert found.model.config == model.config
    assert found.stop_tokens == {0, 2}
    assert found.template.source == TEMPLATE
    messages = [{"role": "user", "content": "the cat's 12 naïve\n\n 🙂"}]
    assert found.template.encode(messages, found.tokenizer) == template.encode(
        messages, byte_tokenizer()
    )
    expected = logits(model)
    off = (logits(found.model.eval()) - expected).norm() / expected.norm()
    assert off <= at_most
    assert (off > 0) == (numbers != "f32")


def test_the_library_reads_what_we_write_and_we_read_what_it_does(tmp_path):
    path = tmp_path / "m.gguf"
    write_gguf(path, tiny("llama"), byte_tokenizer(), name="m", numbers="q8_0")
    theirs, ours = gguf.GGUFReader(path), GGUFFile(path)
    said = {name: f.contents() for name, f in theirs.fields.items() if "GGUF." not in name}
    assert said == ours.fields
    assert [t.name for t in theirs.tensors] == list(ours.tensors)
    for t in theirs.tensors:
        expected = gguf.dequantize(t.data, t.tensor_type)
        assert torch.equal(ours.tensor(t.name), torch.from_numpy(expected.copy()).float())


def test_pairs_that_turn_together_are_moved():
    """llama.cpp turns neighbours (0, 1), (2, 3); we turn (0, 2), (1, 3)."""
    heads = torch.arange(8.0)[:, None]
    assert half_apart(heads, 2).flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


# Formats that the library can write; the K ones it only reads, so that they are made by hand.
WRITTEN = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


@pytest.mark.parametrize("kind", [*WRITTEN, "Q4_K", "Q6_K"])
def test_kinds_of_numbers(tmp_path, kind):
    number = GGMLQuantizationType[kind]
    numbers = np.random.default_rng(0).normal(size=(4, 512)).astype(np.float32)
    if kind in WRITTEN:
        data = gguf.quantize(numbers, number)
    else:
        data, numbers = made_by_hand(kind)
    writer = gguf.GGUFWriter(tmp_path / "t.gguf", "llama")
    writer.add_tensor("t", data, raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    got = GGUFFile(tmp_path / "t.gguf").tensor("t").numpy()
    assert np.array_equal(got, gguf.dequantize(data, number))
    assert got.shape == numbers.shape and got.dtype == np.float32
    steps = {"F32": 0, "F16": 0.001, "BF16": 0.004, "Q8_0": 0.02, "Q4_K": 1e-6, "Q6_K": 1e-6}
    assert np.abs(got - numbers).max() <= steps.get(kind, 0.4) * np.abs(numbers).max()


def made_by_hand(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """A row of one block of 256, and its numbers by the format's description (ggml-common.h)."""
    generator = np.random.default_rng(0)
    d, low = np.float16(0.01), np.float16(0.02)
    if kind == "Q6_K":  # 128 bytes of low halves, 64 of high bits, 16 scales, d
        q = generator.integers(0, 64, 256)
        scales = generator.integers(-20, 20, 16).astype(np.int8)
        halves = q.reshape(2, 4, 32)  # 32 of each quarter of 128 share their bytes
        low_bits = np.concatenate(
            [
                np.concatenate([(h[0] & 15) | (h[2] & 15) << 4, (h[1] & 15) | (h[3] & 15) << 4])
                for h in halves
            ]
        )
        high_bits = np.concatenate(
            [h[0] >> 4 | h[1] >> 4 << 2 | h[2] >> 4 << 4 | h[3] >> 4 << 6 for h in halves]
        )
        block = [low_bits.astype(np.uint8), high_bits.astype(np.uint8), scales.view(np.uint8)]
        row = np.concatenate([*block, np.array([d]).view(np.uint8)])
        return row[None], (float(d) * np.repeat(scales, 16) * (q - 32.0))[None].astype(np.float32)
    q = generator.integers(0, 16, 256)
    scales, lows = generator.integers(0, 64, 8), generator.integers(0, 64, 8)
    packed = np.concatenate(
        [
            scales[:4] | scales[4:] >> 4 << 6,
            lows[:4] | lows[4:] >> 4 << 6,
            (scales[4:] & 15) | (lows[4:] & 15) << 4,
        ]
    )
    pairs = q.reshape(4, 2, 32)
    halves = (pairs[:, 0] | pairs[:, 1] << 4).ravel()
    row = np.concatenate(
        [np.array([d, low]).view(np.uint8), packed.astype(np.uint8), halves.astype(np.uint8)]
    )
    numbers = float(d) * np.repeat(scales, 32) * q - float(low) * np.repeat(lows, 32)
    return row[None], numbers[None].astype(np.float32)


# What is wrong with a file, said in a sentence.


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "m.gguf"
    write_gguf(path, tiny("llama"), byte_tokenizer(), name="m")
    return path.read_bytes()


def test_a_file_cut_anywhere_is_refused(tmp_path, whole):
    for n in [0, 3, 7, 20, 100, 1000, len(whole) // 2, len(whole) - 1]:
        path = tmp_path / "cut.gguf"
        path.write_bytes(whole[:n])
        with pytest.raises(CheckpointError) as caught:
            bundle.load(path)
        assert caught.value.hint


def test_a_file_with_any_byte_changed_opens_or_is_refused(tmp_path, whole):
    """Nothing but CheckpointError, whatever the lengths and types in the fields become."""
    generator = np.random.default_rng(0)
    path, refused = tmp_path / "changed.gguf", 0
    for place in generator.integers(4, 6000, 60):
        changed = bytearray(whole)
        changed[place] = generator.integers(0, 256)
        path.write_bytes(changed)
        try:
            bundle.load(path)
        except CheckpointError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("field", ["llama.block_count", "llama.context_length"])
def test_sizes_beyond_reason_fill_no_memory(tmp_path, whole, field):
    name = field.encode()
    at = whole.index(name) + len(name) + 4
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:at] + struct.pack("<I", 2**31) + whole[at + 4 :])
    with pytest.raises(CheckpointError, match="2,147,483,648"):
        bundle.load(path)


@pytest.mark.parametrize("field", ["tokenizer.ggml.tokens", "tokenizer.ggml.merges", "gpt-2"])
def test_fields_of_another_type_are_refused(tmp_path, whole, field):
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in GGUFFile(_written(tmp_path, whole)).fields.items():
        if name in ("general.architecture", "GGUF.version"):
            continue
        if name == field or value == field:
            writer.add_float32(name, 0.5)
        elif isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    writer.add_tensor("token_embd.weight", np.zeros((264, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError):
        bundle.load(path)


def _written(folder, content: bytes):
    path = folder / "whole.gguf"
    path.write_bytes(content)
    return path


def test_an_unknown_kind_of_numbers_is_named(tmp_path, whole):
    name = b"blk.0.attn_k.weight"
    at = whole.index(name) + len(name) + 4 + 2 * 8  # behind the number of axes and two of them
    path = tmp_path / "m.gguf"
    path.write_bytes(whole[:at] + struct.pack("<I", 999) + whole[at + 4 :])
    with pytest.raises(CheckpointError, match=r"blk\.0\.attn_k\.weight as type 999"):
        bundle.load(path)


@pytest.mark.parametrize(
    ("said", "instead", "match"),
    [
        (b"llama.context_length", b"llama.context_xxxxxx", "does not say llama.context_length"),
        (b"tokenizer.ggml.merges", b"tokenizer.ggml.mergez", "does not say tokenizer.ggml.merges"),
        (b"gpt-2", b"gpt-9", "cuts texts into words by 'gpt-9'"),
        (b"blk.1.ffn_up", b"blk.1.ffn_xx", "missing model.layers.1.mlp.up_proj.weight"),
        (b"GGUF\x03", b"GGUF\x09", "version 9"),
        (b"GGUF\x03", b"FFFF\x03", "is not a GGUF file"),
    ],
)
def test_what_is_missing_is_named(tmp_path, whole, said, instead, match):
    path = tmp_path / "m.gguf"
    path.write_bytes(whole.replace(said, instead))
    with pytest.raises(CheckpointError, match=match):
        bundle.load(path)


def test_what_a_file_cannot_have_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="q3"):
        write_gguf(tmp_path / "m.gguf", tiny("llama"), byte_tokenizer(), name="m", numbers="q3")
    other = Tokenizer(RustTokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match="no name in GGUF"):
        write_gguf(tmp_path / "m.gguf", tiny("llama"), other, name="m")
    assert not list(tmp_path.iterdir())


# Tokenizers.


def test_digits_stand_alone_in_smollm(tmp_path):
    tokenizer = byte_tokenizer()
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.rust.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    path = tmp_path / "m.gguf"
    write_gguf(path, tiny("llama"), Tokenizer(tokenizer.rust), name="m")
    found = bundle.load(path).tokenizer
    assert GGUFFile(path).fields["tokenizer.ggml.pre"] == "smollm"
    assert found.rust.pre_tokenizer.pre_tokenize_str("a 123")[2:] == [
        ("1", (2, 3)),
        ("2", (3, 4)),
        ("3", (4, 5)),
    ]


def test_pieces_are_merged_as_sentencepiece_does(tmp_path):
    """A Llama-2 kind of vocabulary: scores instead of merges, bytes for what is in no piece."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    types = [2, 3, 3, *[6] * 256]
    normal = ["▁", "a", "b", "c", "ab", "bc", "▁a", "▁ab", "abc"]
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*pieces, *normal])
    writer.add_token_types([*types, *[1] * len(normal)])
    scores = {"bc": -1.0, "ab": -2.0, "▁a": -3.0, "▁ab": -4.0, "abc": -5.0}
    writer.add_token_scores([0.0] * 259 + [scores.get(piece, -100.0) for piece in normal])
    writer.add_bos_token_id(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    from hornbook.interop.gguf_tokenizer import tokenizer

    found = tokenizer(GGUFFile(tmp_path / "m.gguf"))
    spelled = [found.tokens[i] for i in found.encode(["abc abé </s>"])[0]]
    assert spelled == ["<s>", "▁a", "bc", "▁ab", "<0xC3>", "<0xA9>", "▁", "</s>"]
    as_text = found.encode(["</s>"], special=False, read_special=False)[0]
    assert 2 not in as_text and found.decode(as_text) == "</s>"


def test_a_token_of_the_user_is_no_control_token(tmp_path):
    tokenizer = byte_tokenizer()
    tokenizer.rust.add_tokens([AddedToken("[tool]", special=False, normalized=False)])
    path = tmp_path / "m.gguf"
    write_gguf(path, tiny("llama"), Tokenizer(tokenizer.rust), name="m")
    found = bundle.load(path).tokenizer
    assert found.control_ids.keys() == set(SPECIALS)
    assert found.encode(["a[tool]"]) == tokenizer.encode(["a[tool]"])
