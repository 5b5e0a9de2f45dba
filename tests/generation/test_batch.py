"""Many requests at once, against one model that reads everything anew."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch

from hornbook.errors import ConfigError
from hornbook.generation.batch import Batch
from hornbook.generation.constrain import json_schema
from hornbook.generation.reading import PlainReader, SlotReader, newest, reader
from hornbook.generation.request import Request, Sampling
from hornbook.models import bigram, ngram
from hornbook.models.counting import count
from hornbook.models.counting_gpt import CountingGPT, CountingGPTConfig
from hornbook.models.gpt import GPT, GPTConfig
from hornbook.models.llama import Llama, LlamaConfig
from hornbook.models.modern_gpt import ModernGPT, ModernGPTConfig
from hornbook.nn.cache import KeyValueCache
from hornbook.nn.layout import Ragged
from hornbook.text.train import train_tokenizer

TOKENIZER = train_tokenizer("bpe", lambda: ["a plain text, and some more of it. " * 20], 300)
V, CONTEXT = len(TOKENIZER.tokens), 48
SIZES = {"vocab_size": V, "context_length": CONTEXT, "n_layers": 2, "d_model": 32, "d_ff": 64}


def lively(model):
    """Weights large enough that texts are not the same token for ever."""
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def text(n: int, seed: int = 0) -> list[int]:
    return torch.randint(1, V, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


MODELS = {
    "llama": lambda: lively(Llama(LlamaConfig(**SIZES, n_heads=4, n_kv_heads=2))),
    "gpt": lambda: lively(GPT(GPTConfig(**SIZES, n_heads=2))),
    "modern": lambda: lively(ModernGPT(ModernGPTConfig(**SIZES, n_heads=2))),
    "bigram": lambda: bigram.from_counts(text(500), V),
    "ngram": lambda: ngram.fit(text(500), V, 3),
    "counting": lambda: CountingGPT(
        CountingGPTConfig(ModernGPTConfig(**SIZES, n_heads=2), (2, 3)),
        count(np.array(text(500)), V, max_order=3).counts,
    ),
}
WITH_CACHE = ["llama", "gpt", "modern"]


@pytest.fixture(scope="module", params=MODELS)
def speaker(request):
    torch.manual_seed(0)
    return SimpleNamespace(name=request.param, model=MODELS[request.param](), tokenizer=TOKENIZER)


@pytest.fixture(scope="module")
def llama():
    return SimpleNamespace(model=MODELS["llama"](), tokenizer=TOKENIZER)


def finish(batch: Batch, requests) -> list[list]:
    """The pieces of each request, in the order of the requests."""
    ids = [batch.add(request) for request in requests]
    pieces = {i: [] for i in ids}
    while batch.n_running or batch.n_waiting:
        for piece in batch.step():
            pieces[piece.request].append(piece)
    return [pieces[i] for i in ids]


def scored(pieces) -> list:
    return [scored for piece in pieces for scored in piece.tokens]


def ids(pieces) -> list[int]:
    return [scored.token for scored in scored(pieces)]


def shares(model, tokens) -> torch.Tensor:
    """Log-probabilities after each token, all read at once: (T, V)."""
    if isinstance(model, ngram.NGram):
        return reader(model).read([0], [tokens], [len(tokens)]).log_softmax(-1)
    with torch.inference_mode():
        hidden = model(torch.tensor(tokens), Ragged([len(tokens)]))
        return model.logits(hidden).log_softmax(-1)


GREEDY = Sampling(temperature=0)


def test_what_is_written_is_what_reading_everything_anew_would_write(speaker):
    prompts = [text(n, n) for n in (1, 7, 20)]
    requests = [Request(p, 10, GREEDY, n_logprobs=0) for p in prompts]
    for prompt, pieces in zip(prompts, finish(Batch(speaker, n_slots=2, chunk=8), requests)):
        tokens = prompt + ids(pieces)
        assert pieces[-1].finish == "length" and pieces[-1].n_generated == 10
        expected = shares(speaker.model, tokens[:-1])[len(prompt) - 1 :]
        assert expected.argmax(-1).tolist() == ids(pieces)
        best = expected.max(-1).values
        torch.testing.assert_close(
            torch.tensor([s.logprob for s in scored(pieces)]), best, atol=1e-4, rtol=1e-4
        )


def test_the_same_seed_writes_the_same_to_the_last_bit_whatever_is_beside_it(speaker):
    requests = [
        Request(text(3 + 7 * i, i), 15, Sampling(seed=i, top_p=0.95), n_logprobs=2)
        for i in range(5)
    ]
    alone = [finish(Batch(speaker, n_slots=3, chunk=8), [r])[0] for r in requests]
    for order in ([0, 1, 2, 3, 4], [4, 2, 0, 3, 1]):
        batch = Batch(speaker, n_slots=3, chunk=8)
        finish(batch, [Request(requests[3].prompt[:20], 3)])  # a prefix that could be shared
        together = finish(batch, [requests[i] for i in order])
        for i, pieces in zip(order, together):
            assert scored(pieces) == scored(alone[i])
    assert ids(alone[0]) != ids(
        finish(Batch(speaker), [replace(requests[0], sampling=Sampling(seed=9))])[0]
    )


@pytest.mark.parametrize("prompt_length", [CONTEXT - 2, CONTEXT + 20])
def test_past_the_context_it_slides_or_ends(speaker, prompt_length):
    request = Request(text(CONTEXT - 2), 30, GREEDY, n_logprobs=0)
    plain = finish(Batch(speaker, n_slots=2), [request])[0]
    if speaker.name in ("bigram", "ngram"):
        assert plain[-1].n_generated == 30  # they look back a token or two, and need no limit
        return
    assert plain[-1].finish == "length" and plain[-1].n_generated == 3
    request = replace(request, prompt=text(prompt_length), slide=True)
    window, written = list(request.prompt[-CONTEXT:]), []
    for _ in range(30):
        written.append(int(shares(speaker.model, window)[-1].argmax()))
        window = [*window, written[-1]]
        window = newest(window, CONTEXT) if len(window) > CONTEXT else window
    slid = finish(Batch(speaker, n_slots=2), [request])[0]
    assert ids(slid) == written


@pytest.mark.parametrize("seed", [None, 5])
def test_a_shared_beginning_is_read_once(llama, seed):
    batch = Batch(llama, n_slots=2, chunk=8)
    sampling = Sampling(temperature=0, seed=seed)
    beginning = text(20)
    first, second = (Request([*beginning, 5 + i], 6, sampling, n_logprobs=0) for i in range(2))
    one, two = finish(batch, [first, second])
    assert one[-1].n_cached == 0
    assert two[-1].n_cached == (20 if seed is None else 16)  # whole chunks, where bits matter
    fresh = finish(Batch(llama, n_slots=2, chunk=8), [second])[0]
    assert ids(two) == ids(fresh)
    if seed is not None:
        assert scored(two) == scored(fresh)
    # A conversation that goes on: what was written is not read again either.
    longer = Request([*second.prompt, *ids(two)[:-1], 9], 3, sampling)
    assert finish(batch, [longer])[0][-1].n_cached == (26 if seed is None else 16)


def test_what_was_read_in_other_pieces_is_not_taken_by_a_request_with_a_seed(llama):
    batch = Batch(llama, n_slots=2, chunk=8)
    (first,) = finish(batch, [Request(text(13), 8, GREEDY, n_logprobs=0)])
    longer = [*text(13), *ids(first)[:-1], *text(14, 1)]
    (other,) = finish(batch, [Request(longer, 1)])
    assert other[-1].n_cached == 20  # of these, 8 were read as one chunk
    seeded = Request([*longer, 3], 5, Sampling(seed=1), n_logprobs=1)
    (taken,) = finish(batch, [seeded])
    assert taken[-1].n_cached == 8
    assert scored(taken) == scored(finish(Batch(llama, n_slots=2, chunk=8), [seeded])[0])


def test_a_long_prompt_does_not_hold_up_the_others(llama):
    batch = Batch(llama, n_slots=2, chunk=8)
    quick = batch.add(Request(text(3), 40, Sampling(seed=0), n_logprobs=0))
    batch.step()
    slow = batch.add(Request(text(40, 1), 2, n_logprobs=0))
    told = []
    while slow not in told:
        pieces = [p.request for p in batch.step()]
        assert quick in pieces
        told += pieces
    assert told.count(quick) == 5  # of 40 tokens 8 a step


def test_short_prompts_are_read_together_and_others_one_a_step(llama):
    batch = Batch(llama, n_slots=4)
    short = [batch.add(Request(text(20, i), 2, n_logprobs=0)) for i in range(4)]
    told = {p.request for p in batch.step()}
    assert told == set(short[:3])  # 60 tokens; the fourth would be more than 64
    batch = Batch(llama, n_slots=4)
    long = [batch.add(Request(text(40, i), 8, n_logprobs=0)) for i in range(3)]
    firsts: list[int] = []
    while len(firsts) < 3:
        new = {p.request for p in batch.step()} - set(firsts)
        assert len(new) == 1
        firsts += new
    assert firsts == long


def test_a_cancelled_request_is_gone_with_the_next_step(llama):
    batch = Batch(llama, n_slots=1, chunk=8)
    kept = Request(text(5), 8, Sampling(seed=1), n_logprobs=0)
    running, waiting, last = batch.add(Request(text(4), 99)), batch.add(kept), batch.add(kept)
    batch.step()
    batch.cancel(waiting)
    batch.cancel(running)
    batch.cancel(12345)
    assert (batch.n_running, batch.n_waiting) == (0, 1)
    ended = {p.request: p.finish for p in batch.step() if p.finish}
    assert ended == {running: "cancelled", waiting: "cancelled"}
    pieces = []
    while batch.n_running:
        pieces += batch.step()
    assert {p.request for p in pieces} == {last}
    fresh = finish(Batch(llama, n_slots=1, chunk=8), [kept])[0]
    assert ids(pieces) == ids(fresh)[-len(ids(pieces)) :]


def test_stops_end_a_text_and_are_not_part_of_it(llama):
    request = Request(text(6), 30, Sampling(seed=3), n_logprobs=0)
    pieces = finish(Batch(llama), [request])[0]
    whole, tokens = "".join(p.text for p in pieces), ids(pieces)
    assert whole == TOKENIZER.decode(tokens)
    stop = whole[10:13]
    cut = finish(Batch(llama), [replace(request, stop_texts=(stop, "never there"))])[0]
    assert "".join(p.text for p in cut) == whole[: whole.index(stop)]
    assert cut[-1].finish == "stop"
    assert (
        finish(Batch(llama), [replace(request, stop_texts=("no such",))])[0][-1].finish == "length"
    )
    ended = finish(Batch(llama), [replace(request, stop_tokens=frozenset([tokens[4]]))])[0]
    assert ids(ended) == tokens[: tokens.index(tokens[4])]
    assert ended[-1].finish == "stop"


def test_prompt_logprobs_are_those_of_reading_it_at_once(speaker):
    prompt = text(21)
    batch = Batch(speaker, n_slots=2, chunk=8)
    finish(batch, [Request(prompt, 2)])
    request = Request(prompt, 0, prompt_logprobs=True, n_logprobs=2)
    (pieces,) = finish(batch, [request])
    (piece,) = pieces
    assert (piece.finish, piece.n_cached) == ("length", 0)
    assert [s.token for s in piece.tokens] == prompt
    assert math.isnan(piece.tokens[0].logprob)
    expected = shares(speaker.model, prompt)
    for i, told in enumerate(piece.tokens[1:], 1):
        assert told.logprob == pytest.approx(float(expected[i - 1, prompt[i]]), abs=1e-4)
        assert told.top[0][1] == pytest.approx(float(expected[i - 1].max()), abs=1e-4)
    (pieces,) = finish(batch, [replace(request, max_tokens=3)])
    assert len(scored(pieces)) == 24


def test_a_left_padded_batch_writes_what_its_texts_write_alone(llama):
    prompts = [text(n, n) for n in (2, 9, 5)]
    alone = [
        ids(p) for p in finish(Batch(llama), [Request(p, 8, GREEDY, n_logprobs=0) for p in prompts])
    ]
    cache = KeyValueCache()
    tokens = torch.tensor([[0] * (9 - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (9 - len(p)) + [True] * len(p) for p in prompts])
    written = []
    for _ in range(8):
        with torch.inference_mode():
            hidden = llama.model(tokens, cache.extend(mask))
            tokens = llama.model.logits(hidden[:, -1]).argmax(-1, keepdim=True)
        mask = torch.ones(3, 1, dtype=torch.bool)
        written.append(tokens)
    assert torch.cat(written, 1).tolist() == alone


def test_what_cannot_be_served_is_refused_before_it_waits(llama):
    batch = Batch(llama)
    for wrong in (
        Request([], 5),
        Request(text(CONTEXT + 1), 5),
        Request(text(CONTEXT + 1), 5, prompt_logprobs=True, slide=True),
        Request([V], 5),
        Request([-1], 5),
        Request([1], -1),
        Request([1], 5, stop_texts=("",)),
        Request([1], 5, Sampling(temperature=-1)),
        Request([1], 5, Sampling(logit_bias={V: 1.0})),
        Request([1], 5, n_logprobs=-1),
    ):
        with pytest.raises(ConfigError):
            batch.add(wrong)
    assert batch.n_waiting == 0
    with pytest.raises(ConfigError):
        Batch(llama, n_slots=0)


def test_slots_are_for_decoders_and_neighbours_change_no_bit():
    for name, make in MODELS.items():
        kind = SlotReader if name in WITH_CACHE else PlainReader
        assert isinstance(reader(make()), kind)
    source = reader(MODELS["llama"](), 4)
    source.read([1], [text(10)], [0])
    alone = source.read([1], [[3]], [1])
    for others in ([0], [0, 2, 3]):
        for slot in others:
            source.cut(slot, 0)
            source.read([slot], [text(5 * slot + 5)], [0])
        source.cut(1, 10)
        slots = sorted([1, *others])
        row = source.read(slots, [[3 if s == 1 else 7] for s in slots], [1] * len(slots))
        assert torch.equal(row[slots.index(1)], alone[0])


def test_if_reading_fails_nothing_was_read(llama, monkeypatch):
    source = reader(llama.model, 2)
    source.read([0], [text(4)], [0])
    source.read([0], [[1]], [1])
    monkeypatch.setattr(llama.model.norm, "forward", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        source.read([0], [[1]], [1])
    assert source.length(0) == 5


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "ü", '"q"']}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def test_a_value_without_an_end_of_its_own_ends_by_a_stop_token(llama):
    grammar = json_schema({"type": "integer"}, TOKENIZER)
    bias = {token: 50.0 for token in (7, 8)}
    request = Request(
        text(4), 20, Sampling(seed=1, logit_bias=bias), frozenset([7, 8]), grammar=grammar
    )
    (pieces,) = finish(Batch(llama), [request])
    assert pieces[-1].finish == "stop"
    assert json.loads("".join(p.text for p in pieces)) in range(-9, 10)  # one digit, then the stop


def test_json_of_a_schema_parses_and_validates_or_was_cut(llama):
    grammar = json_schema(SCHEMA, TOKENIZER)
    requests = [
        Request(text(4), 40, Sampling(seed=i, temperature=2.0), grammar=grammar, slide=True)
        for i in range(12)
    ] + [Request(text(4), n, Sampling(seed=n), grammar=grammar) for n in (1, 5)]
    ends = []
    for pieces in finish(Batch(llama), requests):
        written = "".join(p.text for p in pieces)
        ends.append(pieces[-1].finish)
        if pieces[-1].finish == "stop":
            jsonschema.validate(json.loads(written), SCHEMA)
        else:
            with pytest.raises(json.JSONDecodeError):
                json.loads(written)
    assert "stop" in ends[:12] and ends[12:] == ["length", "length"]
